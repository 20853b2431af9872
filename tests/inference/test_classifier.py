"""New recordings through a calibrated cache, an exported model, and the judge beside them."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gramcli.cache import clip_table, statistics
from gramcli.cache.view import View
from gramcli.calibration.calibrate import calibrate
from gramcli.calibration.select_layers import select_layers
from gramcli.errors import ArtefactError, DamagedError, NoInputError, UsageError
from gramcli.evaluation.evaluate import evaluate
from gramcli.extraction.extract import extract
from gramcli.inference.bundle import export
from gramcli.inference.classifier import COLUMNS, GramClassifier
from gramcli.network import checkpoint
from gramcli.progress import Silent
from gramcli.settings.configure import configure
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import DecisionSettings
from tests.support.sets import RATE, ROOT, SECONDS, headless, quick, read_manifest, sound, write_manifest, write_wav


@pytest.fixture(scope="module")
def classifier(selected):
    return GramClassifier.load(selected)


def test_predictions_agree_with_evaluate(selected, sounds, classifier):
    result = evaluate(selected)
    lines = [line for line in read_manifest(sounds) if line.split == "test"]
    rows = classifier.predict(sounds.parent / line.file for line in lines)
    assert (result.default, result.clean.clips, result.clean.failed, len(rows)) == ("fused", 9, 0, 9)
    right = [row.label == line.label for row, line in zip(rows, lines, strict=True)]
    alone = [row.network_label == line.label for row, line in zip(rows, lines, strict=True)]
    assert result.clean.decisions["fused"]["accuracy"] == np.mean(right)
    assert result.clean.decisions["map"]["accuracy"] == np.mean(alone)
    assert result.clean.decisions["fused"]["accuracy"] > 0.5
    chances = [math.log(row.probabilities[line.label]) for row, line in zip(rows, lines, strict=True)]
    assert result.clean.decisions["fused"]["negative_log_likelihood"] == pytest.approx(-np.mean(chances), rel=1e-6)


class Files(Silent):
    """Counts files and failures."""

    def __init__(self):
        super().__init__()
        self.steps, self.failed = 0, 0

    def advance(self, steps, failed=0):
        self.steps += steps
        self.failed += failed


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_file_counts_as_failed_whichever_of_its_windows_fails(selected, tmp_path, rng, bad):
    window = int(RATE * SECONDS)
    samples = np.concatenate([sound("hum", rng) for _ in range(3)]).astype(np.float32)
    write_wav(tmp_path / "whole.wav", samples)
    samples[window * bad + 7] = np.nan
    soundfile.write(tmp_path / "broken.wav", samples, RATE, subtype="FLOAT")
    progress = Files()
    rows = GramClassifier.load(selected, RunContext(progress=progress)).predict([tmp_path])
    assert [row.status for row in rows].count("failed") >= 1
    assert {row.path for row in rows if row.status == "failed"} == {str(tmp_path / "broken.wav")}
    assert (progress.steps, progress.failed) == (2, 1)


def test_a_prediction_says_what_it_is(classifier, sounds):
    (row,) = classifier.predict([sounds.parent / "hum-3-0.wav"])
    assert tuple(row.row()) == COLUMNS
    assert (row.start, row.end, row.status, row.error) == (0.0, SECONDS, "ok", "")
    assert sum(row.probabilities.values()) == pytest.approx(1)
    chances = sorted(row.probabilities.items(), key=lambda item: -item[1])
    assert (row.label, row.probability_if_known) == chances[0]
    assert (row.runner_up, row.margin) == (chances[1][0], pytest.approx(math.log(chances[0][1] / chances[1][1])))
    assert row.deviation == row.deviations[row.label]
    assert row.unknown is None  # three groups set no threshold
    assert 1 / 3 <= row.network_confidence <= 1
    assert row.tied is False
    assert all(math.isfinite(value) for value in row.deviations.values())


def test_a_runner_up_without_a_chance_has_no_margin(selected, sounds):
    alone = GramClassifier.load(selected, prior={"hum": 1})
    (row,) = alone.predict([sounds.parent / "hum-3-0.wav"])
    assert (row.label, row.probability_if_known, row.margin, row.tied) == ("hum", 1.0, None, False)
    weights = GramClassifier.load(selected, prior={"hum": 30, "hiss": 10, "click": 10})
    shares = GramClassifier.load(selected, prior={"hum": 0.6, "hiss": 0.2})
    (one,), (other,) = (classifier.predict([sounds.parent / "hum-3-0.wav"]) for classifier in (weights, shares))
    assert one.probabilities == pytest.approx(other.probabilities)


def test_a_training_clip_does_not_deviate(classifier, sounds):
    (row,) = classifier.predict([sounds.parent / "hiss-0-1.wav"])
    assert (row.label, row.deviation) == ("hiss", 0.0)


def test_windows_and_failures_keep_their_order(classifier, tmp_path):
    rng = np.random.default_rng(0)
    long = write_wav(tmp_path / "long.wav", sound("hum", rng, 2.5 * SECONDS))
    short = write_wav(tmp_path / "short.wav", sound("hiss", rng, 0.4 * SECONDS))
    (tmp_path / "bad.wav").write_text("no audio")
    rows = classifier.predict([long, tmp_path / "bad.wav", short])
    spans = [(Path(row.path).name, row.start, row.end, row.status) for row in rows]
    assert spans == [
        ("long.wav", 0.0, SECONDS, "ok"),
        ("long.wav", SECONDS, 2 * SECONDS, "ok"),
        ("long.wav", 1.5 * SECONDS, 2.5 * SECONDS, "ok"),
        ("bad.wav", None, None, "failed"),
        ("short.wav", 0.0, 0.4 * SECONDS, "ok"),
    ]
    assert "not audio" in rows[3].error
    assert rows[3].label is None


def test_a_bad_file_does_not_change_the_others(classifier, sounds, tmp_path):
    good = [sounds.parent / name for name in ("hum-3-0.wav", "hiss-3-1.wav", "click-3-2.wav")]
    bad = write_wav(tmp_path / "nan.wav", np.full(round(SECONDS * RATE), np.nan, np.float32))
    mixed = classifier.predict([good[0], bad, *good[1:]])
    assert [row for row in mixed if row.status == "ok"] == classifier.predict(good)


def test_a_lone_file_has_the_same_result_as_in_company(classifier, sounds):
    files = [sounds.parent / f"hum-3-{n}.wav" for n in range(3)]
    assert [classifier.predict([file])[0] for file in files] == classifier.predict(files)


def test_one_file_needs_no_list(classifier, sounds):
    file = sounds.parent / "hum-3-0.wav"
    (row,) = classifier.predict([file])
    assert classifier.predict(file) == classifier.predict(str(file)) == [row]


def test_folders_are_searched(classifier, sounds):
    assert len(classifier.predict([sounds.parent])) == 36


def test_an_empty_folder(classifier, tmp_path):
    with pytest.raises(NoInputError):
        classifier.predict([tmp_path])


def test_an_exported_model_needs_nothing_else(selected, classifier, sounds, tmp_path, monkeypatch):
    remembered = View.open(selected).recorded["settings"]
    size = export(
        configure(RunContext(), earlier=remembered, metadata=checkpoint.settings_of_file),
        selected,
        tmp_path / "model.safetensors",
    )
    assert size == (tmp_path / "model.safetensors").stat().st_size
    assert str(selected).encode() not in (tmp_path / "model.safetensors").read_bytes()
    files = [sounds.parent / f"click-3-{n}.wav" for n in range(3)]
    wanted = classifier.predict(files)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gramcli.toml").write_text('[network]\nname = "resnet18"\n[run]\nbatch = 3\n')
    alone = GramClassifier.load(tmp_path / "model.safetensors")
    assert alone.predict(files) == wanted
    assert alone.settings.run.batch == 3
    assert alone.classes == classifier.classes


def test_a_damaged_model_is_refused(selected, tmp_path):
    remembered = View.open(selected).recorded["settings"]
    path = tmp_path / "model.safetensors"
    export(configure(RunContext(), earlier=remembered, metadata=checkpoint.settings_of_file), selected, path)
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=r"model\.safetensors: is damaged"):
        GramClassifier.load(path)
    with pytest.raises(ArtefactError, match="is a statistics file, not a model file"):
        GramClassifier.load(selected / statistics.FILE)


def test_another_network_than_the_cache_was_made_with(cache):
    flags = {"data": {"seed": 1}}
    with pytest.raises(ArtefactError, match=r"the network does not fit the statistics \(weights: "):
        GramClassifier.load(cache, RunContext(flags))


def test_without_a_head_the_network_says_nothing(sounds, tmp_path):
    settings = headless(quick(sounds, tmp_path / "cache"))
    extract(settings, RunContext(folder=ROOT))
    calibrate(tmp_path / "cache")
    select_layers(tmp_path / "cache")
    (row,) = GramClassifier.load(tmp_path / "cache").predict([sounds.parent / "hum-0-0.wav"])
    assert (row.label, row.network_label, row.network_confidence) == ("hum", None, None)
    result = evaluate(tmp_path / "cache")
    assert set(result.clean.decisions) == {"gram", "fused"}
    assert result.verdict.startswith("The network has no outputs for these classes")


def test_evaluate_refuses_what_it_cannot_judge(cache):
    with pytest.raises(UsageError, match="there is no split dev; there are train, validation, test"):
        evaluate(cache, "dev")
    manifest = Path(View.open(cache).recorded["settings"]["data"]["manifest"])
    changed = manifest.with_name("untested.csv")
    write_manifest(changed, [line for line in read_manifest(manifest) if line.split != "test"])
    extract(quick(changed, cache), RunContext(folder=ROOT))
    with pytest.raises(NoInputError, match="the test split has no labelled clip that can be used"):
        evaluate(cache)


def test_evaluate_counts_failures(sounds, tmp_path):
    shutil.copytree(sounds.parent, tmp_path / "sounds")
    manifest = tmp_path / "sounds" / "manifest.csv"
    lines = read_manifest(manifest)
    test = next(line for line in lines if line.split == "test")
    (manifest.parent / "bad.wav").write_text("no audio")
    nan = write_wav(manifest.parent / "nan.wav", np.full(2000, np.nan, np.float32))
    write_manifest(manifest, [*lines, replace(test, file="bad.wav"), replace(test, file=nan.name)])
    extract(quick(manifest, tmp_path / "cache"), RunContext(folder=ROOT))
    calibrate(tmp_path / "cache")
    select_layers(tmp_path / "cache", DecisionSettings(top_k="all"))
    result = evaluate(tmp_path / "cache")
    assert (result.clean.clips, result.clean.failed) == (9, 2)
    assert {clip.id for clip in clip_table.require(tmp_path / "cache").rows if clip.error} == {"bad.wav"}
