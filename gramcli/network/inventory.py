"""``gramcli layers``: lists the layers of a network that can be recorded, with their size in the cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import Settings

if TYPE_CHECKING:
    from gramcli.network.capture import Layer, Survey


@dataclass(frozen=True)
class LayerInventory:
    """The layers of a network, and which of them the settings choose."""

    architecture: str
    chosen: frozenset[str]
    """Names of the layers that extract would record."""
    survey: Survey

    @property
    def recorded(self) -> list[Layer]:
        """The layers that extract would record, in the order they run."""
        return [layer for layer in self.survey.layers if layer.name in self.chosen]


def list_layers(settings: Settings, context: RunContext | None = None) -> LayerInventory:
    """Builds the network and lists its activations after one forward pass.

    Args:
        settings: Complete settings; ``network.name`` must be given.
        context: Folder of a network's factory, and whether its code is trusted.

    Raises:
        UsageError: No network named, or an unknown one.
        ArtefactError: Weights do not fit.
        UnsafeError: A file names code or arguments that the user has not named or trusted.
    """
    from gramcli.network import capture, frontend
    from gramcli.network.prepare import build_network, probe

    # without classes, weights and num_classes, any number of outputs will do: it does not change the layers
    known = settings.network.weights or "num_classes" in settings.network.args
    classes = settings.network.classes or (() if known else ("any", "other"))
    built = build_network(settings, classes, context or RunContext())
    samples = frontend.samples(settings.frontend, settings.segment)
    survey = probe(built, frontend.build(settings.frontend), samples, settings.network)
    chosen = capture.choose(survey.layers, settings.network.layers)
    return LayerInventory(built.architecture, frozenset(layer.name for layer in chosen), survey)
