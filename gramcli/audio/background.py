"""Background recordings of a condition, decoded in child processes like all other audio."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from gramcli.audio.condition import Condition
from gramcli.audio.decoder_pool import Decoders
from gramcli.audio.reader import Samples
from gramcli.audio.requests import Request
from gramcli.errors import AudioError, NoInputError
from gramcli.text import shown

MOST_BYTES = 1 << 29
"""Decoded recordings that are kept, in bytes; when there are more, those not used for longest are decoded again."""


def check_recordings(condition: Condition, decoders: Decoders) -> None:
    """Raises a NoInputError if one of a condition's background recordings has a header that cannot be decoded."""
    for path, found in zip(condition.recordings, decoders.probe(condition.recordings, hashed=False), strict=True):
        if isinstance(found, AudioError):
            raise _unusable(path, str(found))


def _unusable(path: str, reason: str) -> NoInputError:
    return NoInputError(
        f"{shown(path)}: background recording cannot be decoded: {reason}; remove it from the folder of --condition "
        "background, or replace it"
    )


class Backgrounds:
    """Pieces of the background recordings of one condition.

    Args:
        condition: Of the kind background.
        decoders: Read the recordings.
        rate: Sample rate of the pieces, in Hz.
        most: Bytes of decoded recordings that are kept.
    """

    def __init__(self, condition: Condition, decoders: Decoders, rate: int, most: int = MOST_BYTES) -> None:
        self._condition, self._decoders, self._rate, self._most = condition, decoders, rate, most
        self._kept: OrderedDict[str, Samples] = OrderedDict()

    def piece(self, key: str, length: int) -> npt.NDArray[np.float64]:
        """Returns a piece of one of the recordings, both chosen by the clip's key, repeated if it is too short.

        Args:
            key: Key of the clip.
            length: Samples.

        Raises:
            NoInputError: The recording cannot be decoded.
        """
        rng, paths = self._condition.seed(key), self._condition.recordings
        samples = self._decoded(paths[int(rng.integers(len(paths)))])
        if not len(samples):
            return np.zeros(length)
        start = int(rng.integers(len(samples)))
        return np.take(samples, np.arange(start, start + length), mode="wrap").astype(np.float64)

    def _decoded(self, path: str) -> Samples:
        if path not in self._kept:
            (found,) = self._decoders.decode([Request(path, (None,), self._rate, "mix")])
            if found.samples is None:
                raise _unusable(path, found.error)
            self._kept[path] = found.samples
            while len(self._kept) > 1 and sum(samples.nbytes for samples in self._kept.values()) > self._most:
                self._kept.popitem(last=False)
        self._kept.move_to_end(path)
        return self._kept[path]
