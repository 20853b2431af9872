"""``gramcli extract``: its options and output; `gramcli.extraction` does the work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from gramcli.cli.options import Condition, Given, OverrideMetadata, Panel, example, takes
from gramcli.cli.render import Bar, duration, output_format, print_stderr, rows, size
from gramcli.errors import Exit, ResourceError, UsageError
from gramcli.text import shown

if TYPE_CHECKING:
    from gramcli.extraction.dry_run import Forecast
    from gramcli.settings.schema import Settings


def register(app: typer.Typer) -> None:
    """Adds the command."""
    examples = example(
        "gramcli extract clips.csv --weights net.safetensors",
        "gramcli extract clips.csv --network resnet18 --weights net.pt --classes cat,dog,owl --seconds 4",
    )
    app.command("extract", epilog=examples, rich_help_panel=Panel.BUILD)(extract_cmd)


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
    builds_network=True,
)
def extract_cmd(
    given: Given,
    manifest: Annotated[
        str | None, typer.Argument(help="Folder, CSV/TSV/JSONL file or DCASE folder that lists the clips.")
    ] = None,
    override_metadata: OverrideMetadata = False,
    condition: Condition = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Retry clips that failed in an earlier run.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only say how much there is to do, and the disk, memory and time it needs; write nothing."
        ),
    ] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Print how long each step took.")] = False,
) -> None:
    """Run the network on every clip and keep each layer's descriptor.

    Run it again after an interruption, or when clips were added: only missing clips are computed. Without arguments it
    repeats the earlier extract of this cache.
    """
    from gramcli.audio.condition import parse
    from gramcli.cache import inventory
    from gramcli.cache.clip_table import require
    from gramcli.cache.view import View
    from gramcli.dataset.clip import UNKNOWN
    from gramcli.extraction.conditions import extract_conditions
    from gramcli.extraction.dry_run import forecast
    from gramcli.extraction.extract import extract
    from gramcli.extraction.reopen import code_origin, require_network
    from gramcli.network import checkpoint
    from gramcli.settings.configure import configure, names_extract, require_recorded_inside

    if dry_run and (condition or retry_failed or profile):
        raise UsageError("--dry-run goes without --condition, --retry-failed and --profile; leave these out")
    given.put("data", "manifest", manifest)
    conditions = [parse(text) for text in condition or ()]  # before the network is built
    cache = given.cache  # refused if it is a link that the user has not named
    with Bar(quiet=given.quiet) as bar:
        context, earlier, origin = given.context(bar), None, "earlier extract"
        if not names_extract(context) and inventory.holds(cache, cache / "views"):
            view = View.open(cache)
            require_network(view)
            earlier, origin = view.recorded["settings"], code_origin(view).name
            require_recorded_inside(earlier, origin, cache.absolute().parent, context)
            context = replace(context, folder=code_origin(view).folder or context.folder)
        settings = configure(
            context,
            earlier=earlier,
            origin=origin,
            metadata=checkpoint.settings_of_file,
            override_metadata=override_metadata,
        )
        given.note_settings(bar, settings)
        if dry_run:
            _print_forecast(forecast(settings, context), settings)
            return
        done = extract(settings, context, profile=profile, retry_failed=retry_failed)
        if conditions:  # bounds come from unchanged training clips
            used = require(cache).used("validation", "test", UNKNOWN)
            extract_conditions(cache, conditions, used, context)
    if not given.quiet:
        print_stderr(
            "done",
            f"{done.clips} clips in {done.shards} shards of {settings.cache.dir}: {done.forwarded} computed, "
            f"{done.reused} already there, {done.failed} failed, "
            f"{done.seconds:.1f} s",
        )
    if done.profile is not None:
        _print_profile(done.profile, done.forwarded, settings.run.decoders)
    if done.failed:
        print_stderr("error", f"{done.failed} of {done.clips} clips failed; {settings.cache.dir}/failures.csv says why")
        raise typer.Exit(Exit.PARTIAL)


def _print_forecast(found: Forecast, settings: Settings) -> None:
    """Prints what an extract would do and need.

    Raises:
        ResourceError: The disk has no room for it.
    """
    measured = f" (measured on {found.tried} clips)" if found.tried else ""
    lines = {
        "clips": found.clips,
        "there already": found.there,
        "cannot be read": found.unreadable,
        "to compute": found.todo,
        "disk": f"{size(found.bytes)} of {size(found.free)} that are free",
        "memory": f"about {size(found.memory)}, and {settings.run.decoders} decoders",
        "time": f"about {duration(found.seconds)}{measured}",
    }
    rows(
        ["what", "value"], [{"what": what, "value": value} for what, value in lines.items()], output_format(None, False)
    )
    if not found.fits:
        raise ResourceError(
            f"{shown(settings.cache.dir)}: {found.todo} clips to compute need about {size(found.bytes)}, and "
            f"{size(found.free)} are free; free some space, or choose another --cache"
        )


def _print_profile(profile: Mapping[str, Mapping[str, float]], clips: int, decoders: int) -> None:
    """Prints the steps of this process and of the decoders, the longest first."""
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
    rows(["where", "step", "seconds", "ms a clip", "share"], found, output_format(None, False))
