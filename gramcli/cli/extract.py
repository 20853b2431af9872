"""``gramcli extract``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from gramcli.cli.options import Condition, Given, OverrideMetadata, takes
from gramcli.cli.render import Bar, chosen, complain, rows
from gramcli.errors import Exit


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("extract")(extract_cmd)


@takes(
    "data.audio_root",
    "data.validation_fold",
    "data.test_fold",
    "data.hold_out",
    "data.seed",
    "segment",
    "frontend",
    "network",
    "run",
    "cache",
)
def extract_cmd(
    given: Given,
    manifest: Annotated[
        str | None, typer.Argument(help="Folder, CSV/TSV/JSONL file or DCASE folder that lists the clips.")
    ] = None,
    override_metadata: OverrideMetadata = False,
    condition: Condition = None,
    profile: Annotated[bool, typer.Option("--profile", help="Print where the time went, step by step.")] = False,
) -> None:
    """Send every clip through the network once and keep each layer's descriptor.

    Run it again after an interruption or when the manifest has grown: only what is missing is computed. Without
    arguments it repeats the earlier extract of this cache.
    """
    from gramcli.audio.condition import parse
    from gramcli.cache.clips import UNKNOWN, require
    from gramcli.cache.view import View
    from gramcli.stages.altered import altered
    from gramcli.stages.configure import configure, home, says_what_to_extract
    from gramcli.stages.extract import extract

    given.put("data", "manifest", manifest)
    conditions = [parse(text) for text in condition or ()]  # a slip costs no wait
    remembered, folder = None, home(given.config)
    if not says_what_to_extract(given.flags, given.config) and (given.cache / "views").is_dir():
        recorded = View.open(given.cache).recorded
        remembered, folder = recorded["settings"], Path(recorded["folder"])
    settings = configure(given.flags, config=given.config, remembered=remembered, override_metadata=override_metadata)
    with Bar(quiet=given.quiet) as bar:
        given.tell(bar, settings)
        done = extract(settings, folder=folder, progress=bar, profile=profile)
        if conditions:  # training clips set the bounds as they are
            heard = require(given.cache).used("validation", "test", UNKNOWN)
            altered(given.cache, conditions, heard, flags=given.flags, config=given.config, progress=bar)
    if not given.quiet:
        complain(
            "done",
            f"{done.clips} clips in {done.shards} shards of {settings.cache.dir}: {done.forwarded} computed, "
            f"{done.reused} were there, {done.failed} failed, "
            f"{done.seconds:.1f} s",
        )
    if done.profile is not None:
        _print_profile(done.profile, done.forwarded, settings.run.decoders)
    if done.failed:
        complain("error", f"{done.failed} of {done.clips} clips cannot be used; see {settings.cache.dir}/failures.csv")
        raise typer.Exit(Exit.PARTIAL)


def _print_profile(profile: Mapping[str, Mapping[str, float]], clips: int, decoders: int) -> None:
    """Prints the steps of both parts, the longest first."""
    part = {"here": "this process", "decoders": f"{decoders} decoders, meanwhile"}
    whole = sum(profile["here"].values())
    found = [
        {
            "where": part[where],
            "step": step,
            "seconds": seconds,
            "ms a clip": 1000 * seconds / clips if clips else None,
            "share": f"{seconds / whole:.0%}",
        }
        for where in part
        for step, seconds in sorted(profile[where].items(), key=lambda item: -item[1])
    ]
    rows(["where", "step", "seconds", "ms a clip", "share"], found, chosen(None, False))
