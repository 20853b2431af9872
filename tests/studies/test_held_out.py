"""The study of held-out classes on small generated recordings, and its scores against plain loops."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from gramcli.cache import clip_table
from gramcli.network import frontend
from gramcli.system import folder_lock
from tests.studies import held_out
from tests.studies.unknown_scores import OWN, SplitClips, others, ways
from tests.support.sets import CLASSES, ROOT, quick, read_manifest, write_set

pytestmark = pytest.mark.no_cover  # the package has tests of its own

HELD = "click"


# --- the whole way


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """Runs `main` on sounds and a network that are small."""
    folder = tmp_path_factory.mktemp("held out")
    manifest = write_set(folder / "sounds")

    def settings(data, out, name, fold, seed, held):
        chosen = quick(manifest, out / f"without-{held}", "tests.support.training_toys:Small")
        chosen = replace(
            chosen,
            data=replace(chosen.data, hold_out=(held,)),
            network=replace(chosen.network, classes=()),
            train=replace(chosen.train, epochs=15, learning_rate=0.01),
        )
        return chosen, out / f"without-{held}.safetensors"

    def run(monkeypatch, *arguments: str) -> Path:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(held_out, "settings", settings)
        monkeypatch.setattr(sys, "argv", ["held_out", str(folder / "out"), "--data", str(folder), *arguments])
        held_out.main()
        return folder

    return run


def test_every_class_in_turn_and_nothing_twice(benchmark, monkeypatch, capsys):
    folder = benchmark(monkeypatch)
    first = capsys.readouterr().out
    results = sorted((folder / "out").glob("*.npz"))
    assert [path.name for path in results] == [f"without-{label}.npz" for label in sorted(CLASSES)]
    assert "| left out: 3 | AUROC |" in first
    assert f"| {OWN} | " in first
    before = {path: path.stat().st_mtime_ns for path in results}
    monkeypatch.setattr(held_out, "train", None)
    monkeypatch.setattr(held_out, "extract", None)
    benchmark(monkeypatch)
    assert capsys.readouterr().out == first
    assert {path: path.stat().st_mtime_ns for path in results} == before
    with folder_lock.lock(folder / "out" / "running" / f"without-{HELD}"):
        benchmark(monkeypatch)
    output = capsys.readouterr().out
    assert f"{HELD}: another run is at it" in output
    assert "| left out: 2 | AUROC |" in output
    benchmark(monkeypatch, "--labels", HELD)
    assert "| left out: 1 | AUROC |" in capsys.readouterr().out


def test_what_is_heard_of_each_clip(benchmark, monkeypatch):
    folder = benchmark(monkeypatch)
    splits, expected = held_out.read_splits(folder / "out" / f"without-{HELD}")
    clips = clip_table.require(folder / "out" / f"without-{HELD}")
    lines = {line.file: line for line in read_manifest(folder / "sounds" / "manifest.csv")}
    left = [label for label in sorted(CLASSES) if label != HELD]
    front = frontend.build(quick(folder / "x", folder / "y").frontend)
    assert [len(splits[split].labels) for split in ("train", "validation", "test", "unknown")] == [12, 6, 6, 3]
    for split, one in splits.items():
        some = clips.used(split)
        wanted = [-1 if split == "unknown" else left.index(lines[clip.id].label) for clip in some]
        assert one.labels.tolist() == wanted
        assert one.deviations.shape == (len(some), len(expected), 2)
        for layer, values in one.descriptors.items():
            np.testing.assert_allclose(one.roots[layer][:, 0], values, rtol=0, atol=1e-4 * values.max())
        for n, clip in enumerate(some):
            samples, rate = soundfile.read(clip.path, dtype="float32")
            assert one.plain["duration"][n] == pytest.approx(len(samples) / rate)
            assert one.plain["level"][n] == pytest.approx(10 * np.log10(np.mean(samples.astype(float) ** 2)), abs=1e-4)
            assert one.plain["zero_samples"][n] == np.mean(np.abs(samples) < 2.0**-16)
        mels = front(torch.from_numpy(np.stack([soundfile.read(c.path, dtype="float32")[0] for c in some])))
        # the network's mean and std come between
        plain = mels.numpy().mean(axis=(1, 3))
        slope = np.ptp(one.spectra) / np.ptp(plain)
        np.testing.assert_allclose(one.spectra - one.spectra.mean(), slope * (plain - plain.mean()), atol=1e-3)


# --- scores


def made(rng, clips: int, labels: np.ndarray) -> SplitClips:
    """Clips of three classes; those of label -1 are far from all bounds, and the network is less sure of them."""
    own = labels >= 0
    far = rng.gamma(2.0, 1.0, (clips, 4, 3)) + 1.0
    far[own, :, labels[own]] *= 0.3
    far[~own] *= 1.5
    logits = rng.normal(size=(clips, 3))
    logits[own, labels[own]] += 3.0
    centres = np.random.default_rng(7).normal(scale=2, size=(4, 5))
    values = {layer: np.exp(centres[labels] + 0.5 * rng.normal(size=(clips, 5))) for layer in ("a", "b")}
    return SplitClips(
        labels=labels,
        logits=logits,
        descriptors=values,
        deviations=far.astype(np.float32),
        roots={layer: np.repeat(one[:, None], 10, axis=1) for layer, one in values.items()},
        spectra=centres[labels] + 0.5 * rng.normal(size=(clips, 5)),
        plain={"duration": 5.0 + (labels < 0) + 0.1 * rng.normal(size=clips)},
    )


@pytest.fixture
def splits():
    rng = np.random.default_rng(0)
    sizes = {"train": 60, "validation": 30, "test": 40}
    found = {split: made(rng, clips, np.arange(clips) % 3) for split, clips in sizes.items()}
    return {**found, "unknown": made(rng, 20, np.full(20, -1))}


@pytest.fixture
def expected(splits):
    one = splits["validation"]
    return one.deviations[np.arange(30), :, one.labels].mean(axis=0, dtype=np.float64)


def test_every_score_is_higher_for_what_is_strange(splits, expected):
    found = held_out.scores(splits, expected)
    assert len(found) == 10 + 10
    for name, (known, unknown) in found.items():
        assert (known.shape, unknown.shape) == ((40,), (20,)), name
        assert np.isfinite(known).all(), name
        assert roc_auc_score([0] * 40 + [1] * 20, np.concatenate([known, unknown])) > 0.7, name


def test_no_score_reads_a_test_label(splits, expected):
    before = held_out.scores(splits, expected)
    changed = {**splits, "test": replace(splits["test"], labels=splits["test"].labels[::-1])}
    for name, pair in held_out.scores(changed, expected).items():
        np.testing.assert_array_equal(pair[0], before[name][0])


def test_nothing_is_fitted_on_the_clips_it_judges(splits, expected):
    """Each clip by itself has the score that it has among others."""
    fitted = others(splits["train"], splits["validation"], expected) | ways(splits["validation"], expected)
    whole = splits["unknown"]
    alone = SplitClips(
        whole.labels[:1],
        whole.logits[:1],
        {layer: one[:1] for layer, one in whole.descriptors.items()},
        whole.deviations[:1],
        {layer: one[:1] for layer, one in whole.roots.items()},
        whole.spectra[:1],
        {name: one[:1] for name, one in whole.plain.items()},
    )
    for name, score in fitted.items():
        assert score(alone)[0] == pytest.approx(score(whole)[0], rel=1e-5), name


def test_the_ways_are_what_they_are_called(splits, expected):
    """Number by number."""
    validation, judged = splits["validation"], splits["unknown"]

    def logs(clips, n):
        return [
            [np.log(0.1 + float(clips.deviations[n, layer, c]) / expected[layer]) for c in range(3)]
            for layer in range(4)
        ]

    own = [[row[validation.labels[n]] for row in logs(validation, n)] for n in range(30)]
    centre = [np.mean([clip[layer] for clip in own]) for layer in range(4)]
    spread = [np.std([clip[layer] for clip in own]) for layer in range(4)]

    def nearest(rows):
        return min(sum(row[c] for row in rows) / len(rows) for c in range(3))

    def energy(logits):
        return -np.log(sum(np.exp(one) for one in logits))

    strange = [nearest(logs(validation, n)) for n in range(30)]
    energies = [energy(validation.logits[n]) for n in range(30)]
    largest = [-max(validation.logits[n]) for n in range(30)]
    found = {name: score(judged) for name, score in ways(validation, expected).items()}
    for n in range(20):
        rows = logs(judged, n)
        u = (nearest(rows) - np.mean(strange)) / np.std(strange)
        wanted = {
            "mean of δ/E, not of its logarithm": nearest(
                [[judged.deviations[n, layer, c] / expected[layer] for c in range(3)] for layer in range(4)]
            ),
            "each layer's own nearest class": np.mean([min(row) for row in rows]),
            "layers standardised": nearest(
                [[(value - centre[layer]) / spread[layer] for value in row] for layer, row in enumerate(rows)]
            ),
            "beyond what is usual of each class": min(
                np.mean([row[c] for row in rows]) - np.mean([own[i] for i in range(30) if validation.labels[i] == c])
                for c in range(3)
            ),
            "early half of the layers": nearest(rows[:2]),
            "late half of the layers": nearest(rows[2:]),
            "late quarter of the layers": nearest(rows[3:]),
            "the network's class, not the nearest": np.mean([row[int(np.argmax(judged.logits[n]))] for row in rows]),
            "with energy": u + (energy(judged.logits[n]) - np.mean(energies)) / np.std(energies),
            "with max logit": u + (-max(judged.logits[n]) - np.mean(largest)) / np.std(largest),
        }
        assert {name: scores[n] for name, scores in found.items()} == pytest.approx(wanted, rel=1e-5)


def test_a_class_without_validation_clips_is_like_the_others(splits, expected):
    some = splits["validation"].labels < 2
    validation = replace(
        splits["validation"],
        labels=splits["validation"].labels[some],
        logits=splits["validation"].logits[some],
        deviations=splits["validation"].deviations[some],
    )
    (score,) = [one for name, one in ways(validation, expected).items() if name.startswith("beyond")]
    assert np.isfinite(score(splits["unknown"])).all()


def test_the_report_is_the_mean_over_classes():
    rng = np.random.default_rng(1)
    results = {
        f"class {n}": {name: (rng.normal(size=30), rng.normal(shift, size=5)) for name, shift in ((OWN, 1), ("x", 0))}
        for n in range(12)
    }
    head, _, first, second = held_out.report(results).splitlines()
    assert head.startswith("| left out: 12 | AUROC | beyond strangeness | lowest | AUPR (0.143: chance) |")
    truth = [0] * 30 + [1] * 5
    for name, line in ((OWN, first), ("x", second)):
        joined = [np.concatenate(found[name]) for found in results.values()]
        areas = [roc_auc_score(truth, one) for one in joined]
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        assert cells[:2] == [name, f"{np.mean(areas):.3f}"]
        assert cells[3] == f"{min(areas):.2f} (class {np.argmin(areas)})"
        assert cells[4] == f"{np.mean([average_precision_score(truth, one) for one in joined]):.3f}"
        known, unknown = zip(*(found[name] for found in results.values()), strict=True)
        # 29 of 30 known clips is the least share of at least 95 %
        assert cells[5] == f"{np.mean([(u <= np.sort(k)[28]).mean() for k, u in zip(known, unknown, strict=True)]):.3f}"
    assert first.split("|")[3].strip() == ""
    assert second.split("|")[3].strip().startswith("-0.")
    assert " to " in second
