"""What can be said of a window without listening: how long, how loud and how broad it is, and how much is nothing.

A score of unknown sounds that does no better than these has heard the recorder and not the sound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramcli.audio import reader

QUIETEST = -120.0
"""Level in dBFS below which nothing is told apart; digital silence has it."""
SILENT = 2.0**-16
"""Half a step of 16 bits: what is below it was written as 0, though a resampler may have touched it since."""
SHARE = 0.95
"""Of the energy, which lies below the bandwidth."""


@dataclass(frozen=True)
class Measures:
    """One window; the first three are of its audio before padding."""

    duration: float
    """Seconds."""
    level: float
    """dBFS, at least `QUIETEST`."""
    bandwidth: float
    """Hz."""
    zeros: float
    """Share of zero samples of what the network is fed, 0 to 1."""


def measure(samples: NDArray[Any], sample_rate: int, length: int, pad: str) -> Measures:
    """Measures a decoded window.

    Args:
        samples: As decoded; what is beyond `length` is cut off first.
        sample_rate: In Hz.
        length: Samples that the network is fed.
        pad: How a shorter window is padded.

    Shape:
        - samples: (n,), n >= 1
    """
    heard = samples[:length]
    fed = reader.fit(samples, length, pad)
    zeros = float((np.abs(fed) < SILENT).mean())
    return Measures(len(heard) / sample_rate, level(heard), bandwidth(heard, sample_rate), zeros)


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
