"""Miniatures laid out as two DCASE tasks go the whole way from training to a submission."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from gramcli.cli.app import run
from tests.support.sets import ROOT, sound, write_wav

TASKS = {
    # three classes, ten cities, one device
    "2020-1B": ({"indoor": "hum", "outdoor": "hiss", "transportation": "click"}, ("lisbon", "lyon", "paris")),
    "2019-1A": (
        {"airport": "hum", "bus": "click", "metro_station": "hiss", "park": "hum"},
        ("barcelona", "helsinki", "london"),
    ),
}
TOML = """
[segment]
seconds = 0.25
[frontend]
sample_rate = 8000
n_fft = 256
window_ms = 32
hop_ms = 16
n_mels = 16
[run]
decoders = 1
threads = 1
"""


def write_task(root: Path, scenes: dict[str, str], cities: tuple[str, ...], *, labelled: bool) -> list[str]:
    """Writes meta.csv, evaluation_setup and audio as the task's archive holds them; returns the test files."""
    rng = np.random.default_rng(5)
    rows = []
    for number, (scene, kind) in enumerate(scenes.items()):
        for city in cities:
            for place in range(2):
                for segment in range(2):
                    name = f"audio/{scene}-{city}-{number * 10 + place}-{segment}-a.wav"
                    samples = sound(kind, rng, 0.25) * (0.3 if scene == "park" else 1.0)
                    write_wav(root / name, np.stack([samples, 0.9 * samples], axis=1))
                    rows.append([name, scene, f"{city}-{number * 10 + place}", "a"])
    held = cities[-1]
    train = [row for row in rows if held not in row[0]]
    test = [row for row in rows if held in row[0]]

    def write(name: str, header: list[str], lines: list[list[str]]) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        with (root / name).open("w", newline="") as file:
            csv.writer(file, delimiter="\t").writerows([header, *lines])

    write("meta.csv", ["filename", "scene_label", "identifier", "source_label"], rows)
    write("evaluation_setup/fold1_train.csv", ["filename", "scene_label"], [row[:2] for row in train])
    write("evaluation_setup/fold1_test.csv", ["filename"], [row[:1] for row in test])
    if labelled:
        write("evaluation_setup/fold1_evaluate.csv", ["filename", "scene_label"], [row[:2] for row in test])
    return [row[0] for row in test]


@pytest.mark.parametrize("labelled", [True, False], ids=["evaluate", "test"])
@pytest.mark.parametrize("task", TASKS)
def test_from_training_to_submission(task, labelled, tmp_path, monkeypatch, capfd):
    scenes, cities = TASKS[task]
    test = write_task(tmp_path / "data", scenes, cities, labelled=labelled)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT)
    (tmp_path / "gramcli.toml").write_text(TOML)

    def gramcli(*arguments: str) -> str:
        capfd.readouterr()
        code = run([*arguments, "--quiet"])
        out, err = capfd.readouterr()
        assert code == 0, err
        return out

    gramcli("train", "data", "--network", "tests.support.training_toys:Small", "--epochs", "8", "--batch", "6",
            "--learning-rate", "0.01", "--out", "w.safetensors")  # fmt: skip
    gramcli("extract", "data", "--weights", "w.safetensors")
    gramcli("calibrate")
    gramcli("select-layers")
    if labelled:
        assert "gram" in gramcli("evaluate", "--format", "csv")
    gramcli("classify", *(f"data/{name}" for name in test), "--submission", "submission.tsv")
    with (tmp_path / "submission.tsv").open(newline="") as file:
        header, *lines = csv.reader(file, delimiter="\t")
    assert header[:2] == ["filename", "scene_label"]
    assert [line[0] for line in lines] == test
    assert {line[1] for line in lines} <= set(scenes)
    if header[2:]:
        assert header[2:] == sorted(scenes)
        assert np.array([line[2:] for line in lines], float).sum(axis=1) == pytest.approx(1, abs=1e-5)
