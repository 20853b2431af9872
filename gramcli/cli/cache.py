"""``gramcli cache``: look at a cache, and check it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from gramcli.cli import render
from gramcli.cli.options import Given, takes
from gramcli.cli.render import Bar
from gramcli.errors import ArtefactError, DamagedError
from gramcli.text import shown

app = typer.Typer(help="Look at a cache, and check it.", no_args_is_help=True, pretty_exceptions_enable=False)

Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]


@app.command("info")
@takes("cache.dir")
def info_cmd(given: Given, as_json: Json = False) -> None:
    """Say what a cache holds and which stages have run."""
    from gramcli.maintenance.info import info

    found = info(given.cache)
    if as_json:
        render.document({"format": render.FORMAT, **found})
        return
    rows = [{"what": name, "value": _words(name, value)} for name, value in found.items()]
    render.rows(["what", "value"], rows, render.Format.table)


def _words(name: str, value: Any) -> str:
    if name == "bytes":
        return render.size(value)
    return ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, dict) else str(value)


@app.command("verify")
@takes("cache.dir", "run")
def verify_cmd(
    given: Given,
    full: Annotated[
        bool, typer.Option("--full", help="Also look at every number, and compare the audio files with their digests.")
    ] = False,
    mend: Annotated[
        bool,
        typer.Option(
            "--repair", help="Move damaged files into the cache's quarantine, and compute again what they held."
        ),
    ] = False,
    count: Annotated[
        int | None,
        typer.Option("--replay", metavar="N", min=1, help="Also compute N clips again, and state the difference."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Read every file of a cache and compare it with the digest it carries; nothing is changed but by --repair."""
    from gramcli.maintenance.audio_files import check_audio
    from gramcli.maintenance.repair import repair
    from gramcli.maintenance.reproduce import reproduce
    from gramcli.maintenance.verify import verify
    from gramcli.settings.configure import configure

    found: dict[str, Any] = {"format": render.FORMAT}
    with Bar(quiet=given.quiet) as bar:
        if mend:
            mended = repair(given.cache, full=full, flags=given.flags, config=given.config, progress=bar)
            found["moved"] = {str(path): str(there) for path, there in mended.moved.items()}
            found |= {"computed": mended.computed, "advice": list(mended.advice)}
            if not mended.whole:
                raise ArtefactError(
                    f"{given.cache}: run the gramcli extract again that made it, which derives and computes what is "
                    f"missing; {len(mended.moved)} damaged files are in its quarantine"
                )
        result = verify(given.cache, full=full, progress=bar)
        found |= {"files": result.files, "damaged": list(result.damaged), "unfinished": result.unfinished}
        if full and not result.damaged:
            settings = configure(given.flags, config=given.config, weights=False)
            heard = check_audio(given.cache, settings.run.decoders, progress=bar)
            found |= {"audio": heard.files, "changed": list(heard.changed), "gone": dict(heard.gone)}
        if count is not None and not result.damaged:
            again = reproduce(given.cache, count, flags=given.flags, config=given.config, progress=bar)
            found["replayed"] = {**vars(again), "fits": again.fits}
    if as_json:
        render.document(found)
    else:
        _say(found)
    for line in found["damaged"]:
        render.complain("damaged", line)
    if found["damaged"]:
        raise DamagedError(
            f"{given.cache}: {len(found['damaged'])} of {result.files} files are damaged or do not fit; "
            "gramcli cache verify --repair moves them away and computes again what they held"
        )
    for path in found.get("changed", ()):
        render.complain("changed", f"{shown(path)}: is no longer the file that was extracted")
    if found.get("changed"):
        raise ArtefactError(
            f"{given.cache}: {len(found['changed'])} audio files have changed; restore them, or touch them and run "
            "gramcli extract, which computes them anew"
        )
    if "replayed" in found and not found["replayed"]["fits"]:
        raise ArtefactError(
            f"{given.cache}: clips computed here differ by more than {found['replayed']['tolerance']:g}; do not mix "
            "them with those of the cache: extract into another --cache"
        )


def _say(found: Mapping[str, Any]) -> None:
    """Prints what was found, a line each."""
    for path, there in found.get("moved", {}).items():
        render.say(f"{shown(path)}: moved to {shown(there)}")
    if found.get("moved"):
        render.say(f"{found['computed']} clips computed again")
    for line in found.get("advice", ()):
        render.say(line)
    if not found["damaged"]:
        render.say(f"{found['files']} files, all whole")
    if found["unfinished"]:
        render.say(f"{found['unfinished']} clips are not extracted yet; gramcli extract goes on with them")
    if "audio" in found:
        same = found["audio"] - len(found["changed"]) - len(found["gone"])
        render.say(f"{same} of {found['audio']} audio files are those that were extracted, {len(found['gone'])} gone")
    if "replayed" in found:
        one = found["replayed"]
        render.say(
            f"{one['clips']} clips computed again: {one['identical']} to the bit; |Δg̃| at most "
            f"{one['difference']:.2g} ({one['where']}), logits {one['logits']:.2g}"
        )
        if one["versions"]:
            render.say(f"other versions than then: {', '.join(one['versions'])}")


@app.command("clean")
@takes("cache.dir")
def clean_cmd(
    given: Given,
    yes: Annotated[bool, typer.Option("--yes", help="Delete them; without it they are only listed.")] = False,
    unlisted: Annotated[
        bool, typer.Option("--unlisted", help="Also shards whose clips have all left the manifest.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List what a cache holds that nothing reads any more, and delete it with --yes."""
    from gramcli.maintenance.clean import clean, leftovers

    found = clean(given.cache, unlisted=unlisted) if yes else leftovers(given.cache, unlisted=unlisted)
    rows = [{"file": str(one.path), "bytes": one.bytes, "why": one.why} for one in found]
    if as_json:
        render.document({"format": render.FORMAT, "deleted": yes, "files": rows})
        return
    if rows:
        render.rows(["file", "bytes", "why"], rows, render.Format.table, shrink="file")
    total = render.size(sum(one.bytes for one in found))
    done = "deleted" if yes else "--yes deletes them"
    render.say(f"{len(found)} files, {total}: {done}" if found else "nothing that could go")
