"""The decision of a cache: the ranking of its layers and the rule that select-layers has fitted.

``decision.safetensors`` names the statistics that it was made from. It is sealed (`gramcli.cache.sealed`). Equal
statistics and settings give equal bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gramcli.cache import fitted_rule, regular_file, sealed
from gramcli.cache.fitted_rule import FittedRule
from gramcli.cache.statistics import Statistics
from gramcli.errors import ArtefactError
from gramcli.text import shown

FILE = "decision.safetensors"


@dataclass(frozen=True)
class LayerRanking:
    """How the layers were ranked, and how many of them make up Δ̄."""

    method: str
    """rank, wasserstein or paper."""
    top_k: str
    """As asked for: a number, auto or all."""
    layers: tuple[str, ...]
    """Layers that can be used, from the best score to the worst."""
    scores: tuple[float, ...]
    """I_l of Eq. 12, in that order."""
    accuracy: tuple[float, ...]
    """Validation accuracy of the first k layers, k = 1, 2, ... It selects k and estimates nothing."""
    chosen: int
    """k."""


@dataclass(frozen=True, eq=False)
class Decision:
    """What select-layers found."""

    ranking: LayerRanking
    rule: FittedRule
    held_out: float | None
    """Accuracy of the rule on validation clips, each scored by weights that were fitted without its part. The strength
    of the ridge and the shares of network and discriminant were chosen on the same scores, so the figure flatters."""
    statistics: str
    """Digest of the statistics that it was made from."""


def save(cache: Path, decision: Decision) -> None:
    """Writes the decision.

    Raises:
        ResourceError: It cannot be written.
    """
    ranking = decision.ranking
    numbers = {"scores": np.array(ranking.scores), "accuracy": np.array(ranking.accuracy)}
    about = {
        "ranking": ranking.method,
        "top_k": ranking.top_k,
        "order": list(ranking.layers),
        "statistics": decision.statistics,
        "held_out": decision.held_out,
    }
    tensors, described = fitted_rule.pack(decision.rule)
    sealed.write(cache / FILE, "decision", numbers | tensors, about | described)


def load(cache: Path, statistics: Statistics) -> Decision:
    """Opens the decision that belongs to these statistics.

    Raises:
        ArtefactError: There is none yet, or it is from other statistics or from an earlier version that fitted it
            otherwise.
        DamagedError: It is not as it was written.
    """
    regular_file.require_regular(cache / FILE)
    file = sealed.load(cache / FILE, "decision")
    about = file.about
    with sealed.reading(file):
        layers, made_from = tuple(about["order"]), about["statistics"]
    if made_from != statistics.digest:
        raise ArtefactError(f"{shown(file.path)}: was made from other statistics; run gramcli select-layers again")
    with sealed.reading(file):
        rule = fitted_rule.unpack(file, layers, statistics.expected_of(layers))
        rule.check(statistics.layers, int((statistics.counts > 0).sum()))
        ranking = LayerRanking(
            about["ranking"],
            about["top_k"],
            layers,
            tuple(file["scores"].tolist()),
            tuple(file["accuracy"].tolist()),
            rule.chosen,
        )
        return Decision(ranking, rule, about["held_out"], made_from)
