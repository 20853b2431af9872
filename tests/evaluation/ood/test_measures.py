"""Measures of a window beside loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gramcli.evaluation.ood.measures import QUIETEST, SILENT, bandwidth, level, measure

RATE = 8000


def slow_level(samples):
    power = sum(float(one) ** 2 for one in samples) / len(samples)
    return 20 * math.log10(math.sqrt(power))


def slow_bandwidth(samples, rate):
    """A Fourier sum for every frequency above 0."""
    n = len(samples)
    energies = []
    for k in range(1, n // 2 + 1):
        turned = sum(float(x) * np.exp(-2j * np.pi * k * t / n) for t, x in enumerate(samples))
        energies.append(abs(turned) ** 2)
    total = 0.0
    for k, energy in enumerate(energies, 1):
        total += energy
        if total >= 0.95 * sum(energies):
            return k * rate / n
    raise AssertionError


@pytest.mark.parametrize("n", [1, 2, 31, 64, 101])
def test_against_loops(rng, n):
    samples = (0.1 * rng.normal(size=n)).astype(np.float32)
    assert level(samples) == pytest.approx(slow_level(samples))
    if n > 1:
        assert bandwidth(samples, RATE) == pytest.approx(slow_bandwidth(samples, RATE))


def test_known_sounds():
    time = np.arange(RATE) / RATE
    sine = np.sin(2 * np.pi * 1000 * time).astype(np.float32)
    assert level(sine) == pytest.approx(-10 * math.log10(2))
    assert bandwidth(sine, RATE) == 1000
    assert bandwidth(sine + 100, RATE) == 1000
    noise = np.random.default_rng(0).normal(size=10 * RATE)
    assert bandwidth(noise, RATE) == pytest.approx(0.95 * RATE / 2, rel=0.01)


def test_gain_changes_the_level_alone(rng):
    samples = (0.1 * rng.normal(size=1000)).astype(np.float32)
    loud, quiet = (measure(gain * samples, RATE, 1000, "zero") for gain in (1.0, 0.1))
    assert loud.level - quiet.level == pytest.approx(20, abs=1e-4)
    assert (loud.duration, loud.bandwidth) == (quiet.duration, quiet.bandwidth)


def test_padding_makes_zeros_and_changes_nothing_else(rng):
    samples = (0.1 + 0.01 * rng.normal(size=500)).astype(np.float32)
    whole, padded, repeated = (
        measure(samples, RATE, n, pad) for n, pad in ((500, "zero"), (2000, "zero"), (2000, "repeat"))
    )
    assert (whole.zeros, padded.zeros, repeated.zeros) == (0, 0.75, 0)
    for one in (padded, repeated):
        assert (one.duration, one.level, one.bandwidth) == (whole.duration, whole.level, whole.bandwidth)
    assert whole.duration == 500 / RATE


def test_what_the_network_is_not_fed_does_not_count(rng):
    samples = np.concatenate([0.1 * rng.normal(size=500), np.zeros(300)]).astype(np.float32)
    assert measure(samples, RATE, 500, "zero") == measure(samples[:500], RATE, 500, "zero")


def test_silence():
    found = measure(np.zeros(100, np.float32), RATE, 200, "zero")
    assert (found.level, found.bandwidth, found.zeros) == (QUIETEST, 0, 1)
    assert level(np.full(10, 1e-9)) == QUIETEST


def test_what_16_bits_write_as_zero_is_zero():
    assert measure(np.array([0.9 * SILENT, -0.9 * SILENT, SILENT, -1.0]), RATE, 4, "zero").zeros == 0.5
