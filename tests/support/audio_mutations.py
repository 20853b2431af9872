"""Damaged audio files for tests: files of eight formats with random changes."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator

import numpy as np
import soundfile

from tests.support.mutations import mutated as mutate

KINDS = (
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16"),
)  # fmt: skip


def originals(seconds: float = 1.0) -> list[bytes]:
    """Returns one sound in every kind, in one channel and in two."""
    rng, made = np.random.default_rng(7), []
    for container, subtype in KINDS:
        for channels in (1, 2):
            tone = np.sin(np.arange(round(16000 * seconds)) / 9)[:, None] * np.ones(channels)
            sound = 0.2 * tone + 0.05 * rng.normal(size=tone.shape)
            file = io.BytesIO()
            soundfile.write(file, sound.astype(np.float32), 16000, format=container, subtype=subtype)
            made.append(file.getvalue())
    return made


def mutated(count: int, seed: int, seconds: float = 1.0) -> Iterator[bytes]:
    """Yields files that were changed once to four times; the n-th is the same for the same seed."""
    files = originals(seconds)
    for n in range(count):
        yield mutate(files[n % len(files)], random.Random(f"{seed} {n}"), files)
