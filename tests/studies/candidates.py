"""Candidates for the default decision, and other classifiers: all fitted and tested on the same clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from gramcli.cache.view import CLEAN
from gramcli.evaluation import baselines
from gramcli.evaluation.spaces import Spaces
from gramcli.fitting import conditional_logit
from gramcli.fitting.conditional_logit import log_softmax
from gramcli.fitting.cross_fitting import LabelledClips, cross_fit, deal_parts
from gramcli.fitting.features import PLAIN
from gramcli.fitting.temperature import fit_inverse_temperature
from gramcli.gram.descriptor import normalise
from gramcli.gram.deviation import deviations
from gramcli.gram.ranking import curve, how_many, layer_score, paper_score
from gramcli.gram.total import total
from gramcli.rule import discriminant, fusion
from gramcli.rule.novelty import strangeness

EPSILON = 0.05
TUNED = ("gain:-20", "lowpass:3000", "reverb:0.5")
"""Kinds of change that candidates "on altered clips" are fitted on; any other is news to them."""
QUANTILE = 0.05
"""Share of a class's training clips that quantile bounds leave out on either side."""

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Clips:
    """The clips of one split under one condition, in the order of their keys."""

    descriptors: Mapping[str, Array]
    """ĝ by layer, (N, K_l)."""
    means: Mapping[str, Array]
    """Channel means by layer, (N, K_l)."""
    log_p: Array
    """(N, C)."""
    labels: Array
    """(N,)."""
    groups: Array
    """(N,)."""

    @staticmethod
    def joined(some: list[Clips]) -> Clips:
        layers = some[0].descriptors
        return Clips(
            {layer: np.concatenate([one.descriptors[layer] for one in some]) for layer in layers},
            {layer: np.concatenate([one.means[layer] for one in some]) for layer in layers},
            *(np.concatenate([getattr(one, name) for one in some]) for name in ("log_p", "labels", "groups")),
        )

    def some(self, which: Array) -> Clips:
        return Clips(
            {layer: values[which] for layer, values in self.descriptors.items()},
            {layer: values[which] for layer, values in self.means.items()},
            self.log_p[which],
            self.labels[which],
            self.groups[which],
        )


ByCondition = Mapping[str, Mapping[str, Clips]]
"""By condition and split; training clips are there as recorded only."""
Score = Callable[[Clips], Array]
"""Takes clips, returns (N, C), higher for what is more like the class."""
Measure = Callable[[Clips], Array]
"""Takes clips, returns δ, (N, L, C)."""


def candidates(by_condition: ByCondition) -> dict[str, Score]:
    """Fits every candidate on training and validation clips, and returns what scores others, the default last."""
    training, known = by_condition[CLEAN]["train"], by_condition[CLEAN]["validation"]
    altered = Clips.joined([by_condition[name]["validation"] for name in (CLEAN, *TUNED)])
    classes = known.log_p.shape[1]
    sharp = fit_inverse_temperature(known.log_p, known.labels)
    as_is, literal = _measure(training, EPSILON), _measure(training, 1e-6)
    wide, narrow = _measure(training, EPSILON, spans=True), _measure(training, EPSILON, quantile=QUANTILE)
    found: dict[str, Score] = {
        "network": lambda clips: clips.log_p,
        "network, temperature": lambda clips: clips.log_p * sharp,
        "the paper's rule": _gram(literal, known, "paper", training),
        "the paper's rule, ε 0.05": _gram(as_is, known, "paper", training),
        "gram, raw W1": _gram(as_is, known, "wasserstein"),
        "gram, W1 of ranks": _gram(as_is, known, "rank"),
        "gram, W1 of ranks, altered clips": _gram(as_is, altered, "rank"),
        "gram, all layers": _gram(as_is, known, "all"),
        "gram, all layers, range denominators": _gram(wide, known, "all"),
        "gram, all layers, quantile bounds": _gram(narrow, known, "all"),
        "a log p - b log(1 + Δ̄)": _ratio(as_is, known),
        "one weight for all layers": _weights(as_is, known, equal=True),
        "one weight per layer": _weights(as_is, known),
        "one weight per layer, no network": _weights(as_is, known, network=False),
        "one weight per layer, range denominators": _weights(wide, known),
        "one weight per layer, quantile bounds": _weights(narrow, known),
        "one weight per layer, altered clips": _weights(as_is, altered),
    }
    found |= _rivals(training, known, classes)
    found["fused, altered clips"] = _fused(as_is, training, altered)
    found["all layers together"] = _fused(as_is, training, known, layers_too=False)
    found["fused, no network"] = _fused(as_is, training, known, network=False)
    fused = found["fused"] = _fused(as_is, training, known)
    found["fused, network where strange"] = _gated(as_is, known, fused, sharp)
    found["fused"] = found.pop("fused")
    return found


# --- deviations


def _measure(training: Clips, epsilon: float, *, spans: bool = False, quantile: float = 0.0) -> Measure:
    """Returns what measures δ from bounds of the training clips.

    Args:
        training: Sets the bounds.
        epsilon: Smallest denominator.
        spans: Whether the widths of the ranges are the denominators, not their ends.
        quantile: Share of the clips that may lie beyond each bound.
    """
    bounds = {}
    for layer, raw in training.descriptors.items():
        scaled = normalise(raw)
        own = [scaled[training.labels == c] for c in range(training.log_p.shape[1])]
        bounds[layer] = tuple(
            np.stack([np.quantile(some, at, axis=0) for some in own]).astype(np.float32)
            for at in (quantile, 1 - quantile)
        )

    def one(scaled: Array, lower: Array, upper: Array) -> Array:
        if not spans:
            return deviations(scaled, lower, upper, epsilon)
        width = np.maximum(upper - lower, np.float32(epsilon))
        beyond = [np.maximum(np.maximum(lo - scaled, scaled - up), 0) / w for lo, up, w in zip(lower, upper, width)]  # noqa: B905
        return np.stack([each.sum(axis=1, dtype=np.float64) for each in beyond], axis=1).astype(np.float32)

    return lambda clips: np.stack(
        [one(normalise(raw), *bounds[layer]) for layer, raw in clips.descriptors.items()], axis=1
    )


def _own(far: Array, labels: Array) -> Array:
    return far[np.arange(len(labels)), :, labels]


def _usable(far: Array, labels: Array) -> tuple[Array, Array]:
    """Returns layers with evidence, and their E_l."""
    expected = _own(far, labels).mean(axis=0, dtype=np.float64)
    layers = np.flatnonzero(expected > 0)
    return layers, expected[layers]


def _gram(measure: Measure, known: Clips, ranking: str, training: Clips | None = None) -> Score:
    """The smallest Δ̄ over the layers of best validation accuracy, or over all."""
    far, labels = measure(known), known.labels
    layers, expected = _usable(far, labels)
    if ranking != "all":
        if ranking == "paper":
            assert training is not None
            others, there = measure(training)[:, layers], np.eye(far.shape[2], dtype=bool)[training.labels]
            counts = (~there).sum(axis=0)
            means = (others * ~there[:, None]).sum(axis=0, dtype=np.float64) / counts
            score = [paper_score(one, counts) for one in means]
        else:
            score = [
                layer_score((far[:, n] / e).astype(np.float32), labels, ranking)
                for n, e in zip(layers, expected, strict=True)
            ]
        order = np.argsort(-np.array(score), kind="stable")
        layers, expected = layers[order], expected[order]
        everyone = np.ones(far.shape[2], bool)
        first = how_many("auto", curve((far[:, n] for n in layers), expected, everyone, known.log_p, labels))
        layers, expected = layers[:first], expected[:first]
    return lambda clips: -total(measure(clips)[:, layers], expected)


# --- network and layers


def _ratio(measure: Measure, known: Clips) -> Score:
    far = measure(known)
    layers, expected = _usable(far, known.labels)

    def both(clips: Clips, far: Array) -> Array:
        return np.stack([clips.log_p, -np.log1p(total(far[:, layers], expected))], axis=-1)

    weights = conditional_logit.fit(both(known, far), known.labels)
    return lambda clips: both(clips, measure(clips)) @ weights


def _expecter(far: Array, labels: Array) -> Callable[[Array], Array]:
    whole = _own(far, labels).mean(axis=0, dtype=np.float64)

    def expect(clips: Array) -> Array:
        some = _own(far[clips], labels[clips]).mean(axis=0, dtype=np.float64)
        return np.where(some > 0, some, whole)

    return expect


def _evidence_from(far: Array, labels: Array) -> Callable[[Array, Array], Array]:
    """Returns z of all clips, in units of E_l of some of them."""
    expect = _expecter(far, labels)
    return lambda clips, rows: fusion.evidence(far[rows], expect(clips))


def _weights(measure: Measure, known: Clips, *, network: bool = True, equal: bool = False) -> Score:
    """One weight per layer on the logarithm of its deviations, and one for the network where it adds to them."""
    far, labels = measure(known), known.labels
    layers, _ = _usable(far, labels)
    far = far[:, layers]
    log_p = known.log_p if network else None
    with _only_ridge(1e6 if equal else None):
        rule = fusion.choose(_evidence_from(far, labels), _labelled(known, far), log_p=log_p).fusion
    expected = _expecter(far, labels)(np.ones(len(labels), bool))
    return lambda clips: rule.scores(fusion.evidence(measure(clips)[:, layers], expected), clips.log_p)


def _labelled(known: Clips, far: Array) -> LabelledClips:
    return LabelledClips(known.labels, deal_parts(known.groups, known.labels), far.shape[2])


@contextmanager
def _only_ridge(ridge: float | None) -> Iterator[None]:
    """Lets `fusion.choose` try one ridge alone; all if None."""
    before = fusion.RIDGES
    fusion.RIDGES = before if ridge is None else (ridge,)
    try:
        yield
    finally:
        fusion.RIDGES = before


def _fused(measure: Measure, training: Clips, known: Clips, *, layers_too: bool = True, network: bool = True) -> Score:
    """The same beside what all layers say together: the rule of the package."""
    far, labels = measure(known), known.labels
    layers, _ = _usable(far, labels)
    far = far[:, layers]
    held = _labelled(known, far)
    everything = Clips.joined([training, known])
    placed = np.concatenate([np.full(len(training.labels), -1), held.part_of])
    learnt = discriminant.fit(everything.descriptors, LabelledClips(everything.labels, placed, far.shape[2]))
    if not layers_too:
        return lambda clips: learnt.discriminant.log_probabilities(clips.descriptors)
    rule = fusion.choose(
        _evidence_from(far, labels),
        held,
        log_q=learnt.held_out,
        log_p=known.log_p if network else None,
    ).fusion
    expected = _expecter(far, labels)(np.ones(len(labels), bool))
    return lambda clips: rule.scores(
        fusion.evidence(measure(clips)[:, layers], expected),
        clips.log_p,
        learnt.discriminant.log_probabilities(clips.descriptors),
    )


def _gated(measure: Measure, known: Clips, fused: Score, sharp: float) -> Score:
    """The network alone for clips beyond what 95 % of validation clips show."""
    far, labels = measure(known), known.labels
    layers, expected = _usable(far, labels)
    far, expect = far[:, layers], _expecter(far[:, layers], labels)
    strange = cross_fit(
        deal_parts(known.groups, labels), lambda seen, held: strangeness(fusion.evidence(far[held], expect(seen)))
    )
    gate = np.sort(strange)[int(np.ceil(0.95 * len(strange))) - 1]

    def score(clips: Clips) -> Array:
        beyond = strangeness(fusion.evidence(measure(clips)[:, layers], expected)) > gate
        return np.where(beyond[:, None], log_softmax(clips.log_p * sharp), log_softmax(fused(clips)))

    return score


# --- rivals


def _rivals(training: Clips, known: Clips, classes: int) -> dict[str, Score]:
    everything = Clips.joined([training, known])
    seen = np.arange(len(everything.labels)) < len(training.labels)
    placed = np.where(seen, -1, 0)
    placed[~seen] = deal_parts(known.groups, known.labels)
    held = LabelledClips(everything.labels, placed, classes)
    found: dict[str, Score] = {}

    def add(prefix: str, of: Callable[[Clips], Mapping[str, Array]], kinds: tuple[str, ...], names: tuple[str, ...]):
        spaces = Spaces.fit(of(everything), seen, kinds)
        for name in names:
            rival = baselines.fit(name, spaces.fitted, held, everything.log_p)
            found[f"rival: {prefix}{name}"] = lambda clips, rival=rival: rival.log_probabilities(
                spaces.of(of(clips)), clips.log_p
            )

    add("", lambda clips: clips.descriptors, ("log", "scaled"), baselines.NAMES)
    add("means-", lambda clips: clips.means, (PLAIN, "log"), (baselines.LDA, baselines.PROBE))
    return found


def without_labels(clips: Clips) -> Clips:
    """Returns clips that cannot tell what they are."""
    return replace(clips, labels=np.full(len(clips.labels), -1))
