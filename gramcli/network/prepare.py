"""Builds the network that the settings name, ready to compute descriptors and logits of windows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gramcli.errors import ArtefactError, UsageError
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import NetworkSettings, Settings
from gramcli.text import shown

if TYPE_CHECKING:
    import torch

    from gramcli.network.build import BuiltNetwork
    from gramcli.network.capture import Survey
    from gramcli.network.code_trust import CodeOrigin
    from gramcli.network.scorer import Scorer


@dataclass(frozen=True)
class PreparedNetwork:
    """A built network and the scorer that runs it."""

    built: BuiltNetwork
    scorer: Scorer
    identity: Mapping[str, Any]
    """All that descriptors and logits depend on."""
    samples: int
    """Length of a window in samples."""
    device: str
    """The device for people, e.g. ``cpu (4 threads)``."""


@dataclass(frozen=True, eq=False)
class StoredNetwork:
    """What a cache or an exported model says of the network that it was made with."""

    identity: Mapping[str, Any]
    """What the network must be; see `gramcli.network.descriptor_identity.identify`."""
    layers: Sequence[str] | None = None
    """Layers to record; all that the settings choose if None."""
    weights: Mapping[str, torch.Tensor] | None = None
    """Weights of an exported model, by name; those of the settings' checkpoint if None."""
    origin: CodeOrigin | None = None
    """The cache or the model, which names the network's code."""


def prepare(
    settings: Settings, labels: Sequence[str], context: RunContext, stored: StoredNetwork | None = None
) -> PreparedNetwork:
    """Builds the network, finds its layers with one forward pass, and makes the scorer.

    Args:
        settings: All settings.
        labels: Labels of the outputs where the settings name none.
        context: Folder of the project, what the user named, whether the code of files is trusted, and progress.
        stored: The network that an earlier command used, which this one must be; None for any.

    Raises:
        UsageError: No network named, or an unknown one.
        ArtefactError: Weights or classes do not fit the network, or the identity differs.
        ResourceError: The device is missing.
        UnsafeError: A file names code or arguments that the user has not named or trusted.
    """
    import torch

    from gramcli.network import capture, descriptor_identity, frontend
    from gramcli.network.execution import Execution
    from gramcli.network.scorer import AudioNetwork, Scorer

    if settings.run.threads is not None:
        torch.set_num_threads(settings.run.threads)
    execution = Execution.of(settings.run)
    classes = settings.network.classes or tuple(labels)
    built = build_network(settings, classes, context, stored)
    samples = frontend.samples(settings.frontend, settings.segment)
    front = frontend.build(settings.frontend)
    survey = probe(built, front, samples, settings.network)
    chosen = capture.choose(survey.layers, settings.network.layers)
    sizes = [(layer.name, layer.channels) for layer in chosen]
    identity = descriptor_identity.identify(settings, built, classes, sizes)
    if stored is not None:
        if stored.weights is not None:  # a model names the checkpoint that its weights came from
            identity = {**identity, "weights": stored.identity["weights"]}
        descriptor_identity.require_same(stored.identity, identity)
    wanted = None if stored is None else stored.layers
    recorded = chosen if wanted is None else [layer for layer in chosen if layer.name in set(wanted)]
    scorer = Scorer(
        AudioNetwork(built.module, front, built.outputs),
        recorded,
        execution,
        with_means=settings.network.with_means and wanted is None,
    )
    return PreparedNetwork(built, scorer, identity, samples, execution.text)


def check_held_out(settings: Settings) -> None:
    """Raises a UsageError if a label held out is an output of the network, to which such sounds are not unknown."""
    for label in settings.data.hold_out:
        if label in settings.network.classes:
            raise UsageError(
                f"data.hold_out: '{shown(label)}' is one of the network's classes, so such sounds are not unknown to "
                "it; take it out of network.classes, or use a network that was trained with it held out"
            )


def build_network(
    settings: Settings, classes: Sequence[str], context: RunContext, stored: StoredNetwork | None = None
) -> BuiltNetwork:
    """Builds the network that the settings name and loads its weights; see `prepare` for arguments and errors."""
    from gramcli.network import build, checkpoint

    network = settings.network
    wanted = len(classes) if classes and (network.head == "map" or network.classes) else None
    origin, state = (None, None) if stored is None else (stored.origin, stored.weights)
    if state is None:
        built = build.build(network, wanted, settings.data.seed, context, origin, stated_settings=settings.stated)
    else:
        bare = dataclasses.replace(network, weights=None)
        built = build.build(bare, wanted, settings.data.seed, context, origin, weights_follow=True)
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
