"""A cache made on a processor judges what a GPU hears; skipped where there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gramcli.cache import clip_table
from gramcli.calibration.calibrate import calibrate
from gramcli.calibration.select_layers import select_layers
from gramcli.extraction.extract import extract
from gramcli.inference.classifier import GramClassifier
from gramcli.settings.run_context import RunContext
from gramcli.training.train import train
from tests.support.sets import ROOT, quick
from tests.test_real_audio import esc10

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


def compare(cache: Path, files: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns Δ̄ (windows, classes) on processor and GPU of the same files; labels differ at most within rounding."""
    found = []
    for device in ("cpu", "cuda"):
        found.append(GramClassifier.load(cache, RunContext({"run": {"device": device}})).predict(files))
    here, there = (list(rows) for rows in found)
    for one, other in zip(here, there, strict=True):
        assert (one.path, one.status) == (other.path, other.status) == (one.path, "ok")
        assert one.label == other.label or one.margin <= 1e-3 * max(1, abs(one.deviation))
    return tuple(np.array([list(row.deviations.values()) for row in rows]) for rows in (here, there))  # type: ignore[return-value]


@pytest.mark.parametrize("network", ["resnet18", "mobilenetv2_100"])
def test_a_cache_of_the_processor_scores_descriptors_of_the_gpu(network, tmp_path):
    chosen, _ = esc10(network, tmp_path / "cache")
    extract(replace(chosen, run=replace(chosen.run, device="cpu", decoders=8)))
    calibrate(tmp_path / "cache")
    select_layers(tmp_path / "cache")
    files = [clip.path for clip in clip_table.require(tmp_path / "cache").rows if clip.split == "test"]
    here, there = compare(tmp_path / "cache", files)
    apart = np.abs(here - there)
    print(f"{network}: largest difference of Δ̄ {apart.max():.2g}, relative {(apart / here.clip(1e-9)).max():.2g}")
    assert (apart <= 1e-3 * here + 1e-3).all()
    assert np.quantile(apart / (1 + here), 0.99) <= 1e-4


def test_training_and_extraction_go_the_whole_way_on_the_gpu(sounds, tmp_path):
    base = quick(sounds, tmp_path / "cache", "tests.support.training_toys:Small", device="cuda")
    chosen = replace(base, train=replace(base.train, epochs=2, batch=7))
    weights = tmp_path / "w.safetensors"
    train(chosen, weights, RunContext(folder=ROOT))
    weighted = replace(chosen, network=replace(chosen.network, weights=str(weights)))
    assert extract(weighted, RunContext(folder=ROOT)).failed == 0
    calibrate(tmp_path / "cache")
    select_layers(tmp_path / "cache")
    (row,) = GramClassifier.load(tmp_path / "cache", RunContext({"run": {"device": "cuda"}})).predict(
        [next(clip.path for clip in clip_table.require(tmp_path / "cache").rows if clip.split == "test")]
    )
    assert row.status == "ok"
