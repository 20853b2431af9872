"""The front end: turns the samples of a clip into the input of the network, a log-mel spectrogram or the samples.

Every clip has a decibel floor of its own; with one floor for a batch, a loud clip would change a quiet one. On a CPU,
every clip is also computed by itself, since the rounding of a batched matrix product depends on the size of the batch.
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor, nn

from gramcli.errors import UsageError
from gramcli.network import torch_compat
from gramcli.settings.schema import FrontendSettings, SegmentSettings


def samples(frontend: FrontendSettings, segment: SegmentSettings) -> int:
    """Returns the length of one window in samples.

    Raises:
        UsageError: The window is too short for one Fourier transform.
    """
    length = round(segment.seconds * frontend.sample_rate)
    # torch.stft mirrors n_fft / 2 samples at each end, without repeating the edge.
    shortest = frontend.n_fft // 2 + 1 if frontend.kind == "logmel" else 1
    if length < shortest:
        raise UsageError(
            f"segment.seconds: {segment.seconds:g} s are {length} samples at {frontend.sample_rate} Hz; "
            f"the front end needs at least {shortest}"
        )
    return length


def build(frontend: FrontendSettings) -> nn.Module:
    """Returns the front end: a module that turns waveforms (N, T) float32 into the input of the network.

    Shape:
        ``logmel``: (N, 1, n_mels, 1 + T // hop); ``waveform``: (N, T), unchanged.

    Raises:
        UsageError: The settings contradict each other.
    """
    return LogMel(frontend) if frontend.kind == "logmel" else nn.Identity()


class LogMel(nn.Module):
    """Log-mel spectrogram of each clip by itself, scaled by the mean and standard deviation of the settings.

    With P the mel power of a clip (periodic Hann window, centred frames, mirrored ends)::

        P' = max(P, amin, 10^(-top_db / 10) · max P)
        x  = (10 log10 P' or ln P', - mean) / std

    The decibel form is torchaudio's ``AmplitudeToDB("power", top_db)`` on that clip alone.
    """

    def __init__(self, frontend: FrontendSettings) -> None:
        super().__init__()
        rate = frontend.sample_rate
        window, hop = (max(1, round(ms * rate / 1000)) for ms in (frontend.window_ms, frontend.hop_ms))
        highest = rate / 2 if isinstance(frontend.f_max, str) else frontend.f_max
        if window > frontend.n_fft:
            raise UsageError(
                f"frontend.window_ms: {frontend.window_ms:g} ms are {window} samples at {rate} Hz, "
                f"more than frontend.n_fft = {frontend.n_fft}"
            )
        if not frontend.f_min < highest <= rate / 2:
            raise UsageError(
                f"frontend.f_min = {frontend.f_min:g} and frontend.f_max = {highest:g} must be in this order "
                f"and at most half of frontend.sample_rate = {rate}"
            )
        with warnings.catch_warnings():
            # torchaudio warns where a narrow low band falls between two bins; the result is defined all the same
            warnings.simplefilter("ignore", UserWarning)
            self.mel = torch_compat.torchaudio().transforms.MelSpectrogram(
                sample_rate=rate,
                n_fft=frontend.n_fft,
                win_length=window,
                hop_length=hop,
                f_min=frontend.f_min,
                f_max=highest,
                n_mels=frontend.n_mels,
                mel_scale=frontend.mel_scale,
                norm=None if frontend.norm == "none" else frontend.norm,
            )
        self.amin = frontend.amin
        self.floor = 0.0 if isinstance(frontend.top_db, str) else 10 ** (-frontend.top_db / 10)
        self.factor = 10 / math.log(10) if frontend.log == "db" else 1.0
        self.mean, self.std = frontend.mean, frontend.std

    def forward(self, waveforms: Tensor) -> Tensor:
        """Takes (N, T) float32 to (N, 1, n_mels, frames) float32."""
        if waveforms.is_cuda:  # starting a kernel takes longer than a clip, and results may differ by rounding
            return self._scaled(waveforms)[:, None]
        return torch.stack([self._scaled(waveform) for waveform in waveforms])[:, None]

    def _scaled(self, waveforms: Tensor) -> Tensor:
        """Takes (..., T) to (..., n_mels, frames), each clip with its own floor."""
        power: Tensor = self.mel(waveforms)
        power = torch.maximum(power, (self.floor * power.amax((-2, -1), keepdim=True)).clamp(min=self.amin))
        return (self.factor * power.log() - self.mean) / self.std
