"""Rival classifiers on the same descriptors, with the same labels, tuning and cross-fitting as the fused rule."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramcli.errors import ResourceError
from gramcli.evaluation.spaces import Coordinates
from gramcli.fitting.conditional_logit import log_softmax
from gramcli.fitting.covariance import class_means, scatter, squared_distances
from gramcli.fitting.temperature import (
    floored_log_softmax,
    inverse_temperature,
    pool_scores,
    pool_weights,
    vector_scaling,
)

Array = NDArray[Any]
Scorer = Callable[[Array, Array | None], Array]
"""Takes coordinates (M, R) and the network's log p (M, C), returns scores (M, C)."""

NEAREST_MEAN = "nearest-mean"
LDA = "lda"
NEIGHBOURS = "neighbours"
PROBE = "probe"
PROBE_AND_NETWORK = "probe+network"
VECTOR = "vector"
NAMES = (NEAREST_MEAN, LDA, NEIGHBOURS, PROBE, PROBE_AND_NETWORK, VECTOR)
"""The last two need the network's own probabilities."""
NEEDS_NETWORK = (PROBE_AND_NETWORK, VECTOR)

SHRINKAGES = (None, 0.001, 0.01, 0.1, 0.5, 0.9)
"""Ledoit and Wolf's estimate, and others around it."""
K = (1, 3, 5, 9, 15, 25)
STRENGTHS = (0.03, 0.3, 3.0, 30.0, 300.0, 3000.0)
"""C of the probe, for clips at a distance of about 1."""
RIDGES = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Penalties that hold vector scaling near one temperature for all classes."""


def require_scikit_learn() -> None:
    """Raises a ResourceError if scikit-learn, which fits the probe, is not installed."""
    try:
        importlib.import_module("sklearn.linear_model")
    except ImportError:
        raise ResourceError(
            "--rivals needs scikit-learn, which is not installed; install it, or gramcli with its extra evaluate"
        ) from None


@dataclass(frozen=True, eq=False)
class FittingClips:
    """N training and validation clips that rivals are fitted on."""

    labels: NDArray[np.integer]
    """True classes, 0 to C - 1, (N,)."""
    part_of: NDArray[np.intp]
    """Part of each validation clip, 0 and up, as `deal_parts` deals them; -1 for training clips, (N,)."""
    classes: int
    """C."""
    log_p: Array | None = None
    """Log-probabilities of the network, (N, C)."""

    def only(self, chosen: NDArray[np.bool_]) -> FittingClips:
        """Returns some of the clips."""
        log_p = None if self.log_p is None else self.log_p[chosen]
        return FittingClips(self.labels[chosen], self.part_of[chosen], self.classes, log_p)


@dataclass(frozen=True, eq=False)
class Baseline:
    """A rival fitted on all training and validation clips."""

    name: str
    kind: str | None
    """Kind of feature that was chosen; None where only the network's logits are used."""
    setting: float | None
    """k, C, shrinkage or ridge that was chosen; None where there is none, or where it is estimated."""
    held_out: NDArray[np.float64]
    """Log-probabilities of the validation clips from fits that had not seen their part, (V, C)."""
    sharpness: float
    pool: tuple[float, float] | None
    """Weights of the probe's and of the network's log-probabilities."""
    scorer: Scorer

    def log_probabilities(
        self, coordinates: Mapping[str, Coordinates], log_p: Array | None = None
    ) -> NDArray[np.float64]:
        """Returns the logarithm of the probability of every class.

        Args:
            coordinates: Of the clips, as `Spaces.of` gives them.
            log_p: Log-probabilities of the network; may be None for rivals that are not in `NEEDS_NETWORK`.

        Raises:
            ValueError: The rival needs the network's log-probabilities.

        Shape:
            - log_p: (M, C)
            - returns: (M, C)
        """
        if self.name in NEEDS_NETWORK and log_p is None:
            raise ValueError(f"{self.name} needs the network's log-probabilities")
        values = np.empty((0, 0)) if self.kind is None else coordinates[self.kind].values
        scores = self.scorer(values, log_p)
        if self.pool is not None:
            assert log_p is not None
            scores = pool_scores(scores, log_p, self.pool)
        return floored_log_softmax(scores * self.sharpness)


def fit(name: str, coordinates: Mapping[str, Coordinates], clips: FittingClips) -> Baseline:
    """Fits one rival; kind of feature, hyper-parameter and temperature are chosen on clips held out.

    Every choice is fitted on all training clips and all parts of validation but one, and scores that one. The choice
    that makes the true classes likeliest, each at its own best temperature, is fitted again on all clips. The weights
    of the network's own outputs are fitted on validation clips alone: on training clips a network is too sure.

    Args:
        name: One of `NAMES`.
        coordinates: By kind of feature, `Spaces.fitted`.
        clips: The clips.

    Raises:
        ValueError: No such rival, labels or shapes that do not fit, fewer than two parts, or no log-probabilities.
        ResourceError: scikit-learn is not installed, and the rival is a probe.

    Shape:
        - coordinates: (N, R) each
    """
    labels, part_of, classes, log_p = clips.labels, clips.part_of, clips.classes, clips.log_p
    if name not in NAMES:
        raise ValueError(f"no such rival: {name}; there are {', '.join(NAMES)}")
    if labels.shape != part_of.shape or not ((labels >= 0) & (labels < classes)).all():
        raise ValueError(f"one part and a label from 0 to {classes - 1} a clip expected")
    if len(np.unique(part_of[part_of >= 0])) < 2:
        raise ValueError("cross-fitting takes 2 parts of validation clips")
    if name in NEEDS_NETWORK and (log_p is None or log_p.shape != (len(labels), classes)):
        raise ValueError(f"{name} needs the network's log-probabilities of {len(labels)} clips and {classes} classes")
    if name not in NEEDS_NETWORK:
        log_p, clips = None, FittingClips(labels, part_of, classes)

    held = part_of >= 0
    truth = labels[held]
    best: tuple[float, str | None, float | None, float, tuple[float, float] | None, Array] | None = None
    for kind, setting in _choices(name, list(coordinates)):
        points = np.empty((len(labels), 0)) if kind is None else coordinates[kind].values
        features = 0 if kind is None else coordinates[kind].features
        scores = np.empty((len(labels), classes))
        for part in np.unique(part_of[held]):
            seen, out = part_of != part, part_of == part
            if name == VECTOR:
                seen &= held
            scorer = _fitted(name, setting, points[seen], features, clips.only(seen))
            scores[out] = scorer(points[out], clips.only(out).log_p)
        pool, own = None, scores[held]
        if name == PROBE_AND_NETWORK:
            assert log_p is not None
            pool = pool_weights(own, log_p[held], truth)
            own = pool_scores(own, log_p[held], pool)
        sharpness = inverse_temperature(own, truth)
        held_out = floored_log_softmax(own * sharpness)
        loss = -float(held_out[np.arange(len(truth)), truth].mean())
        if best is None or loss < best[0]:
            best = loss, kind, setting, sharpness, pool, held_out
    assert best is not None
    _, kind, setting, sharpness, pool, held_out = best
    everyone = held if name == VECTOR else np.ones(len(labels), bool)
    points = np.empty((len(labels), 0)) if kind is None else coordinates[kind].values
    features = 0 if kind is None else coordinates[kind].features
    scorer = _fitted(name, setting, points[everyone], features, clips.only(everyone))
    return Baseline(name, kind, setting, held_out, sharpness, pool, scorer)


def _choices(name: str, kinds: Sequence[str]) -> Iterator[tuple[str | None, float | None]]:
    """Yields kinds of feature and hyper-parameters, the simplest first, which wins where two are equal."""
    if name == VECTOR:
        yield from ((None, ridge) for ridge in sorted(RIDGES, reverse=True))
        return
    settings: Mapping[str, Sequence[float | None]] = {
        NEAREST_MEAN: (None,),
        LDA: SHRINKAGES,
        NEIGHBOURS: sorted(K, reverse=True),
        PROBE: STRENGTHS,
        PROBE_AND_NETWORK: STRENGTHS,
    }
    for kind in kinds:
        yield from ((kind, setting) for setting in settings[name])


def _fitted(name: str, setting: float | None, points: Array, features: int, clips: FittingClips) -> Scorer:
    labels, classes, log_p = clips.labels, clips.classes, clips.log_p
    if name == VECTOR:
        assert log_p is not None
        assert setting is not None
        scale, shift = vector_scaling(np.asarray(log_p, np.float64), labels, setting)
        return lambda _, log_p: np.asarray(np.asarray(log_p, np.float64) * scale + shift)
    if name == NEAREST_MEAN:
        return _nearest_mean(points, labels, classes)
    if name == LDA:
        return _lda(points, labels, classes, features, setting)
    assert setting is not None
    if name == NEIGHBOURS:
        return _neighbours(points, labels, classes, int(setting))
    return _probe(points, labels, classes, setting)


def _spread(scores: Array, present: NDArray[np.intp], classes: int) -> NDArray[np.float64]:
    """Returns scores of all classes; -inf where a class had no clip."""
    whole = np.full((len(scores), classes), -np.inf)
    whole[:, present] = scores
    return whole


def _nearest_mean(points: Array, labels: NDArray[np.integer], classes: int) -> Scorer:
    present, means, _ = class_means(points, labels)
    return lambda new, _: _spread(-squared_distances(new, means), present, classes)


def _lda(points: Array, labels: NDArray[np.integer], classes: int, features: int, shrinkage: float | None) -> Scorer:
    r"""Returns the score -½ (x - m_c)ᵀ Σ⁻¹ (x - m_c) + log π_c, less what is the same for all classes."""
    present, means, residuals = class_means(points, labels)
    covariance = scatter(residuals, features).shrunk(shrinkage)
    white = covariance.whiten(means)
    prior = np.log(np.bincount(labels, minlength=classes)[present] / len(labels))
    return lambda new, _: _spread(-squared_distances(covariance.whiten(new), white) / 2 + prior, present, classes)


def _neighbours(points: Array, labels: NDArray[np.integer], classes: int, k: int) -> Scorer:
    k = min(k, len(points))
    present = np.unique(labels)
    # the nearer of equally many neighbours decide
    weights = 1 + 1e-3 * np.arange(k, 0, -1) / k

    def score(new: Array, _: Array | None) -> Array:
        nearest = np.argsort(squared_distances(new, points), axis=1, kind="stable")[:, :k]
        votes = np.zeros((len(new), classes))
        np.add.at(votes, (np.arange(len(new))[:, None], labels[nearest]), weights)
        # one vote more, shared by all classes, so that a class without neighbours is not impossible
        return _spread(np.log(votes[:, present] + 1 / len(present)), present, classes)

    return score


def _probe(points: Array, labels: NDArray[np.integer], classes: int, strength: float) -> Scorer:
    require_scikit_learn()
    from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    present = np.unique(labels)
    if len(present) == 1:
        return lambda new, _: _spread(np.zeros((len(new), 1)), present, classes)
    model = LogisticRegression(C=strength, max_iter=300, tol=1e-4)
    with warnings.catch_warnings():  # a probe that is still creeping is as good as one that has stopped
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(points, labels)

    def score(new: Array, _: Array | None) -> Array:
        margin = model.decision_function(new)
        # of two classes there is one margin; logarithms of its own probabilities would be infinite where it is sure
        two = np.stack([np.zeros_like(margin), margin], axis=1) if margin.ndim == 1 else margin
        return _spread(log_softmax(two), present, classes)

    return score
