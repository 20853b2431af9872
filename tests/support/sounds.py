"""Writes audio files of noise, complete or with a field of their header overwritten."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import soundfile


def noise(seconds: float, rate: int = 16000, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Returns (frames, channels) float32 that 16 bits hold exactly."""
    frames = np.random.default_rng(seed).integers(-8000, 8000, (round(seconds * rate), channels))
    return (frames / 32768).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = 16000, **about: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, **about)
    return str(path)


def patched(path: Path, field: bytes, offset: int, value: int) -> str:
    """Overwrites four bytes of a WAV file, counted from where `field` stands."""
    data = bytearray(path.read_bytes())
    at = data.index(field) + offset
    data[at : at + 4] = struct.pack("<I", value)
    path.write_bytes(data)
    return str(path)
