"""Decodes new recordings window by window and runs the network on them, in bounded memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt

from gramcli.audio.decoder_pool import Decoded, Decoders
from gramcli.audio.reader import stack
from gramcli.audio.requests import requests
from gramcli.audio.windows import windows
from gramcli.errors import AudioError
from gramcli.network.prepare import PreparedNetwork
from gramcli.settings.schema import Settings

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class WindowRef:
    """One window of a recording."""

    path: str
    start: float | None = None
    """In seconds, as the decoder is asked for it; None for the whole file."""
    end: float | None = None
    begin: float | None = None
    """In seconds, as it is reported; `stop` likewise."""
    stop: float | None = None
    error: str = ""
    file_digest: str = ""
    """SHA-256 of the recording when its windows were cut, with its size and time of change."""
    bytes: int = 0
    mtime_ns: int = 0


@dataclass(frozen=True, eq=False)
class WindowBatch:
    """A batch of windows, in order of files and time."""

    parts: tuple[WindowRef, ...]
    errors: Mapping[int, str]
    """Why a window cannot be used, by its index in `parts`."""
    sound: tuple[int, ...]
    """Indices of the S windows that can be used."""
    samples: tuple[Array, ...]
    """Samples of each of these as decoded, neither cut nor padded."""
    descriptors: Mapping[str, Array]
    """ĝ of these by layer, (S, K_l) each; empty if S is 0."""
    logits: Array | None
    """(S, O); None if S is 0."""


def score_windows(paths: Sequence[str], settings: Settings, ready: PreparedNetwork) -> Iterator[WindowBatch]:
    """Yields all windows of some files in batches; memory does not grow with the number of files.

    Args:
        paths: The files.
        settings: Windows, front end, batch and decoders.
        ready: The network.
    """
    with Decoders.of(settings) as decoders:
        ahead, behind = itertools.tee(_parts(paths, decoders, settings.segment.seconds))
        decoded = decoders.decode(requests((part for part in ahead if not part.error), settings))
        # no window of an unreadable file is requested from the decoders
        pending = ((part, Decoded(None, part.error) if part.error else next(decoded)) for part in behind)
        while batch := list(itertools.islice(pending, settings.run.batch)):
            yield _score(batch, settings, ready)


def _score(batch: Sequence[tuple[WindowRef, Decoded]], settings: Settings, ready: PreparedNetwork) -> WindowBatch:
    parts = tuple(part for part, _ in batch)
    errors = {n: one.error for n, (_, one) in enumerate(batch) if one.samples is None}
    decoded = [(n, one.samples) for n, (_, one) in enumerate(batch) if one.samples is not None]
    if not decoded:
        return WindowBatch(parts, errors, (), (), {}, None)
    found = ready.scorer.score(stack([samples for _, samples in decoded], ready.samples, settings.segment.pad))
    errors |= {n: error for (n, _), error in zip(decoded, found.errors, strict=True) if error}
    usable = [index for index, error in enumerate(found.errors) if not error]
    return WindowBatch(
        parts,
        errors,
        tuple(decoded[index][0] for index in usable),
        tuple(decoded[index][1] for index in usable),
        {layer: values[usable] for layer, values in found.descriptors.items()},
        found.logits[usable],
    )


def _parts(paths: Sequence[str], decoders: Decoders, seconds: float) -> Iterator[WindowRef]:
    """Yields the windows of each file in order of time."""
    for path, probe in zip(paths, decoders.probe(paths), strict=True):
        if isinstance(probe, AudioError):
            yield WindowRef(path, error=str(probe))
            continue
        whole = WindowRef(path, file_digest=probe.digest, bytes=probe.bytes, mtime_ns=probe.mtime_ns)
        for part in windows(probe.duration, None, None, seconds):
            if part is None:
                yield replace(whole, begin=0.0, stop=min(probe.duration, seconds))
            else:
                yield replace(whole, start=part[0], end=part[1], begin=part[0], stop=part[1])
