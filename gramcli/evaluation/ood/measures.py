"""Simple measures of a window of audio: length, level, bandwidth and the share of zero samples.

A score for unknown sounds that does no better than these may depend on the recording and not on the sound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramcli.audio import reader

QUIETEST = -120.0
"""Lowest level in dBFS that is reported, also for digital silence."""
SILENT = 2.0**-16
"""Half a step of 16 bits: smaller samples were 0 in the file, and may have been changed by the resampler since."""
SHARE = 0.95
"""Share of the energy that lies below the bandwidth."""


@dataclass(frozen=True)
class Measures:
    """Measures of one window; the first three are taken before padding."""

    duration: float
    """Seconds."""
    level: float
    """dBFS, at least `QUIETEST`."""
    bandwidth: float
    """Hz."""
    zeros: float
    """Share of zero samples in the network's input, 0 to 1."""


def measure(samples: NDArray[Any], sample_rate: int, length: int, pad: str) -> Measures:
    """Measures a decoded window.

    Args:
        samples: As decoded; samples beyond `length` are cut off first.
        sample_rate: In Hz.
        length: Samples in the network's input.
        pad: How a shorter window is padded.

    Shape:
        - samples: (n,), n >= 1
    """
    audio = samples[:length]
    fed = reader.fit(samples, length, pad)
    zeros = float((np.abs(fed) < SILENT).mean())
    return Measures(len(audio) / sample_rate, level(audio), bandwidth(audio, sample_rate), zeros)


def level(samples: NDArray[Any]) -> float:
    """Returns the root mean square in dB of full scale, 1; at least `QUIETEST`.

    Shape:
        - samples: (n,), n >= 1
    """
    power = float(np.square(samples, dtype=np.float64).mean())
    return max(10 * math.log10(power), QUIETEST) if power > 0 else QUIETEST


def bandwidth(samples: NDArray[Any], sample_rate: int) -> float:
    """Returns the frequency in Hz at or below which lie 95 % of the energy (roll-off, Tzanetakis & Cook 2002).

    An offset is no sound and does not count; without energy the bandwidth is 0.

    Shape:
        - samples: (n,), n >= 1
    """
    power = np.abs(np.fft.rfft(np.asarray(samples, np.float64))) ** 2
    power[0] = 0.0
    below = np.cumsum(power)
    if below[-1] <= 0:
        return 0.0
    return float(np.searchsorted(below, SHARE * below[-1])) * sample_rate / len(samples)
