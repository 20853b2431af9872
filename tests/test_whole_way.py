"""The real stages on real files beside the loop-for-loop reference, with an independent capture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from gramcli.cache import clip_table, statistics
from gramcli.cache.view import View
from gramcli.calibration.calibrate import calibrate
from gramcli.calibration.select_layers import select_layers
from gramcli.dataset.clip import SPLITS
from gramcli.extraction.extract import extract
from gramcli.inference.rule import Rule
from gramcli.network import frontend
from gramcli.network.build import build
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import CalibrateSettings, DecisionSettings, Settings
from tests import reference
from tests.support.sets import CLASSES, RATE, ROOT, quick, read_manifest, write_set

NETWORKS = {"ResNet": 7, "Vgg": 3, "DenseNet": 3}
LABELS = sorted(CLASSES)


def feature_maps(settings: Settings, paths: list[Path]) -> list[list[np.ndarray]]:
    """Activations by clip and layer: one clip at a time, NCHW, cloned in plain hooks in the order of the calls."""
    module = build(settings.network, len(LABELS), settings.data.seed, RunContext(folder=ROOT)).module
    front = frontend.build(settings.frontend)
    found: list[np.ndarray] = []
    for one in module.modules():
        if isinstance(one, nn.ReLU):
            one.register_forward_hook(lambda _, __, output: found.append(output[0].double().numpy().copy()))
    maps = []
    for path in paths:
        samples, rate = soundfile.read(path, dtype="float32")
        assert rate == RATE
        found.clear()
        with torch.no_grad():
            module(front(torch.from_numpy(samples)[None]))
        maps.append(list(found))
    return maps


@pytest.fixture(scope="module", params=NETWORKS)
def run(request, tmp_path_factory):
    """A network's cache after all stages, and the same from the reference."""
    folder = tmp_path_factory.mktemp(request.param)
    settings = quick(write_set(folder, clips=2), folder / "cache", f"tests.support.toys:{request.param}")
    extract(settings, RunContext(folder=ROOT))
    cache = Path(settings.cache.dir)
    calibrate(cache, CalibrateSettings(epsilon=0.05))
    lines = {
        split: [line for line in read_manifest(Path(settings.data.manifest)) if line.split == split] for split in SPLITS
    }
    maps = {split: feature_maps(settings, [folder / line.file for line in of]) for split, of in lines.items()}
    labels = {split: [LABELS.index(line.label) for line in of] for split, of in lines.items()}
    oracle = reference.calibrate(
        maps["train"], labels["train"], maps["validation"], labels["validation"], len(LABELS), 0.05
    )
    return request.param, cache, lines, maps, labels, oracle


def cached(cache: Path, file: str) -> dict[str, np.ndarray]:
    clip = next(clip for clip in clip_table.require(cache).rows if clip.id == file)
    rows = View.open(cache).read(clip.shard)
    return {layer: values[clip.row] for layer, values in rows.descriptors.items()}


def test_descriptors(run):
    name, cache, lines, maps, _, _ = run
    for split, of in lines.items():
        for line, clip in zip(of, maps[split], strict=True):
            rows = cached(cache, line.file)
            assert len(rows) == NETWORKS[name]
            for values, layer in zip(rows.values(), clip, strict=True):
                wanted = np.array(reference.row_sums(layer))
                np.testing.assert_allclose(values, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_expected_deviations_and_rankings(run):
    _, cache, _, _, _, oracle = run
    known = statistics.load(cache)
    np.testing.assert_allclose(known.expected, oracle.expected, rtol=1e-3, atol=1e-3)
    for ranking in ("rank", "wasserstein", "paper"):
        decision, _ = select_layers(cache, DecisionSettings(ranking=ranking, top_k="all"))
        scores = dict(zip(decision.ranking.layers, decision.ranking.scores, strict=True))
        for layer, scale, wanted in zip(known.layers, oracle.expected, oracle.scores[ranking], strict=True):
            # the raw distance is taken in units of E_l
            wanted = wanted / scale if ranking == "wasserstein" else wanted
            # a clip whose rank changes with the last bit moves W1 by less than 1/N
            assert scores[layer] == pytest.approx(wanted, rel=2e-3, abs=2e-2 if ranking == "rank" else 1e-3)


def test_total_deviations_and_labels(run):
    _, cache, lines, maps, _, oracle = run
    decision, known = select_layers(cache, DecisionSettings(top_k="all"))
    rule = Rule.of(known, decision)
    for line, clip in zip(lines["test"], maps["test"], strict=True):
        rows = cached(cache, line.file)
        scores = rule.scores({layer: rows[layer][None] for layer in rule.layers})
        wanted = np.array(oracle.totals(clip))
        assert (np.abs(scores[0] - wanted) <= 1e-3 * wanted + 1e-3).all()
        label, runner_up = reference.decide(oracle.totals(clip))
        if wanted[runner_up] - wanted[label] > 2e-3 * wanted[runner_up] + 2e-3:
            assert rule.choose(scores, None).label[0] == label


def test_training_clips_lie_within_their_own_bounds(run):
    _, cache, lines, _, labels, _ = run
    decision, known = select_layers(cache, DecisionSettings(top_k="all"))
    rule = Rule.of(known, decision)
    for line, label in zip(lines["train"], labels["train"], strict=True):
        rows = cached(cache, line.file)
        assert rule.scores({layer: rows[layer][None] for layer in rule.layers})[0, label] == 0.0


def test_epsilon_is_stored_and_used(run):
    _, cache, _, _, _, _ = run
    tight = calibrate(cache, replace(CalibrateSettings(), epsilon=1e-6))
    wide_expected = tight.expected
    assert tight.epsilon == 1e-6
    wide = calibrate(cache, replace(CalibrateSettings(), epsilon=0.5))
    assert (wide.expected <= wide_expected).all()
    assert (wide.expected < wide_expected).any()
    calibrate(cache, CalibrateSettings(epsilon=0.05))
