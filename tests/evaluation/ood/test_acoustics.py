"""Duration, level, bandwidth and mean log-mel of windows."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from gramcli.evaluation.ood.acoustics import AcousticMeter, concatenate
from gramcli.network import torch_compat
from tests.support.sets import RATE, quick


@pytest.fixture
def settings(tmp_path):
    return quick(tmp_path / "x", tmp_path / "y")


def test_mean_log_mel_of_what_the_network_is_fed(settings, rng):
    samples = [(0.1 * rng.normal(size=n)).astype(np.float32) for n in (2000, 900, 2300)]
    found = AcousticMeter(settings).measure(samples)
    transforms = torch_compat.torchaudio().transforms
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        mel = transforms.MelSpectrogram(RATE, 256, 256, 128, n_mels=16)
    decibels = transforms.AmplitudeToDB("power", 80)
    for n, one in enumerate(samples):
        fed = np.zeros(2000, np.float32)
        fed[: len(one)] = one[:2000]
        wanted = decibels(mel(torch.from_numpy(fed))).mean(dim=1)
        np.testing.assert_allclose(found.spectra[n], wanted, atol=1e-3)
    assert found.measures["duration"].tolist() == [0.25, 900 / RATE, 0.25]
    assert found.measures["zero_samples"][1] >= 0.55


def test_each_window_by_itself(settings, rng):
    samples = [(0.1 * rng.normal(size=n)).astype(np.float32) for n in (2000, 900, 1500)]
    ear = AcousticMeter(settings)
    whole, alone = ear.measure(samples), concatenate([ear.measure([one]) for one in samples])
    np.testing.assert_array_equal(whole.spectra, alone.spectra)
    for name, values in whole.measures.items():
        np.testing.assert_array_equal(alone.measures[name], values)


def test_a_network_on_samples_has_the_default_log_mel(settings, rng):
    samples = [(0.1 * rng.normal(size=2000)).astype(np.float32)]
    front = replace(settings.frontend, kind="waveform", n_fft=256, window_ms=40.0)
    # 40 ms are 320 samples: the transform grows to hold them
    assert AcousticMeter(replace(settings, frontend=front)).measure(samples).spectra.shape == (1, 16)


def test_windows_too_short_for_a_log_mel_have_none(settings, rng):
    front = replace(settings.frontend, kind="waveform", n_fft=8192)
    found = AcousticMeter(replace(settings, frontend=front)).measure([rng.normal(size=2000).astype(np.float32)])
    assert found.spectra is None
    assert found.measures["level"][0] == pytest.approx(0, abs=0.5)
