"""The identity of a network's descriptors and logits: everything that their values depend on.

It is stored with a cache and an exported model. Its SHA-256 (`gramcli.identity.fingerprint`) ties shards, statistics
and decisions to the network that they were computed with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gramcli.errors import ArtefactError
from gramcli.identity import differences
from gramcli.settings.schema import Settings

if TYPE_CHECKING:
    from gramcli.network.build import BuiltNetwork

FORMAT = 1
"""Version of what is computed; a change that alters descriptors raises it."""

RESAMPLER = "soxr HQ"


def identify(
    settings: Settings, built: BuiltNetwork, classes: Sequence[str], layers: Sequence[tuple[str, int]]
) -> dict[str, Any]:
    """Returns all that descriptors and logits depend on, as JSON values.

    Args:
        settings: All settings; those of network, front end, segment and precision count.
        built: The network.
        classes: Labels of its outputs, in order.
        layers: Name and channels of each recorded layer, in the order they run.
    """
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


def require_same(stored: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Refuses a network that is not the one that a cache or a model was made with.

    Raises:
        ArtefactError: The identities differ; every field that does is named.
    """
    changed = differences(stored, found)
    if changed:
        raise ArtefactError(
            f"the network does not fit the statistics ({'; '.join(changed)}); give the settings of the extract, "
            "as --weights, or extract into another cache"
        )
