"""The decision of a cache: the layer ranking and the fitted rule, written by select-layers.

``decision.safetensors`` is a sealed file (`gramcli.cache.sealed`). It holds the digest of the statistics that it was
computed from. Equal statistics and settings give equal bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gramcli.cache import fitted_rule, sealed, sealed_writer
from gramcli.cache.fitted_rule import FittedRule
from gramcli.cache.statistics import Statistics
from gramcli.errors import ArtefactError
from gramcli.text import shown

FILE = "decision.safetensors"
METHODS = ("rank", "wasserstein", "paper")
"""Ways to rank the layers."""


@dataclass(frozen=True)
class LayerRanking:
    """How the layers were ranked, and how many of them make up Δ̄."""

    method: str
    """rank, wasserstein or paper."""
    top_k: str
    """The setting: a number, auto or all."""
    layers: tuple[str, ...]
    """Layers that can be used, best score first."""
    scores: tuple[float, ...]
    """I_l (Eq. 12), in the order of `layers`."""
    accuracy: tuple[float, ...]
    """Validation accuracy of the first k layers, k = 1, 2, ... It selects k, so it is no estimate of accuracy."""
    chosen: int
    """k."""


@dataclass(frozen=True, eq=False)
class Decision:
    """The result of select-layers."""

    ranking: LayerRanking
    rule: FittedRule
    held_out: float | None
    """Accuracy of the rule on validation clips, each scored by layer weights fitted without its part. The ridge and the
    weights of network and discriminant were chosen on the same scores, so this accuracy is optimistic."""
    statistics: str
    """Digest of the statistics that it was computed from."""


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
    sealed_writer.write(cache / FILE, "decision", numbers | tensors, about | described, below=cache)


def load(cache: Path, statistics: Statistics) -> Decision:
    """Opens the decision that belongs to these statistics.

    Raises:
        ArtefactError: There is none yet, it is from other statistics, or an earlier version fitted it otherwise.
        DamagedError: The file is damaged.
    """
    file = sealed.load(cache / FILE, "decision", below=cache)
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
        _check(ranking, about["held_out"])
        return Decision(ranking, rule, about["held_out"], made_from)


def _check(ranking: LayerRanking, held_out: object) -> None:
    """Raises a ValueError or TypeError if a ranking or an accuracy is one that select-layers never writes."""
    layers = len(ranking.layers)
    if ranking.method not in METHODS:
        raise ValueError(f"the ranking is {ranking.method!r}, not one of {', '.join(METHODS)}")
    if not isinstance(ranking.top_k, str) or not (ranking.top_k in ("auto", "all") or ranking.top_k.isdecimal()):
        raise ValueError(f"top_k is {ranking.top_k!r}, not a number, auto or all")
    if len(ranking.scores) != layers or any(map(math.isinf, ranking.scores)):  # NaN where no class could be scored
        raise ValueError(f"the scores are not {layers} numbers")
    if len(ranking.accuracy) != layers or not all(0 <= one <= 1 for one in ranking.accuracy):
        raise ValueError(f"the accuracies are not {layers} numbers from 0 to 1")
    if held_out is not None and not (isinstance(held_out, float | int) and 0 <= held_out <= 1):
        raise ValueError(f"the held-out accuracy is {held_out!r}")
