"""From settings to a network that is ready to score windows, and the identity of what it computes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gramcli.errors import ArtefactError, UsageError
from gramcli.settings.schema import NetworkSettings, Settings
from gramcli.text import shown

if TYPE_CHECKING:
    import torch

    from gramcli.network.build import BuiltNetwork
    from gramcli.network.capture import Survey
    from gramcli.network.scorer import Scorer

FORMAT = 1
"""Version of what is computed; a change that alters descriptors raises it."""

RESAMPLER = "soxr HQ"


@dataclass(frozen=True)
class PreparedNetwork:
    """A built network, its layers and the scorer."""

    built: BuiltNetwork
    scorer: Scorer
    identity: Mapping[str, Any]
    samples: int
    """Length of a window in samples."""
    device: str
    """Where it runs, in words."""


def prepare(
    settings: Settings,
    labels: Sequence[str],
    folder: Path,
    *,
    only: Sequence[str] | None = None,
    state: Mapping[str, torch.Tensor] | None = None,
    identity: Mapping[str, Any] | None = None,
) -> PreparedNetwork:
    """Builds the network, finds its layers with one probe forward, and makes the scorer.

    Args:
        settings: All settings.
        labels: Labels of the outputs where the settings name none.
        folder: First on the import path of a factory.
        only: Layers to record; all that the settings choose if None.
        state: Weights that are in memory, for a network from an exported model.
        identity: What the result must be; its weights' digest stands where `state` is given.

    Raises:
        UsageError: No network named, or an unknown one.
        ArtefactError: Weights or classes do not fit the network, or the identity differs.
        ResourceError: The device is missing.
    """
    import torch

    from gramcli.identity import differences
    from gramcli.network import capture, frontend, scorer

    if settings.run.threads is not None:
        torch.set_num_threads(settings.run.threads)
    device = scorer.device(settings.run.device)
    scorer.check_precision(settings.run.precision, device)
    classes = settings.network.classes or tuple(labels)
    built = build_network(settings, classes, folder, state)
    samples = frontend.samples(settings.frontend, settings.segment)
    front = frontend.build(settings.frontend)
    survey = probe(built, front, samples, settings.network)
    chosen = capture.choose(survey.layers, settings.network.layers)
    found = identify(settings, built, classes, [(layer.name, layer.channels) for layer in chosen])
    if identity is not None:
        if state is not None:
            found = {**found, "weights": identity["weights"]}
        changed = differences(identity, found)
        if changed:
            raise ArtefactError(
                f"the network does not fit the statistics ({'; '.join(changed)}); give the settings of the extract, "
                "as --weights, or extract into another cache"
            )
    recorded = chosen if only is None else [layer for layer in chosen if layer.name in set(only)]
    ready = scorer.Scorer(
        built.module,
        front,
        recorded,
        device,
        settings.run.batch,
        settings.run.precision,
        built.outputs,
        settings.network.with_means and only is None,
    )
    where = f"{device} ({torch.get_num_threads()} threads)" if device.type == "cpu" else str(device)
    return PreparedNetwork(built, ready, found, samples, where)


def check_held_out(settings: Settings) -> None:
    """Raises a UsageError if a label held out is an output of the network, to which such sounds are not unknown."""
    for label in settings.data.hold_out:
        if label in settings.network.classes:
            raise UsageError(
                f"data.hold_out: '{shown(label)}' is one of the network's classes, so such sounds are not unknown to "
                "it; take it out of network.classes, or use a network that was trained with it held out"
            )


def build_network(
    settings: Settings,
    classes: Sequence[str],
    folder: Path,
    state: Mapping[str, torch.Tensor] | None = None,
) -> BuiltNetwork:
    """Builds the network that the settings name and loads its weights; see `prepare` for arguments and errors."""
    from gramcli.network import build, checkpoint

    network = settings.network
    wanted = len(classes) if classes and (network.head == "map" or network.classes) else None
    if state is None:
        built = build.build(network, wanted, settings.data.seed, folder)
    else:
        built = build.build(dataclasses.replace(network, weights=None), wanted, settings.data.seed, folder)
        checkpoint.load_into(built.module, dict(state), Path("the exported model"))
    if network.head == "map" and classes and built.outputs != len(classes):
        raise ArtefactError(
            f"{built.architecture}: has {built.outputs} outputs for {len(classes)} labels; "
            f"name its classes in order in network.classes, or set network.head to none"
        )
    return built


def probe(built: BuiltNetwork, front: torch.nn.Module, samples: int, network: NetworkSettings) -> Survey:
    """Runs the network once on two windows of faint noise and lists its activations."""
    import torch

    from gramcli.network import capture

    noise = torch.randn(2, samples, generator=torch.Generator().manual_seed(0)) * 0.1
    with torch.inference_mode():
        return capture.survey(built.module, front(noise), network.channel_dims)


def identify(
    settings: Settings, built: BuiltNetwork, classes: Sequence[str], layers: Sequence[tuple[str, int]]
) -> dict[str, Any]:
    """Returns all that descriptors and logits depend on, as JSON values."""
    front = dataclasses.asdict(settings.frontend)
    if settings.frontend.kind == "waveform":  # nothing else is used then
        front = {key: front[key] for key in ("kind", "sample_rate")}
    return {
        "format": FORMAT,
        "architecture": built.architecture,
        "arguments": dict(built.arguments),
        "weights": built.weights,
        "head": settings.network.head,
        "outputs": list(classes) if settings.network.head == "map" else built.outputs,
        "layers": [list(layer) for layer in layers],
        "channel_dims": dict(settings.network.channel_dims),
        "frontend": front,
        "segment": dataclasses.asdict(settings.segment),
        "resampler": RESAMPLER,
        "condition": "clean",
        "precision": settings.run.precision,
        **({"with_means": True} if settings.network.with_means else {}),
    }
