"""Speed of the forward pass with every activation recorded, against the plain forward pass of the same network."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gramcli.network import activations, execution
from gramcli.network.build import build
from gramcli.network.capture import survey
from gramcli.network.execution import Execution
from gramcli.network.scorer import AudioNetwork, Scorer
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import NetworkSettings
from gramcli.system import malloc
from tests.benchmarks.measure import Figure, apart, seconds

NETWORKS = ("resnet50", "densenet121", "vgg16", "mobilenetv2_100")
BATCH, SHAPE, CLASSES = 16, (1, 128, 501), 10
"""Ten seconds at 16 kHz: 128 mel bands, a frame every 20 ms."""
BATCH_CUDA = 64


class Ready(nn.Module):
    """A front end that has its log-mels already, so that the network alone is measured."""

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()
        self.inputs = inputs

    def forward(self, _waveforms: Tensor) -> Tensor:
        return self.inputs


def naive(module: nn.Module, inputs: Tensor) -> list[Tensor]:
    """What one writes first: hooks that keep the rows of F Fᵀ summed."""
    found: list[Tensor] = []

    def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        maps = output.flatten(2) if output.dim() > 2 else output.unsqueeze(2)
        found.append(torch.bmm(maps, maps.transpose(1, 2)).sum(2))

    handles = [one.register_forward_hook(hook) for one in module.modules() if activations.refusal_of_module(one) == ""]
    try:
        module(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def network(name: str) -> nn.Module:
    """Returns a network with its first weights, in eval mode."""
    return build(NetworkSettings(name=name), CLASSES, 0, RunContext({"network": {"name": name}})).module


def plain(name: str, batch: int, device: str, full: bool = False) -> Callable[[], object]:
    """Returns the plain forward of a network, as any script would run it.

    Args:
        name: The network.
        batch: Clips at once.
        device: The device.
        full: Whether convolutions keep all bits of fp32 on a GPU, where they drop to ten unless told not to.
    """
    module, inputs = network(name).to(device), ready(batch).to(device)

    def job() -> Tensor:
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=not full):
            return module(inputs).cpu()

    return job


def hooked(name: str, batch: int, device: str) -> Callable[[], object]:
    """Returns the forward with hooks that one writes first."""
    module, inputs = network(name).to(device), ready(batch).to(device)

    def job() -> list[Tensor]:
        with torch.inference_mode():
            return [one.cpu() for one in naive(module, inputs)]

    return job


def ready(batch: int) -> Tensor:
    """Returns a batch of log-mels."""
    return torch.randn(batch, *SHAPE, generator=torch.Generator().manual_seed(0))


def measure(_folder: Path, _data: Path | None) -> list[Figure]:
    """Takes the figures."""
    malloc.keep_freed()  # as the program does
    figures: list[Figure] = []
    device = execution.device("auto")
    batch = BATCH_CUDA if device.type == "cuda" else BATCH
    inputs = ready(batch).to(device)
    waveforms = np.zeros((batch, 2), np.float32)
    for name in NETWORKS:
        layers = survey(network(name), inputs[:2].cpu()).layers
        scorers = {
            precision: Scorer(AudioNetwork(network(name), Ready(inputs)), layers, Execution(device, batch, precision))
            for precision in ("fp32", "bf16")
        }
        with contextlib.ExitStack() as stack:

            def other(make: Callable[..., Callable[[], object]], *more: Any) -> Callable[[], object]:
                return stack.enter_context(apart(make, name, batch, str(device), *more))  # noqa: B023

            jobs = {"plain": other(plain), "plain with our memory": plain(name, batch, str(device))}
            jobs |= {key: lambda scorer=scorer: scorer.score(waveforms) for key, scorer in scorers.items()}  # type: ignore[misc]
            if name == "resnet50":
                jobs["naive"] = other(hooked)
            if device.type == "cuda":
                jobs["plain in full fp32"] = other(plain, True)
            for job in jobs.values():
                job()
            took = seconds(jobs)
        about = {f"{job}, ms a clip": 1000 * least / batch for job, least in took.items()} | {"device": str(device)}
        whole = took.get("plain in full fp32", took["plain"])
        base, what = took["plain"], f"{name}, {len(layers)} layers recorded"
        figures += [
            Figure(1, f"{what}, fp32, over the plain forward", took["fp32"] / whole, most=0.8, about=about),
            Figure(2, f"{what}, bf16, over the plain forward in fp32", took["bf16"] / base, most=0.55, about=about),
        ]
        if "naive" in took:
            figures.append(
                Figure(4, f"{what}: hooks with F Fᵀ over ours", took["naive"] / took["fp32"], least=3, about=about)
            )
    return figures
