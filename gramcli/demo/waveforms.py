"""What the demo's sounds are made of: noise, tones, decays and slow random curves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float64]
Random = np.random.Generator

RATE = 16_000
"""Samples per second."""


def draw(random: Random, *ranges: tuple[float, float]) -> list[float]:
    """Returns one number of each range."""
    return [random.uniform(low, high) for low, high in ranges]


def gain(decibels: float) -> float:
    """Returns the amplitude factor of a gain in decibels."""
    return float(10 ** (decibels / 20))


def rms(samples: Samples) -> float:
    """Returns the root of the mean square."""
    return float(np.sqrt(np.mean(samples**2)))


def spectral_gain(samples: int, slope: float) -> Samples:
    """Returns the gain (samples // 2 + 1,) at each frequency f: ∝ f^slope, and nothing below 30 Hz."""
    frequencies = np.fft.rfftfreq(samples, 1 / RATE)
    return np.where(frequencies < 30, 0.0, (np.maximum(frequencies, 30) / 1000) ** slope)


def noise(random: Random, samples: int, slope: float) -> Samples:
    """Returns noise of RMS 1 whose magnitude goes with f^slope: 0 is white, -0.5 pink, -1 brown."""
    spectrum = np.fft.rfft(random.standard_normal(samples)) * spectral_gain(samples, slope)
    filtered = np.fft.irfft(spectrum, samples)
    return np.asarray(filtered / rms(filtered))


def band(random: Random, samples: int, centre: float, octaves: float) -> Samples:
    """Returns noise of RMS 1 around `centre` Hz, a bell of standard deviation `octaves`."""
    distance = np.log2(np.maximum(np.fft.rfftfreq(samples, 1 / RATE), 1) / centre) / octaves
    filtered = np.fft.irfft(np.fft.rfft(random.standard_normal(samples)) * np.exp(-(distance**2) / 2), samples)
    return np.asarray(filtered / rms(filtered))


def decay(samples: int, seconds: float) -> Samples:
    """Returns exp(-t / seconds)."""
    return np.exp(-np.arange(samples) / (seconds * RATE))


def tone(frequency: Samples, harmonics: Samples) -> Samples:
    """Returns a tone of changing frequency (samples,) in Hz, with its harmonics' amplitudes (h,)."""
    phase = 2 * np.pi * np.cumsum(frequency) / RATE
    parts = (
        amplitude * np.sin(k * phase) * (k * frequency < 0.45 * RATE)  # none above, where it would fold back
        for k, amplitude in enumerate(harmonics, 1)
    )
    return np.asarray(sum(parts))


def random_curve(random: Random, samples: int, knots_per_second: float) -> Samples:
    """Returns a curve in [0, 1], (samples,), linear between `knots_per_second` random points per second."""
    knots = random.uniform(size=2 + round(knots_per_second * samples / RATE))
    return np.interp(np.linspace(0, len(knots) - 1, samples), np.arange(len(knots)), knots)


def add(sound: Samples, event: Samples, second: float) -> None:
    """Adds an event in place from `second` on; what goes beyond the end of the sound is cut."""
    start = round(second * RATE)
    room = sound[start : start + len(event)]
    room += event[: len(room)]
