"""Builds a `Scorer` (network, front end, recorded layers) of each toy network, on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from gramcli.network import capture, frontend
from gramcli.network.execution import Execution
from gramcli.network.scorer import AudioNetwork, Scorer
from gramcli.settings.schema import FrontendSettings
from tests.support import toys

LOGMEL = FrontendSettings(n_fft=256, window_ms=16.0, hop_ms=10.0, n_mels=16, mean=-20.0, std=20.0)
SAMPLES = FrontendSettings(kind="waveform")
NETWORKS: dict[str, tuple[Callable[..., nn.Module], FrontendSettings]] = {
    **{name: (kind, LOGMEL) for name, kind in toys.SPECTROGRAMS.items()},
    **{name: (kind, SAMPLES) for name, kind in toys.WAVEFORMS.items()},
}


def scorer_of(
    name: str,
    batch: int = 8,
    device: str = "cpu",
    precision: str = "fp32",
    *,
    outputs: int | None = None,
    **options: Any,
) -> Scorer:
    kind, about = NETWORKS[name]
    network, module = toys.make(kind), frontend.build(about)
    with torch.inference_mode():
        layers = capture.survey(network, module(torch.zeros(2, 4000))).layers
    execution = Execution(torch.device(device), batch, precision)
    return Scorer(AudioNetwork(network, module, outputs), layers, execution, **options)


def scorer_of_samples(network: nn.Module, batch: int = 16, *, outputs: int | None = None) -> Scorer:
    """Returns the scorer of a network that is fed with samples and has no layers, on the CPU."""
    return Scorer(AudioNetwork(network, nn.Identity(), outputs), (), Execution(torch.device("cpu"), batch))
