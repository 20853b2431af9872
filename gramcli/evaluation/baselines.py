"""Baselines: common classifiers on the same descriptors, labels and cross-fitting parts as the rule ``fused``."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramcli.errors import ResourceError
from gramcli.evaluation.spaces import Coordinates
from gramcli.fitting.conditional_logit import log_softmax
from gramcli.fitting.covariance import class_means, scatter, squared_distances
from gramcli.fitting.cross_fitting import LabelledClips
from gramcli.fitting.temperature import (
    fit_inverse_temperature,
    floored_log_softmax,
    pool_scores,
    pool_weights,
    vector_scaling,
)

Array = NDArray[Any]
Scorer = Callable[[Array, Array | None], Array]
"""A function of coordinates (M, R) and the network's log p (M, C), or None, that returns scores (M, C)."""

NEAREST_MEAN = "nearest-mean"
LDA = "lda"
NEIGHBOURS = "neighbours"
PROBE = "probe"
PROBE_AND_NETWORK = "probe+network"
VECTOR = "vector"
NAMES = (NEAREST_MEAN, LDA, NEIGHBOURS, PROBE, PROBE_AND_NETWORK, VECTOR)
"""All baselines."""
NEEDS_NETWORK = (PROBE_AND_NETWORK, VECTOR)
"""Baselines that need the network's probabilities."""

SHRINKAGES = (None, 0.001, 0.01, 0.1, 0.5, 0.9)
"""Shrinkages of the covariance that LDA tries. None is the estimate of Ledoit and Wolf."""
NEIGHBOUR_COUNTS = (1, 3, 5, 9, 15, 25)
"""Numbers of neighbours that are tried."""
PROBE_STRENGTHS = (0.03, 0.3, 3.0, 30.0, 300.0, 3000.0)
"""Inverse ridges (C of scikit-learn) that the probe tries, for clips at a distance of about 1 from the centre."""
VECTOR_RIDGES = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Ridges that vector scaling tries. They pull its factors towards one temperature for all classes."""


def require_scikit_learn() -> None:
    """Raises a ResourceError if scikit-learn, which the probe needs, is not installed."""
    try:
        importlib.import_module("sklearn.linear_model")
    except ImportError:
        raise ResourceError(
            "rivals need scikit-learn, which is not installed; install it, or gramcli with its extra evaluate"
        ) from None


@dataclass(frozen=True, eq=False)
class Baseline:
    """A fitted baseline: vector scaling on all validation clips, the others on all training and validation clips."""

    name: str
    kind: str | None
    """Kind of feature that was chosen; None if only the network's outputs are used."""
    setting: float | None
    """Hyper-parameter that was chosen: k, C, shrinkage or ridge. None if there is none, or for the
    estimate of Ledoit and Wolf."""
    held_out: NDArray[np.float64]
    """Log-probabilities of the V validation clips, each from a fit without its part, (V, C)."""
    inverse_temperature: float
    pool: tuple[float, float] | None
    """Weights of the log-probabilities of probe and network; None for other baselines."""
    scorer: Scorer

    def log_probabilities(
        self, coordinates: Mapping[str, Coordinates], log_p: Array | None = None
    ) -> NDArray[np.float64]:
        """Returns the log-probability of each class for new clips.

        Args:
            coordinates: Coordinates of the clips by kind of feature, from `Spaces.of`.
            log_p: Log-probabilities of the network. Only the baselines in `NEEDS_NETWORK` use them.

        Raises:
            ValueError: The baseline needs the network's log-probabilities.

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
        return floored_log_softmax(scores * self.inverse_temperature)


@dataclass(frozen=True, eq=False)
class _Clips:
    """Clips in one feature space."""

    points: Array
    """(N, R); no columns for a baseline that uses only the network."""
    features: int
    """D, the number of features of the space."""
    labels: NDArray[np.integer]
    classes: int
    log_p: Array | None
    """Log-probabilities of the network, (N, C); None for a baseline that does not use them."""

    @classmethod
    def of(cls, space: Coordinates | None, clips: LabelledClips, log_p: Array | None) -> _Clips:
        points, features = (np.empty((len(clips.labels), 0)), 0) if space is None else (space.values, space.features)
        return cls(points, features, clips.labels, clips.classes, log_p)

    def take(self, mask: NDArray[np.bool_]) -> _Clips:
        log_p = None if self.log_p is None else self.log_p[mask]
        return replace(self, points=self.points[mask], labels=self.labels[mask], log_p=log_p)


@dataclass(frozen=True, eq=False)
class _Choice:
    """One kind of feature and hyper-parameter, and what cross-fitting with them gives."""

    loss: float
    kind: str | None
    setting: float | None
    inverse_temperature: float
    pool: tuple[float, float] | None
    held_out: Array


def fit(
    name: str, coordinates: Mapping[str, Coordinates], clips: LabelledClips, log_p: Array | None = None
) -> Baseline:
    """Fits one baseline. Kind of feature, hyper-parameter and temperature are chosen by cross-fitting.

    Each candidate is fitted on the training clips and on all parts of the validation clips but one, and scores this
    part. The candidate whose scores give the true classes the largest likelihood, with its own best temperature, is
    fitted again on all clips. What uses the network's own outputs is fitted on validation clips alone, because a
    network is too confident on its training clips.

    Args:
        name: One of `NAMES`.
        coordinates: Coordinates of the clips by kind of feature, as in `Spaces.fitted`.
        clips: Labels and parts; training clips have no part.
        log_p: Log-probabilities of the network.

    Raises:
        ValueError: The baseline is unknown, or log-probabilities are missing or do not fit.
        ResourceError: The baseline is a probe, and scikit-learn is not installed.

    Shape:
        - coordinates: (N, R) each
        - log_p: (N, C)
    """
    if name not in NAMES:
        raise ValueError(f"no such baseline: {name}; there are {', '.join(NAMES)}")
    shape = len(clips.labels), clips.classes
    if name in NEEDS_NETWORK and (log_p is None or log_p.shape != shape):
        raise ValueError(f"{name} needs the network's log-probabilities of {shape[0]} clips and {shape[1]} classes")
    if name not in NEEDS_NETWORK:
        log_p = None

    best: _Choice | None = None
    for kind, setting in _choices(name, list(coordinates)):
        data = _Clips.of(None if kind is None else coordinates[kind], clips, log_p)
        choice = _cross_fitted(name, kind, setting, data, clips)
        if best is None or choice.loss < best.loss:
            best = choice
    assert best is not None
    used = clips.in_parts if name == VECTOR else np.ones(len(clips.labels), bool)
    data = _Clips.of(None if best.kind is None else coordinates[best.kind], clips, log_p)
    scorer = _fit_scorer(name, best.setting, data.take(used))
    return Baseline(name, best.kind, best.setting, best.held_out, best.inverse_temperature, best.pool, scorer)


def _cross_fitted(name: str, kind: str | None, setting: float | None, data: _Clips, clips: LabelledClips) -> _Choice:
    """Scores each part of the validation clips by a fit without it, and fits pool weights and temperature."""
    held = clips.in_parts
    scores = np.empty((len(clips.labels), clips.classes))
    for part in clips.parts:
        fitted, out = clips.part_of != part, clips.part_of == part
        if name == VECTOR:
            fitted &= held
        scored = data.take(out)
        scores[out] = _fit_scorer(name, setting, data.take(fitted))(scored.points, scored.log_p)
    truth, pool, combined = clips.labels[held], None, scores[held]
    if name == PROBE_AND_NETWORK:
        assert data.log_p is not None
        pool = pool_weights(combined, data.log_p[held], truth)
        combined = pool_scores(combined, data.log_p[held], pool)
    factor = fit_inverse_temperature(combined, truth)
    log_p = floored_log_softmax(combined * factor)
    loss = -float(log_p[np.arange(len(truth)), truth].mean())
    return _Choice(loss, kind, setting, factor, pool, log_p)


def _choices(name: str, kinds: Sequence[str]) -> Iterator[tuple[str | None, float | None]]:
    """Yields kinds of feature and hyper-parameters, in a fixed order. Of equally good ones the first is taken."""
    if name == VECTOR:
        yield from ((None, ridge) for ridge in sorted(VECTOR_RIDGES, reverse=True))
        return
    settings: Mapping[str, Sequence[float | None]] = {
        NEAREST_MEAN: (None,),
        LDA: SHRINKAGES,
        NEIGHBOURS: sorted(NEIGHBOUR_COUNTS, reverse=True),
        PROBE: PROBE_STRENGTHS,
        PROBE_AND_NETWORK: PROBE_STRENGTHS,
    }
    for kind in kinds:
        yield from ((kind, setting) for setting in settings[name])


def _fit_scorer(name: str, setting: float | None, clips: _Clips) -> Scorer:
    if name == VECTOR:
        assert clips.log_p is not None
        assert setting is not None
        scale, shift = vector_scaling(np.asarray(clips.log_p, np.float64), clips.labels, setting)
        return lambda _, log_p: np.asarray(np.asarray(log_p, np.float64) * scale + shift)
    if name == NEAREST_MEAN:
        return _nearest_mean(clips)
    if name == LDA:
        return _lda(clips, setting)
    assert setting is not None
    if name == NEIGHBOURS:
        return _neighbours(clips, int(setting))
    return _probe(clips, setting)


def _with_absent(scores: Array, present: NDArray[np.intp], classes: int) -> NDArray[np.float64]:
    """Returns the scores of all classes, with -inf for classes without clips."""
    whole = np.full((len(scores), classes), -np.inf)
    whole[:, present] = scores
    return whole


def _nearest_mean(clips: _Clips) -> Scorer:
    present, means, _ = class_means(clips.points, clips.labels)
    return lambda new, _: _with_absent(-squared_distances(new, means), present, clips.classes)


def _lda(clips: _Clips, shrinkage: float | None) -> Scorer:
    r"""Returns the score -½ (x - m_c)ᵀ Σ⁻¹ (x - m_c) + log π_c, without terms that are the same for all classes."""
    present, means, residuals = class_means(clips.points, clips.labels)
    covariance = scatter(residuals, clips.features).shrunk(shrinkage)
    white = covariance.whiten(means)
    prior = np.log(np.bincount(clips.labels, minlength=clips.classes)[present] / len(clips.labels))
    return lambda new, _: _with_absent(
        -squared_distances(covariance.whiten(new), white) / 2 + prior, present, clips.classes
    )


def _neighbours(clips: _Clips, k: int) -> Scorer:
    k = min(k, len(clips.points))
    present = np.unique(clips.labels)
    # if two classes have equally many neighbours, the nearer ones decide
    weights = 1 + 1e-3 * np.arange(k, 0, -1) / k

    def score(new: Array, _: Array | None) -> Array:
        nearest = np.argsort(squared_distances(new, clips.points), axis=1, kind="stable")[:, :k]
        votes = np.zeros((len(new), clips.classes))
        np.add.at(votes, (np.arange(len(new))[:, None], clips.labels[nearest]), weights)
        # one more vote is shared by all classes, so that a class without neighbours does not get probability 0
        return _with_absent(np.log(votes[:, present] + 1 / len(present)), present, clips.classes)

    return score


def _probe(clips: _Clips, strength: float) -> Scorer:
    """Returns the scores of a logistic regression."""
    require_scikit_learn()
    from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    present = np.unique(clips.labels)
    if len(present) == 1:
        return lambda new, _: _with_absent(np.zeros((len(new), 1)), present, clips.classes)
    model = LogisticRegression(C=strength, max_iter=300, tol=1e-4)
    with warnings.catch_warnings():  # a probe that has nearly converged is good enough
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "The number of unique classes")  # labels that are taken for measurements
        model.fit(clips.points, clips.labels)

    def score(new: Array, _: Array | None) -> Array:
        margin = model.decision_function(new)
        # for two classes scikit-learn returns one margin; its log-probabilities would be infinite for sure clips
        scores = np.stack([np.zeros_like(margin), margin], axis=1) if margin.ndim == 1 else margin
        return _with_absent(log_softmax(scores), present, clips.classes)

    return score
