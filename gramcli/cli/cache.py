"""``gramcli cache``: describe, check, repair and clean up a cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from gramcli.cli import render
from gramcli.cli.options import Given, example, takes
from gramcli.cli.render import Bar
from gramcli.errors import ArtefactError, DamagedError
from gramcli.text import shown

app = typer.Typer(
    help="Describe, check, repair and clean up a cache.",
    epilog=example("gramcli cache info", "gramcli cache verify --full"),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command("info", epilog=example("gramcli cache info"))
@takes("cache.dir")
def info_cmd(given: Given, as_json: Json = False) -> None:
    """Show what a cache holds, and whether it is calibrated."""
    from gramcli.maintenance.info import info

    found = info(given.cache)
    if as_json:
        render.print_json({"format": render.SCHEMA_VERSION, **found})
        return
    rows = [{"what": name, "value": _text(name, value)} for name, value in found.items()]
    render.table(["what", "value"], rows)


def _text(name: str, value: Any) -> str:
    if name == "bytes":
        return render.size(value)
    return ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, dict) else str(value)


@app.command("verify", epilog=example("gramcli cache verify --full", "gramcli cache verify --repair"))
@takes("network.name", "network.weights", "cache.dir", "run", builds_network=True)
def verify_cmd(
    given: Given,
    full: Annotated[
        bool, typer.Option("--full", help="Also check the numbers, and whether audio files have changed.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Move damaged files into the cache's quarantine folder, and compute their clips again."
        ),
    ] = False,
    count: Annotated[
        int | None,
        typer.Option("--replay", metavar="N", min=1, help="Also compute N clips again, and print the difference."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check every file of a cache for damage, and repair it with --repair."""
    from gramcli.maintenance.audio_files import check_audio
    from gramcli.maintenance.repair import repair as repair_cache
    from gramcli.maintenance.reproduce import reproduce
    from gramcli.maintenance.verify import verify
    from gramcli.settings.configure import configure

    found: dict[str, Any] = {"format": render.SCHEMA_VERSION}
    with Bar(quiet=given.quiet) as bar:
        if repair:
            repaired = repair_cache(given.cache, given.context(bar), full=full)
            found["moved"] = {str(path): str(there) for path, there in repaired.moved.items()}
            found |= {"computed": repaired.computed, "advice": list(repaired.advice)}
            if not repaired.complete:
                raise ArtefactError(
                    f"{given.cache}: run the gramcli extract that made it again, which computes what is missing; "
                    f"{len(repaired.moved)} damaged files are in its quarantine folder"
                )
        result = verify(given.cache, full=full, progress=bar)
        found |= {"files": result.files, "damaged": list(result.damaged), "unfinished": result.unfinished}
        if full and not result.damaged:
            settings = configure(given.context(bar))
            audio = check_audio(given.cache, settings.run.decoders, progress=bar)
            found |= {"audio": audio.files, "changed": list(audio.changed), "gone": dict(audio.gone)}
        if count is not None and not result.damaged:
            replayed = reproduce(given.cache, count, given.context(bar))
            found["replayed"] = {**vars(replayed), "fits": replayed.fits}
    if as_json:
        render.print_json(found)
    else:
        _print(found)
    for line in found["damaged"]:
        render.print_stderr("damaged", line)
    if found["damaged"]:
        raise DamagedError(
            f"{given.cache}: {len(found['damaged'])} of {result.files} files are damaged or do not fit; "
            "gramcli cache verify --repair moves them into quarantine and computes their clips again"
        )
    for path in found.get("changed", ()):
        render.print_stderr("changed", f"{shown(path)}: has changed since it was extracted")
    if found.get("changed"):
        raise ArtefactError(
            f"{given.cache}: {len(found['changed'])} audio files have changed since they were extracted; restore "
            "them, or touch them and run gramcli extract, which computes them again"
        )
    if "replayed" in found and not found["replayed"]["fits"]:
        raise ArtefactError(
            f"{given.cache}: clips computed on this machine differ by more than "
            f"{found['replayed']['tolerance']:g} from those of the cache; do not add clips to it here: extract into "
            "another --cache"
        )


def _print(found: Mapping[str, Any]) -> None:
    """Prints the outcome of verify, line by line."""
    for path, there in found.get("moved", {}).items():
        render.print_text(f"{shown(path)}: moved to {shown(there)}")
    if found.get("moved"):
        render.print_text(f"{found['computed']} clips computed again")
    for line in found.get("advice", ()):
        render.print_text(line)
    if not found["damaged"]:
        render.print_text(f"{found['files']} files, none damaged")
    if found["unfinished"]:
        render.print_text(f"{found['unfinished']} clips are not extracted yet; run gramcli extract again")
    if found.get("audio"):
        same = found["audio"] - len(found["changed"]) - len(found["gone"])
        render.print_text(
            f"{same} of {found['audio']} audio files are unchanged, {len(found['changed'])} have changed, "
            f"{len(found['gone'])} cannot be read"
        )
    if "replayed" in found:
        one = found["replayed"]
        render.print_text(
            f"{one['clips']} clips computed again: {one['identical']} identical; largest difference of a descriptor "
            f"{one['difference']:.2g} ({one['where']}), of a logit {one['logits']:.2g}"
        )
        if one["versions"]:
            render.print_text(f"versions that have changed since the cache was made: {', '.join(one['versions'])}")


@app.command("clean", epilog=example("gramcli cache clean --yes"))
@takes("cache.dir")
def clean_cmd(
    given: Given,
    yes: Annotated[bool, typer.Option("--yes", help="Delete the files; without --yes they are only listed.")] = False,
    unlisted: Annotated[
        bool, typer.Option("--unlisted", help="Include shards whose clips are all no longer in the manifest.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List files that are no longer needed, and delete them with --yes."""
    from gramcli.maintenance.clean import clean, leftovers

    found = clean(given.cache, unlisted=unlisted) if yes else leftovers(given.cache, unlisted=unlisted)
    rows = [{"file": str(one.path), "bytes": one.bytes, "why": one.why} for one in found]
    if as_json:
        render.print_json({"format": render.SCHEMA_VERSION, "deleted": yes, "files": rows})
        return
    if rows:
        render.table(["file", "bytes", "why"], rows, shrink="file")
    total = render.size(sum(one.bytes for one in found))
    done = "deleted" if yes else "--yes deletes them"
    render.print_text(f"{len(found)} files, {total}: {done}" if found else "no file can be deleted")
