"""New recordings, window by window, through decoding and the network."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from gramcli.audio.windows import windows
from gramcli.audio.workers import Decoded, Decoders
from gramcli.errors import AudioError
from gramcli.settings import Settings
from gramcli.stages.prepare import Prepared, fit, requests

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Part:
    """One window of a recording."""

    path: str
    start: float | None = None
    """As asked of the decoder; None for the whole file."""
    end: float | None = None
    begin: float | None = None
    """As shown to people."""
    stop: float | None = None
    error: str = ""


@dataclass(frozen=True, eq=False)
class Batch:
    """Some windows, in order of files and time."""

    parts: tuple[Part, ...]
    errors: Mapping[int, str]
    """Why a window cannot be used, by its place in `parts`."""
    sound: tuple[int, ...]
    """Places of the windows that can, S of them."""
    samples: tuple[Array, ...]
    """Of each of these, as decoded: not yet cut or padded."""
    descriptors: Mapping[str, Array]
    """ĝ of these by layer, (S, K_l) each; empty without any."""
    logits: Array | None
    """(S, O); None without any."""


def scored(paths: Sequence[str], settings: Settings, ready: Prepared) -> Iterator[Batch]:
    """Yields all windows of some files in batches; memory does not grow with them.

    Args:
        paths: The files.
        settings: Windows, front end, batch and decoders.
        ready: The network.
    """
    with Decoders.of(settings) as decoders:
        ahead, behind = itertools.tee(_parts(paths, decoders, settings.segment.seconds))
        decoded = decoders.decode(requests((part for part in ahead if not part.error), settings))
        # a part that cannot be read has no place in the stream of decoded ones
        pending = ((part, Decoded(None, part.error) if part.error else next(decoded)) for part in behind)
        while batch := list(itertools.islice(pending, settings.run.batch)):
            yield _score(batch, settings, ready)


def _score(batch: Sequence[tuple[Part, Decoded]], settings: Settings, ready: Prepared) -> Batch:
    parts = tuple(part for part, _ in batch)
    errors = {n: one.error for n, (_, one) in enumerate(batch) if one.samples is None}
    decoded = [(n, one.samples) for n, (_, one) in enumerate(batch) if one.samples is not None]
    if not decoded:
        return Batch(parts, errors, (), (), {}, None)
    found = ready.scorer.score(fit([samples for _, samples in decoded], ready.samples, settings.segment.pad))
    errors |= {n: error for (n, _), error in zip(decoded, found.errors, strict=True) if error}
    sound = [place for place, error in enumerate(found.errors) if not error]
    return Batch(
        parts,
        errors,
        tuple(decoded[place][0] for place in sound),
        tuple(decoded[place][1] for place in sound),
        {layer: values[sound] for layer, values in found.descriptors.items()},
        found.logits[sound],
    )


def _parts(paths: Sequence[str], decoders: Decoders, seconds: float) -> Iterator[Part]:
    """Yields the windows of each file in order of time."""
    for path, probe in zip(paths, decoders.probe(paths), strict=True):
        if isinstance(probe, AudioError):
            yield Part(path, error=str(probe))
            continue
        for part in windows(probe.duration, None, None, seconds):
            if part is None:
                yield Part(path, None, None, 0.0, min(probe.duration, seconds))
            else:
                yield Part(path, *part, *part)
