"""``gramcli extract``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gramcli.cli.options import Condition, Given, OverrideMetadata, takes
from gramcli.cli.render import Bar, chosen, complain, duration, rows, size
from gramcli.errors import Exit, ResourceError, UsageError
from gramcli.text import shown

if TYPE_CHECKING:
    from gramcli.extraction.dry_run import Forecast
    from gramcli.settings.schema import Settings


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("extract")(extract_cmd)


@takes(
    "data.audio_root",
    "data.allow_outside",
    "data.validation_fold",
    "data.test_fold",
    "data.hold_out",
    "data.max_seconds",
    "data.allow_truncated",
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
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try clips once more that failed in an earlier run.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Say what there is to do, and what it takes of disk, memory and time; write nothing."
        ),
    ] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Print where the time went, step by step.")] = False,
) -> None:
    """Send every clip through the network once and keep each layer's descriptor.

    Run it again after an interruption or when the manifest has grown: only what is missing is computed. Without
    arguments it repeats the earlier extract of this cache.
    """
    from gramcli.audio.condition import parse
    from gramcli.cache.clip_table import require
    from gramcli.cache.view import View
    from gramcli.dataset.clip import UNKNOWN
    from gramcli.extraction.conditions import extract_conditions
    from gramcli.extraction.dry_run import forecast
    from gramcli.extraction.extract import extract
    from gramcli.settings.configure import configure, home, says_what_to_extract

    if dry_run and (condition or retry_failed or profile):
        raise UsageError("--dry-run tells of a plain extract; leave out --condition, --retry-failed and --profile")
    given.put("data", "manifest", manifest)
    conditions = [parse(text) for text in condition or ()]  # a slip costs no wait
    remembered, folder = None, home(given.config)
    if not says_what_to_extract(given.flags, given.config) and (given.cache / "views").is_dir():
        recorded = View.open(given.cache).recorded
        remembered, folder = recorded["settings"], Path(recorded["folder"])
    settings = configure(given.flags, config=given.config, remembered=remembered, override_metadata=override_metadata)
    with Bar(quiet=given.quiet) as bar:
        given.tell(bar, settings)
        if dry_run:
            _print_forecast(forecast(settings, folder=folder, progress=bar), settings)
            return
        done = extract(settings, folder=folder, progress=bar, profile=profile, retry_failed=retry_failed)
        if conditions:  # training clips set the bounds as they are
            heard = require(given.cache).used("validation", "test", UNKNOWN)
            extract_conditions(given.cache, conditions, heard, flags=given.flags, config=given.config, progress=bar)
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


def _print_forecast(found: Forecast, settings: Settings) -> None:
    """Prints what an extract would take.

    Raises:
        ResourceError: The disk has no room for it.
    """
    measured = f" (measured on {found.tried} clips)" if found.tried else ""
    told = {
        "clips": found.clips,
        "there already": found.there,
        "cannot be read": found.unreadable,
        "to compute": found.todo,
        "disk": f"{size(found.bytes)} of {size(found.free)} that are free",
        "memory": f"about {size(found.memory)}, and {settings.run.decoders} decoders",
        "time": f"about {duration(found.seconds)}{measured}",
    }
    rows(["what", "value"], [{"what": what, "value": value} for what, value in told.items()], chosen(None, False))
    if not found.fits:
        raise ResourceError(
            f"{shown(settings.cache.dir)}: the disk has {size(found.free)}, and {size(found.bytes)} are needed; free "
            "some space, or use another --cache"
        )


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
