"""The whole method of `gramcli.gram`, from feature maps to labels, compared with the reference in plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gramcli.gram.bounds import Bounds
from gramcli.gram.descriptor import normalise
from gramcli.gram.deviation import deviations
from gramcli.gram.exact_mean import ExactMean
from gramcli.gram.ranking import layer_score, paper_score
from gramcli.gram.total import decide, total
from gramcli.network.row_sums import row_sums
from tests import reference

CLASSES = 4
SHAPES = [(6, 4, 5), (9, 3, 3), (1, 4, 4), (5, 7), (12,)]
"""Shapes of the layers: maps, sequences, vectors, and one channel, for which g̃, δ and E_l are 0."""

Clips = list[list[np.ndarray]]


def clips(rng: np.random.Generator, labels: np.ndarray) -> Clips:
    """Returns feature maps in which some channels are larger for each class."""
    return [
        [
            rng.gamma(1.5, 2 + (np.arange(shape[0]) % CLASSES == c), (*shape[1:], shape[0])).T.astype(np.float32)
            for shape in SHAPES
        ]
        for c in labels
    ]


def scaled(data: Clips, layer: int) -> np.ndarray:
    maps = torch.from_numpy(np.stack([clip[layer] for clip in data]))
    return normalise(row_sums(maps).numpy())


@pytest.mark.parametrize("epsilon", [0.05, 1e-6])
@pytest.mark.parametrize("absent", [None, 2])
def test_from_maps_to_labels(rng, epsilon, absent):
    known = np.array([c for c in range(CLASSES) if c != absent])
    train_labels = np.array([*known.repeat(4), known[0]])  # one class is larger
    validation_labels, test_labels = np.arange(CLASSES).repeat(3), np.arange(CLASSES).repeat(4)
    train, validation, test = (clips(rng, labels) for labels in (train_labels, validation_labels, test_labels))
    oracle = reference.calibrate(train, train_labels.tolist(), validation, validation_labels.tolist(), CLASSES, epsilon)
    present = np.isin(np.arange(CLASSES), known)

    tables, expected = [], []
    for layer in range(len(SHAPES)):
        bounds = Bounds.empty(CLASSES, SHAPES[layer][0])
        bounds.update(scaled(train, layer), train_labels)
        edges = bounds.filled().lower, bounds.filled().upper, epsilon
        held_out = deviations(scaled(validation, layer), *edges)
        tables.append(deviations(scaled(test, layer), *edges))

        measured = present[validation_labels]
        own = held_out[measured, validation_labels[measured]].tolist()
        expected.append(math.fsum(own) / len(own))
        assert expected[-1] == pytest.approx(oracle.expected[layer], rel=1e-5)

        negatives = ExactMean((CLASSES,))
        negatives.add(deviations(scaled(train, layer), *edges), (train_labels[:, None] != np.arange(CLASSES)) & present)
        scores = {
            ranking: layer_score(held_out, validation_labels, ranking, present) for ranking in ("rank", "wasserstein")
        }
        scores["paper"] = paper_score(negatives.mean(), negatives.counts)
        for ranking, score in scores.items():
            assert score == pytest.approx(oracle.scores[ranking][layer], rel=1e-5), ranking

    usable = np.flatnonzero(np.array(expected) > 0)
    assert usable.tolist() == [0, 1, 3, 4]
    means = total(np.stack(tables, axis=1)[:, usable], np.array(expected)[usable])
    choice = decide(means, present)
    for i, clip in enumerate(test):
        wanted = oracle.totals(clip)
        np.testing.assert_allclose(means[i, present], np.array(wanted)[present], rtol=1e-5)
        assert (choice.label[i], choice.runner_up[i]) == reference.decide(wanted)
    assert (choice.label == test_labels).mean() > 1 / CLASSES
