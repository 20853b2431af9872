"""Real recordings and trained networks: ESC-10, fold 1 to calibrate the deviations, fold 5 to test."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gramcli.cache import clip_table
from gramcli.cache.view import View
from gramcli.calibration.calibrate import calibrate
from gramcli.calibration.select_layers import select_layers
from gramcli.dataset.clip import SPLITS
from gramcli.evaluation.evaluate import evaluate
from gramcli.extraction.extract import extract
from gramcli.inference.classifier import GramClassifier
from gramcli.settings.schema import CalibrateSettings, DecisionSettings, Settings
from tests.conftest import shared
from tests.guide.pages import console_blocks
from tests.guide.terminal import difference
from tests.support.esc10 import ESC10 as ESC10_BLOCKS
from tests.support.esc10 import README

ESC10 = {"resnet18": (65, 66), "mobilenetv2_100": (45, 58)}
"""Clips of 80 that are right: the network alone, and two independent runs of the rule with all layers."""

PAPER = {
    "resnet50": (49, 22_720),
    "densenet121": (121, 41_824),
    "vgg16": (15, 12_416),
    "mobilenetv2_100": (35, 15_552),
}


def esc10(network: str, cache: Path) -> tuple[Settings, dict[str, object]]:
    """Settings that make the network's input as the file beside its weights says."""
    about = json.loads(shared("models", f"esc10_fold5_{network}.json").read_text())
    base = Settings()
    chosen = replace(
        base,
        data=replace(base.data, manifest=str(shared("data", "esc10", "meta.csv")), validation_fold="1", test_fold="5"),
        segment=replace(base.segment, seconds=about["seconds"]),
        frontend=replace(base.frontend, mean=about["mean"], std=about["std"]),
        network=replace(
            base.network,
            name=network,
            weights=str(shared("models", f"esc10_fold5_{network}.safetensors")),
            classes=tuple(about["classes"]),
        ),
        cache=replace(base.cache, dir=str(cache)),
    )
    return chosen, about


@pytest.mark.parametrize("network", ESC10)
def test_esc10(network, tmp_path, request):
    chosen, about = esc10(network, tmp_path / "cache")
    cache = Path(chosen.cache.dir)
    if network == "resnet18":  # as README's first command has extracted it
        shutil.copytree(request.getfixturevalue("esc10").folder / ".gramcli", cache)
    else:
        done = extract(chosen)
        # two recordings are longer than 5 s and become two windows each
        assert (done.clips, done.forwarded, done.failed) == (402, 402, 0)
    assert View.open(cache).identity["weights"] == about["sha256"]
    calibrate(cache, CalibrateSettings(epsilon=1e-6))
    select_layers(cache, DecisionSettings(top_k="all"))
    result = evaluate(cache)
    assert (result.clean.clips, result.clean.failed) == (80, 0)
    alone, gram = (round(80 * result.clean.decisions[name]["accuracy"]) for name in ("map", "gram"))
    assert abs(alone - about["right"]["test"][0]) <= 1
    assert about["right"]["test"][0] == ESC10[network][0]
    assert abs(gram - ESC10[network][1]) <= 2
    assert about["gram_all_layers_test_right"] == ESC10[network][1]

    clip = next(clip for clip in clip_table.require(cache).rows if clip.split == "test")
    (row,) = GramClassifier.load(cache).predict([clip.path])
    assert row.status == "ok"
    assert row.label in about["classes"]


def test_readme_shows_what_its_commands_print(request):
    project = request.getfixturevalue("esc10")
    commands = [
        command for block in console_blocks(README) if block.where == ESC10_BLOCKS for command in block.commands
    ]
    wrong = [difference(command, project.printed[command.line]) for command in commands]
    assert len(wrong) == 5
    assert not any(wrong), "\n".join(filter(None, wrong))


@pytest.mark.parametrize("network", PAPER)
def test_the_papers_networks_go_the_whole_way(network, tmp_path):
    """Random weights, a few real clips: the numbers of layers and channels, and an answer at the end."""
    audio = shared("data", "esc10", "audio")
    recordings = {
        "dog_bark": ("1-100032-A", "2-114280-A", "3-136288-A"),
        "rain": ("1-17367-A", "2-101676-A", "3-132852-A"),
    }
    rows = ["file,label,split"]
    for label, names in recordings.items():
        rows += [f"{audio / name}.ogg,{label},{split}" for name, split in zip(names, SPLITS, strict=True)]
    manifest = tmp_path / "m.csv"
    manifest.write_text("\n".join(rows))
    base = Settings()
    chosen = replace(
        base,
        data=replace(base.data, manifest=str(manifest), audio_root=str(audio)),
        segment=replace(base.segment, seconds=2.0),
        network=replace(base.network, name=network),
        run=replace(base.run, batch=2),
        cache=replace(base.cache, dir=str(tmp_path / "cache")),
    )
    assert extract(chosen).failed == 0
    layers = View.open(tmp_path / "cache").layers
    assert (len(layers), sum(layers.values())) == PAPER[network]
    calibrate(tmp_path / "cache")
    select_layers(tmp_path / "cache", DecisionSettings(top_k="all"))
    rows = GramClassifier.load(tmp_path / "cache").predict([audio / "3-132852-A.ogg"])
    assert [(round(row.start), round(row.end)) for row in rows] == [(0, 2), (2, 4), (3, 5)]
    assert all(row.label in recordings for row in rows)
