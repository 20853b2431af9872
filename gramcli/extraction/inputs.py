"""Reads the inputs of an extract: the rows of the manifest and the network, before any audio is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gramcli.audio.decoder_process import start_ahead
from gramcli.cache import completion, foreign_files, inventory
from gramcli.cache.completion import Completion
from gramcli.cache.view import CLEAN, View
from gramcli.dataset import manifest as manifests
from gramcli.dataset.clip import UNKNOWN
from gramcli.errors import ArtefactError, NoInputError
from gramcli.extraction import windows
from gramcli.network.permission import permit
from gramcli.network.prepare import PreparedNetwork, check_held_out, prepare
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import Settings
from gramcli.system import folder_lock
from gramcli.system.profiler import NoStopwatch, Stopwatch
from gramcli.text import natural_sorted, shown


@dataclass(frozen=True)
class ExtractInputs:
    """Manifest and network of an extract."""

    source: str
    """See `windows.manifest_digest`; empty for a folder."""
    before: Completion | None
    """What an earlier extract finished, if nothing has changed since; the manifest is not read then."""
    listed: Sequence[manifests.Row]
    """Rows of the manifest that are in a split."""
    notes: tuple[str, ...]
    """Notes on the manifest."""
    labels: tuple[str, ...]
    """Labels of the manifest, in natural order."""
    ready: PreparedNetwork


def read_inputs(settings: Settings, context: RunContext, stopwatch: Stopwatch | None = None) -> ExtractInputs:
    """Reads the manifest and builds the network.

    Args:
        settings: Complete settings; ``data.manifest`` and ``network.name`` must be given.
        context: Progress, which is told of notes, the folder of a network's factory, and whether its code is trusted.
        stopwatch: Times the two steps.

    Raises:
        UsageError: Settings or manifest contradict themselves, or files of other programs would be replaced.
        NoInputError: No row is in a split.
        ArtefactError: Weights do not fit, or a label is none of the network's classes.
        ResourceError: The device is missing.
        LockedError: Another process writes to the cache.
        UnsafeError: A file names code or arguments that the user has not named or trusted.
    """
    progress, stopwatch = context.progress, stopwatch or NoStopwatch()
    check_held_out(settings)
    cache = Path(settings.cache.dir)
    inventory.require_expected_kinds(cache)
    foreign_files.require_none(cache)
    folder_lock.require_free(cache)  # before the network is built, which takes seconds
    with stopwatch.step("manifest"):
        stamp = _manifest_stamp(settings)
        source = windows.manifest_digest(settings)
        before = completion.read(cache, source, present_shards(cache))
        listed, notes = ([], list(before.notes)) if before else _listed(settings)
        if _manifest_stamp(settings) != stamp:  # then `source` may be the digest of other rows
            raise NoInputError(
                f"{shown(settings.data.manifest)}: changed while it was read; run the same command again"
            )
    for note in notes:
        progress.note(note)
    listed_labels = {row.label for row in listed if row.label and row.split != UNKNOWN}
    labels = before.labels if before else tuple(natural_sorted(listed_labels))
    if settings.network.head == "map":
        _check_labels(listed, settings.network.classes)
        if not settings.network.classes:
            progress.note(
                "network.classes is not given: the network's outputs are assumed to be, in this order, "
                f"{', '.join(labels)}; if that order is wrong, give --classes"
            )
    weighted = settings.network.weights is not None
    permit(  # before decoders start
        settings.network, context, weights_follow=weighted, stated_settings=settings.stated
    )
    if before is None:
        start_ahead(settings.run.decoders)
    with stopwatch.step("network"):
        ready = prepare(settings, labels, context)
    ready.scorer.time_with(stopwatch)
    ready.scorer.note = progress.note
    if settings.network.weights is None:
        progress.note(
            "no --weights given: the network keeps the weights that its constructor gives it, which are usually random"
        )
    progress.note(f"{ready.built.architecture}: {len(ready.identity['layers'])} layers, on {ready.device}")
    return ExtractInputs(source, before, listed, tuple(notes), labels, ready)


def present_shards(cache: Path) -> set[int]:
    """Returns the numbers of the shards of a cache, which need not exist yet."""
    return View(cache / "views" / CLEAN, {}, {}).present()


def _manifest_stamp(settings: Settings) -> tuple[int, ...]:
    """Returns attributes of a manifest that change when its content changes; () for a folder."""
    manifest = Path(settings.data.manifest or "")
    if not manifest.is_file():
        return ()
    about = manifest.stat()
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _listed(settings: Settings) -> tuple[list[manifests.Row], list[str]]:
    """Returns the rows of the manifest that are in a split, and notes on it."""
    manifest = manifests.read(settings.data)
    listed = [row for row in manifest.rows if row.split]
    if not listed:
        raise NoInputError(f"{shown(settings.data.manifest)}: no row belongs to a split; add labels or a split column")
    return listed, list(manifest.notes)


def _check_labels(rows: Sequence[manifests.Row], classes: Sequence[str]) -> None:
    allowed = set(classes)
    for row in rows:
        if classes and row.label and row.split != UNKNOWN and row.label not in allowed:
            raise ArtefactError(
                f"{shown(row.origin)}: label {shown(row.label)} is none of the network's {len(classes)} classes "
                f"({shown(', '.join(classes[:5]))}, ...); correct the manifest or --classes, hold the label out with "
                "--hold-out, or use --head none"
            )
