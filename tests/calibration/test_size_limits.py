from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import gramcli.cache
from gramcli import guide
from gramcli.cache import statistics
from gramcli.calibration import select_layers as selecting
from gramcli.calibration import size_limits
from gramcli.calibration.calibrate import calibrate
from gramcli.calibration.select_layers import select_layers
from gramcli.calibration.size_limits import Size, clips_of_fit, require_subsamples
from gramcli.errors import ResourceError
from gramcli.evaluation.evaluate import evaluate
from gramcli.progress import Silent
from gramcli.rule import discriminant
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import DecisionSettings
from tests.support.informative_caches import write_cache


@pytest.mark.parametrize(
    ("size", "named"),
    [
        (Size(50_000, 17, 3904, 100), "50000 classes × 3904 channels is 195200000"),
        (Size(5_000, 10_000, 20_000, 10), "5000 classes × (10000 layers + 8 scores) is 50040000"),
        (Size(50_000, 2, 8, 50_000), "50000 classes × 50000 validation clips is 2500000000"),
        (Size(10_000, 100, 1000, 10_000), "10000 classes × 10000 validation clips × 100 layers is 10000000000"),
    ],
)
def test_a_size_that_does_not_fit_is_refused_with_the_limit(size, named):
    with pytest.raises(ResourceError, match=rf"too large: {re.escape(named)}, and gramcli works with at most \d+; use"):
        size.require_possible()


@pytest.mark.parametrize("size", [Size(50_000, 2, 8, 300), Size(3, 10_000, 20_000, 18), Size(527, 60, 30_000, 100_000)])
def test_large_sizes_are_possible(size):
    size.require_possible()


def test_the_guide_states_the_limits():
    page = (Path(guide.__file__).parent / "speed.md").read_text()
    stated = [size_limits.MAX_FIT, size_limits.MAX_FIT // size_limits.MIN_CLIPS]
    stated += [size_limits.MAX_FIT // size_limits.FEWEST_CLIPS, size_limits.MAX_BOUNDS, size_limits.MAX_RIVALS]
    stated += [size_limits.MAX_RULE, size_limits.MAX_LAYER, size_limits.MAX_DEVIATIONS, size_limits.MAX_NEGATIVES]
    stated += [size_limits.MAX_HELD_OUT]
    assert [f"{limit:,}" for limit in stated if f"{limit:,}" not in page] == []
    assert f"{size_limits.MAX_DISCRIMINANT_BYTES / 2**30:g} GiB" in page


def test_a_fit_uses_fewer_clips_the_more_numbers_a_clip_has():
    assert clips_of_fit(17, 10) == size_limits.PREFERRED_NUMBERS // 170
    assert clips_of_fit(30, 1000) == size_limits.MIN_CLIPS
    for layers, classes in ((2, 50_000), (10_000, 300), (500, 2000)):
        clips = clips_of_fit(layers, classes)
        assert size_limits.FEWEST_CLIPS <= clips < size_limits.MIN_CLIPS
        assert clips * classes * (layers + 8) <= size_limits.MAX_FIT


def test_calibrate_refuses_before_it_reads_a_clip(tmp_path, monkeypatch):
    write_cache(tmp_path)
    (tmp_path / statistics.FILE).unlink()
    monkeypatch.setattr(size_limits, "MAX_RULE", 3 * 32 - 1)
    for shard in (tmp_path / "views" / "clean" / "shards").iterdir():
        shard.write_bytes(b"")
    with pytest.raises(ResourceError, match="3 classes × 32 channels is 96, and gramcli works with at most 95; use"):
        calibrate(tmp_path)
    assert not (tmp_path / statistics.FILE).exists()


def test_rivals_and_the_paper_s_ranking_are_refused_for_themselves(tmp_path, monkeypatch):
    write_cache(tmp_path)
    select_layers(tmp_path)
    monkeypatch.setattr(size_limits, "MAX_RIVALS", 3 * 210 - 1)
    with pytest.raises(ResourceError, match=r"rivals: 210 .* × 3 classes is 630, .* at most 629; leave out --rivals"):
        evaluate(tmp_path, rivals=True)
    monkeypatch.setattr(size_limits, "MAX_NEGATIVES", 120 * 3 * 2 - 1)
    with pytest.raises(ResourceError, match=r"120 training clips × 3 classes × 2 layers is 720, .* at most 719; set"):
        select_layers(tmp_path, DecisionSettings(ranking="paper"))


def test_subsamples_that_do_not_fit_are_refused_with_what_to_set():
    require_subsamples(10, 60, 4000)
    with pytest.raises(ResourceError, match=r"10000 subsamples of them × 20000 channels is .* calibrate.class_size"):
        require_subsamples(5000, 10_000, 20_000)


def test_without_memory_for_a_discriminant_the_rule_does_without(tmp_path, monkeypatch):
    write_cache(tmp_path)
    monkeypatch.setattr(selecting, "MAX_DISCRIMINANT_BYTES", 1)
    notes = Silent()
    decision, _ = select_layers(tmp_path, progress=notes)
    assert decision.rule.name == "fused"
    assert decision.rule.discriminant is None
    assert any("no discriminant over all layers: 210 clips" in note for note in notes.notes)


def test_only_the_clips_of_the_fit_are_scored_by_the_discriminant_if_scores_are_many(tmp_path, monkeypatch):
    write_cache(tmp_path)
    monkeypatch.setattr("gramcli.calibration.fit_rule.MAX_HELD_OUT", 1)
    monkeypatch.setattr(size_limits, "PREFERRED_NUMBERS", 1)
    monkeypatch.setattr(size_limits, "MIN_CLIPS", 40)
    scored = []

    def fit(descriptors, clips, progress):
        scored.append(int(clips.in_parts.sum()))
        return discriminant.fit(descriptors, clips, progress)

    monkeypatch.setattr("gramcli.calibration.fit_rule.discriminant", SimpleNamespace(fit=fit))
    notes = Silent()
    decision, _ = select_layers(tmp_path, progress=notes)
    assert scored == [40]
    assert any("the discriminant is cross-fitted on 40 of 90 validation clips" in note for note in notes.notes)
    assert decision.rule.discriminant is not None
    assert evaluate(tmp_path).clean.decisions["fused"]["accuracy"] > 0.9


def test_labels_that_are_no_classes_are_refused_in_a_short_message(tmp_path):
    with pytest.raises(ValueError, match="labels must be among the 5000 classes, and 'x' is not"):
        gramcli.cache.write(
            ["k"],
            {"l": np.ones((1, 2))},
            np.zeros((1, 5000)),
            labels=["x"],
            splits=["train"],
            classes=[f"c{n}" for n in range(5000)],
            cache=tmp_path,
        )


def test_rival_scores_of_unknown_sounds_leave_classes_out_if_clips_of_all_are_too_large(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    labels = [*(f"c{n}" for n in range(200)), *(f"c{n}" for n in range(60)), *["strange"] * 12]
    gramcli.cache.write(
        [f"k{n}" for n in range(272)],
        {"l": rng.random((272, 5)), "m": rng.random((272, 5))},
        labels=labels,
        splits=["train"] * 200 + ["validation"] * 40 + ["test"] * 20 + ["unknown"] * 12,
        cache=tmp_path,
    )
    calibrate(tmp_path)
    select_layers(tmp_path)
    monkeypatch.setattr("gramcli.evaluation.ood.scored_clips.MAX_CLIPS", 50)
    monkeypatch.setattr("gramcli.evaluation.ood.scored_clips.MAX_DISCRIMINANT_BYTES", 1)
    notes = Silent()
    result = evaluate(tmp_path, context=RunContext(progress=notes))
    assert result.unknown[0].unknown == 12
    assert any("are fitted on 50 of 200 training clips, not all classes" in note for note in notes.notes)
