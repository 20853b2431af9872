"""Gives each clip a random excerpt of the background recordings of a condition.

The recordings are decoded in child processes like all other audio.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from gramcli.audio.condition import Condition
from gramcli.audio.decoder_pool import Decoders
from gramcli.audio.reader import Samples
from gramcli.audio.requests import HashedFile, Request
from gramcli.errors import AudioError, NoInputError
from gramcli.text import shown

CACHE_BYTES = 1 << 29
"""Size of the LRU cache of decoded recordings, in bytes."""


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
    """Excerpts of the background recordings of one condition.

    Args:
        condition: Of the kind background.
        decoders: Read the recordings.
        rate: Sample rate of the excerpts, in Hz.
        cache_bytes: Bytes of decoded recordings that are kept; at least one recording is.
    """

    def __init__(self, condition: Condition, decoders: Decoders, rate: int, cache_bytes: int = CACHE_BYTES) -> None:
        self._condition, self._decoders, self._rate, self._cache_bytes = condition, decoders, rate, cache_bytes
        self._kept: OrderedDict[str, Samples] = OrderedDict()

    def excerpt(self, key: str, length: int) -> npt.NDArray[np.float64]:
        """Returns an excerpt of one recording, both drawn from a generator seeded with the clip's key.

        Args:
            key: Key of the clip.
            length: Number of samples, T.

        Returns:
            (T,) float64. A recording that ends before is continued from its start; one without samples gives zeros.

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
            digest = self._condition.contents[self._condition.recordings.index(path)]
            expected = HashedFile(digest, 0, 0, hash_again=True)  # as the condition's name holds it
            (found,) = self._decoders.decode([Request(path, (None,), self._rate, "mix", expected)])
            if found.samples is None:
                raise _unusable(path, found.error)
            self._kept[path] = found.samples
            while len(self._kept) > 1 and sum(samples.nbytes for samples in self._kept.values()) > self._cache_bytes:
                self._kept.popitem(last=False)
        self._kept.move_to_end(path)
        return self._kept[path]
