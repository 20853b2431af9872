"""Zero, equal, subnormal or huge descriptors give finite scores, and no class wins because of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gramcli.cache
from gramcli.cache import decision, statistics
from gramcli.cache.fitted_rule import FittedRule
from gramcli.cache.view import View
from gramcli.calibration.calibrate import calibrate
from gramcli.calibration.select_layers import select_layers
from gramcli.errors import ArtefactError, NoInputError
from gramcli.evaluation.evaluate import evaluate
from gramcli.gram.bounds import Bounds
from gramcli.gram.descriptor import normalise
from gramcli.gram.deviation import deviations
from gramcli.inference.rule import Rule
from gramcli.rule.fusion import Fusion
from gramcli.settings.schema import CalibrateSettings, DecisionSettings

SMALLEST, LARGEST = np.float32(1e-45), np.finfo(np.float32).max
RANKINGS = ("rank", "wasserstein", "paper")
NUMBERS = np.array([0, 0, 0, 1, 1, -1, SMALLEST, -SMALLEST, LARGEST, -LARGEST, 1e-30, 1e30, 0.5], np.float32)


def some(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Numbers of the worst kind: all alike, row by row alike, drawn from few, or ordinary ones."""
    kind = rng.integers(5)
    if kind == 0:
        return np.full(shape, rng.choice(NUMBERS), np.float32)
    if kind == 1:
        return np.broadcast_to(rng.choice(NUMBERS, (shape[0], 1)), shape).astype(np.float32)
    if kind == 2:
        return np.broadcast_to(rng.choice(NUMBERS, (1, shape[1])), shape).astype(np.float32)
    if kind == 3:
        return rng.choice(NUMBERS, shape)
    return rng.normal(size=shape).astype(np.float32)


def rule(rng: np.random.Generator, name: str) -> Rule | None:
    """A rule from such clips, as calibrate and select-layers make one; None where no layer tells anything."""
    classes, layers = int(rng.integers(1, 5)), [f"l{n}" for n in range(rng.integers(1, 4))]
    labels, validated = rng.integers(0, classes, rng.integers(1, 9)), rng.integers(0, classes, 6)
    epsilon = float(rng.choice([0.05, 1e-6, 1e-30]))
    bounds, expected, counts = {}, [], np.bincount(labels, minlength=classes)
    for layer in layers:
        channels = int(rng.integers(1, 7))
        found = Bounds.empty(classes, channels)
        found.update(normalise(some(rng, len(labels), channels)), labels)
        found = found.filled()
        far = deviations(normalise(some(rng, 6, channels)), found.lower, found.upper, epsilon)
        own = far[np.arange(6), validated][counts[validated] > 0]
        if len(own) and own.mean(dtype=np.float64) > 0:
            bounds[layer] = found.lower, found.upper
            expected.append(own.mean(dtype=np.float64))
    if not bounds:
        return None
    weights = rng.choice([0.0, 1e-300, 1.0, 1e6], len(bounds))
    trust = float(rng.choice([0.0, 1.0, 30.0]))
    fusion = Fusion(weights, 0.0, trust) if name == "fused" else None
    sharpness = None if name == "fused" else float(rng.choice([0.0, 1.0, 1e6]))
    chosen = int(rng.integers(1, 1 + len(bounds)))
    labelled = tuple(map(str, range(classes)))
    layers, means = tuple(bounds), np.array(expected)
    rule = FittedRule(name, layers, chosen, means, fusion, sharpness)
    made = Rule(labelled, bounds, counts, epsilon, rule)
    made.check()
    return made


@pytest.mark.parametrize("name", ["gram", "fused"])
@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_score_is_odd_and_no_class_without_clips_wins(count, name):
    made = 0
    for n in range(count):
        rng = np.random.default_rng([n, len(name)])
        one = rule(rng, name)
        if one is None:
            continue
        made += 1
        clips = int(rng.integers(1, 6))
        descriptors = {layer: some(rng, clips, lower.shape[1]) for layer, (lower, _) in one.bounds.items()}
        logits = some(rng, clips, len(one.classes)) if rng.random() < 0.8 else None
        prior = rng.dirichlet(np.ones(len(one.classes))) if rng.random() < 0.3 else None
        judged = one.judge(descriptors, logits, prior)
        there = one.present
        told = f"case {n}"
        assert np.isfinite(judged.deviations[:, there]).all(), told
        assert np.isfinite(judged.strangeness).all(), told
        assert there[judged.choice.label].all(), told
        if judged.log_p is not None:
            assert not np.isnan(judged.log_p).any(), told
            np.testing.assert_allclose(np.exp(judged.log_p).sum(axis=1), 1, rtol=1e-9, err_msg=told)
            assert (judged.log_p[:, ~there] == -np.inf).all(), told
    assert made > count / 5


@pytest.mark.parametrize("count", [10, pytest.param(500, marks=pytest.mark.slow)])
def test_the_whole_way_keeps_no_odd_number(tmp_path, count):
    ended = [whole_way(np.random.default_rng(n), tmp_path / str(n)) for n in range(count)]
    assert ended.count("ok") > count / 5, ended


def whole_way(rng: np.random.Generator, cache: Path, clips: int = 40) -> str:
    """Writes, calibrates, selects and evaluates; every file is read back with all that is checked of it."""
    labels = rng.choice(["a", "b", "c"][: rng.integers(1, 4)], clips).tolist()
    splits = rng.choice(["train", "validation", "test"], clips, p=[0.5, 0.3, 0.2]).tolist()
    layers = {f"l{k}": some(rng, clips, int(rng.integers(1, 6))) for k in range(3)}
    classes = sorted(set(labels)) if rng.random() < 0.5 else []
    logits = some(rng, clips, len(classes)) if classes else None
    keys = [f"clip {n}" for n in range(clips)]
    gramcli.cache.write(keys, layers, logits, labels=labels, splits=splits, classes=classes, cache=cache)
    try:
        calibrate(cache, CalibrateSettings(epsilon=float(rng.choice([0.05, 1e-6, 1e-30]))))
        select_layers(
            cache, DecisionSettings(rule=str(rng.choice(["fused", "gram"])), ranking=str(rng.choice(RANKINGS)))
        )
        result = evaluate(cache).clean
    except (ArtefactError, NoInputError) as error:  # nothing to learn from
        return str(error)
    known = statistics.load(cache, View.open(cache).fingerprint)
    kept = decision.load(cache, known)
    for layer in known.layers:
        known.bounds(layer)
        known.validation_deviations(layer)
    assert np.isfinite(known.expected).all()
    assert np.isfinite([score for score in kept.ranking.scores if not np.isnan(score)]).all()
    for name, found in result.decisions.items():
        assert 0 <= found["accuracy"] <= 1, name
        assert all(value is None or np.isfinite(value) for value in found.values() if isinstance(value, float)), name
    return "ok"
