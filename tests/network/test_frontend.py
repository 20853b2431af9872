"""The log-mel front end against a slow one in plain NumPy and float64."""

from __future__ import annotations

import dataclasses
import math
import warnings

import numpy as np
import pytest
import torch

from gramcli.errors import UsageError
from gramcli.network import frontend
from gramcli.settings.schema import FrontendSettings, SegmentSettings

FRONTENDS = [
    FrontendSettings(),
    FrontendSettings(log="ln", amin=1e-6, top_db="none", mean=-4.5, std=4.0),
    FrontendSettings(mel_scale="slaney", norm="slaney", n_mels=64, f_min=50, f_max=7000.0, top_db=30.0),
    FrontendSettings(sample_rate=22050, n_fft=512, window_ms=23.0, hop_ms=7.0, n_mels=20, log="ln", top_db=60.0),
]


def mel_of_hertz(hertz: float, scale: str) -> float:
    if scale == "htk":
        return 2595 * math.log10(1 + hertz / 700)
    return hertz / (200 / 3) if hertz < 1000 else 15 + 27 * math.log(hertz / 1000) / math.log(6.4)


def slow(waveform: np.ndarray, about: FrontendSettings) -> np.ndarray:
    """Log-mel (n_mels, frames), a frame and a band at a time, from the formulas."""
    rate, n_fft = about.sample_rate, about.n_fft
    window_length, hop = round(about.window_ms * rate / 1000), round(about.hop_ms * rate / 1000)
    highest = rate / 2 if about.f_max == "nyquist" else float(about.f_max)
    window = np.zeros(n_fft)
    left = (n_fft - window_length) // 2
    window[left : left + window_length] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window_length) / window_length)
    ends = np.linspace(mel_of_hertz(about.f_min, about.mel_scale), mel_of_hertz(highest, about.mel_scale), 1001)
    # the inverse of the mel formula, by bisection
    hertz = []
    for mel in np.interp(np.arange(about.n_mels + 2), [0, about.n_mels + 1], [ends[0], ends[-1]]):
        low, high = 0.0, float(rate)
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (middle, high) if mel_of_hertz(middle, about.mel_scale) < mel else (low, middle)
        hertz.append(low)
    bins = np.arange(n_fft // 2 + 1) * rate / n_fft
    padded = np.pad(waveform.astype(np.float64), n_fft // 2, mode="reflect")
    frames = 1 + len(waveform) // hop
    power = np.zeros((about.n_mels, frames))
    for t in range(frames):
        spectrum = np.abs(np.fft.rfft(padded[t * hop : t * hop + n_fft] * window)) ** 2
        for band in range(about.n_mels):
            a, b, c = hertz[band : band + 3]
            weight = np.maximum(0, np.minimum((bins - a) / (b - a), (c - bins) / (c - b)))
            power[band, t] = (weight * (2 / (c - a) if about.norm == "slaney" else 1)) @ spectrum
    power = np.maximum(power, about.amin)
    if about.top_db != "none":
        power = np.maximum(power, power.max() * 10 ** (-float(about.top_db) / 10))
    return ((10 * np.log10(power) if about.log == "db" else np.log(power)) - about.mean) / about.std


@pytest.fixture
def clips(rng: np.random.Generator) -> torch.Tensor:
    """Noise and tones (5, 6000) at levels from 1e-4 to 1, and silence."""
    time = np.arange(6000) / 16000
    tones = np.sin(2 * np.pi * np.array([200, 440, 3000, 7000, 0])[:, None] * time)
    noise = 0.1 * rng.standard_normal((5, 6000))
    return torch.tensor(((tones + noise) * np.array([1e-4, 1e-2, 1, 0.3, 0])[:, None]).astype(np.float32))


@pytest.mark.parametrize("about", FRONTENDS)
def test_equals_the_slow_one(about: FrontendSettings, clips: torch.Tensor) -> None:
    found = frontend.build(about)(clips)
    assert found.shape[:3] == (5, 1, about.n_mels)
    assert found.dtype == torch.float32
    for clip, spectrogram in zip(clips, found, strict=True):
        expected = slow(clip.numpy(), about)
        # decibels; where nothing but rounding is left of a power (far below the clip's maximum) more is allowed
        near = expected > expected.max() - 50 / about.std
        assert np.abs(spectrogram[0].numpy() - expected)[near].max() < 2e-2 / about.std
        assert np.abs(spectrogram[0].numpy() - expected).mean() < 2e-2 / about.std


def test_is_what_torchaudio_makes_of_one_clip(clips: torch.Tensor) -> None:
    module = frontend.build(FrontendSettings(mean=-15.4, std=21.4))
    from torchaudio import transforms  # importable by now

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mel = transforms.MelSpectrogram(sample_rate=16000, n_fft=1024, win_length=640, hop_length=320, n_mels=128)
    expected = torch.stack([transforms.AmplitudeToDB(top_db=80)(mel(clip)) for clip in clips])
    torch.testing.assert_close(module(clips)[:, 0], (expected + 15.4) / 21.4, rtol=0, atol=1e-5)


@pytest.mark.parametrize("about", FRONTENDS)
def test_a_clip_never_depends_on_the_others(about: FrontendSettings, clips: torch.Tensor) -> None:
    module = frontend.build(about)
    alone = [module(clip[None])[0] for clip in clips]
    for batch in ([0, 2], [2, 0], [4, 3, 2, 1, 0], [1, 1, 1, 2, 2, 2, 0, 3]):
        assert all(torch.equal(x, alone[i]) for x, i in zip(module(clips[batch]), batch, strict=True))


def test_silence_lies_at_amin() -> None:
    spectrogram = frontend.build(FrontendSettings())(torch.zeros(2, 16000))
    torch.testing.assert_close(spectrogram, torch.full_like(spectrogram, -100), rtol=0, atol=1e-4)


def test_top_db_is_the_clips_own_range(clips: torch.Tensor) -> None:
    spectrogram = frontend.build(FrontendSettings(top_db=20.0, amin=1e-20))(clips[:4])
    lowest, highest = spectrogram.amin((1, 2, 3)), spectrogram.amax((1, 2, 3))
    torch.testing.assert_close(highest - lowest, torch.full((4,), 20.0), rtol=0, atol=1e-3)


def test_waveforms_pass_unchanged(clips: torch.Tensor) -> None:
    assert frontend.build(FrontendSettings(kind="waveform"))(clips) is clips


def test_length_of_a_window() -> None:
    assert frontend.samples(FrontendSettings(), SegmentSettings()) == 160000
    assert frontend.samples(FrontendSettings(sample_rate=22050), SegmentSettings(seconds=0.1)) == 2205
    assert frontend.samples(FrontendSettings(n_fft=1024), SegmentSettings(seconds=513 / 16000)) == 513
    assert frontend.build(FrontendSettings())(torch.zeros(1, 513)).shape == (1, 1, 128, 2)


def test_too_short_a_window() -> None:
    with pytest.raises(UsageError, match=r"0.032 s are 512 samples at 16000 Hz; the front end needs at least 513"):
        frontend.samples(FrontendSettings(), SegmentSettings(seconds=0.032))
    with pytest.raises(UsageError, match="at least 1"):
        frontend.samples(FrontendSettings(kind="waveform"), SegmentSettings(seconds=1e-6))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window_ms": 65.0}, "window_ms: 65 ms are 1040 samples at 16000 Hz, more than frontend.n_fft = 1024"),
        ({"f_max": 8001.0}, "at most half of frontend.sample_rate"),
        ({"f_min": 4000.0, "f_max": 4000.0}, "in this order"),
    ],
)
def test_contradictions(change: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        frontend.build(dataclasses.replace(FrontendSettings(), **change))
