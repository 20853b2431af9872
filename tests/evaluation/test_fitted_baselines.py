"""The baselines of a cache: fitted on the same clips and labels as the rule, and not on the test split."""

import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest

import gramcli.cache
from gramcli.cache import clip_table, statistics
from gramcli.cache.view import View
from gramcli.calibration import clip_sample
from gramcli.calibration.calibrate import calibrate
from gramcli.calibration.select_layers import select_layers
from gramcli.errors import ResourceError
from gramcli.evaluation import baselines, fitted_baselines
from gramcli.evaluation.comparison import Decisions, JudgedClips
from gramcli.evaluation.evaluate import evaluate
from gramcli.extraction.extract import extract
from gramcli.fitting.cross_fitting import LabelledClips, deal_parts
from gramcli.progress import Silent
from gramcli.settings.run_context import RunContext
from tests.support.informative_caches import CLASSES, SPLITS, write_cache
from tests.support.sets import ROOT, headless, quick


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A cache with a decision, whose layers separate the classes. Tests must not change it."""
    cache = tmp_path_factory.mktemp("known")
    write_cache(cache, network_knows=False)
    select_layers(cache)
    return cache


def judged(cache, split="test"):
    decisions = Decisions.of(cache, Silent(), with_rivals=True)
    return decisions, decisions.judge(decisions.view, clip_table.require(cache).used(split), Silent())


def test_every_baseline_is_listed_with_all_measures(known):
    result = evaluate(known, rivals=True)
    names = list(result.clean.decisions)
    assert names == ["map", "temperature", "gram", "fused", *baselines.NAMES]
    for name in baselines.NAMES:
        assert all(np.isfinite(value) for value in result.clean.decisions[name].values())
    # the layers know the classes here, the network does not
    assert result.clean.decisions["lda"]["accuracy"] > 0.9
    assert result.clean.decisions["vector"]["accuracy"] < 0.6
    alone = evaluate(known)
    assert list(alone.clean.decisions) == ["map", "temperature", "gram", "fused"]
    assert {**result.clean.decisions, **alone.clean.decisions} == result.clean.decisions
    assert alone.verdict == result.verdict


def test_labels_of_test_clips_do_not_change_any_result(known, tmp_path):
    shutil.copytree(known, tmp_path / "moved")
    clips = clip_table.require(known)
    rows = list(clips.rows)
    rng = np.random.default_rng(3)
    tests = [n for n, clip in enumerate(rows) if clip.split == "test"]
    for n, other in zip(tests, rng.permutation(tests), strict=True):
        rows[n] = rows[n]._replace(label=clips.rows[other].label)
    clip_table.write(tmp_path / "moved", rows, clips.seconds)
    (_, one), (_, two) = judged(known), judged(tmp_path / "moved")
    assert not np.array_equal(one.labels, two.labels)
    for name, output in one.decisions.items():
        np.testing.assert_array_equal(output.label, two.decisions[name].label)
    for name in ("lda", "probe", "nearest-mean"):
        assert (one.decisions[name].label == one.labels).mean() > 0.85
        assert (two.decisions[name].label == two.labels).mean() < 0.55  # a third, and what chance adds to 90 clips


def test_parts_of_validation_clips_are_those_of_the_rule_fused(known):
    decisions, _ = judged(known)
    held = statistics.load(known, View.open(known).fingerprint)
    clips = clip_table.require(known).used("train", "validation")
    labels = np.array([CLASSES.index(clip.label) for clip in clips])
    part_of = np.array([-1 if clip.split == "train" else 0 for clip in clips])
    part_of[part_of == 0] = deal_parts(held.validation.groups, held.validation.labels)
    again = baselines.fit("lda", decisions.baselines.spaces.fitted, LabelledClips(labels, part_of, 3))
    np.testing.assert_array_equal(again.held_out, decisions.baselines.fitted["lda"].held_out)


def test_shards_make_no_difference(known, tmp_path):
    clips = clip_table.require(known).rows
    view = View.open(known)
    rows = [view.read(number) for number in sorted(view.present())]
    placed = [clip for clip in clips if clip.row is not None]
    where = {clip.key: (clip.shard, clip.row) for clip in placed}
    shuffled = [placed[n] for n in np.random.default_rng(5).permutation(len(placed))]
    for first in range(0, len(shuffled), 37):
        some = shuffled[first : first + 37]
        gramcli.cache.write(
            [clip.id for clip in some],
            {layer: np.stack([rows[where[c.key][0]].descriptors[layer][where[c.key][1]] for c in some])
             for layer in view.layers},
            np.stack([rows[where[c.key][0]].logits[where[c.key][1]] for c in some]),
            labels=[clip.label for clip in some],
            splits=[clip.split for clip in some],
            classes=CLASSES,
            cache=tmp_path / "other",
        )  # fmt: skip
    calibrate(tmp_path / "other")
    select_layers(tmp_path / "other")
    (_, one), (_, two) = judged(known), judged(tmp_path / "other")
    assert [clip.key for clip in one.clips] == [clip.key for clip in two.clips]
    for name, output in one.decisions.items():
        np.testing.assert_array_equal(output.label, two.decisions[name].label)
        if output.surprise is not None:
            other = two.decisions[name]
            np.testing.assert_allclose(output.surprise, other.surprise, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(output.squared_error, other.squared_error, rtol=1e-9, atol=1e-9)


def test_of_too_many_clips_each_class_contributes_in_proportion(known, monkeypatch):
    monkeypatch.setattr(clip_sample, "MAX_CLIPS", 60)
    notes = Silent()
    result = evaluate(known, rivals=True, context=RunContext(progress=notes))
    assert "fits over all layers use 60 of 210 training and validation clips" in notes.notes
    assert result.clean.decisions["lda"]["accuracy"] > 0.9


def test_with_one_validation_group_there_are_no_baselines(tmp_path):
    write_cache(tmp_path, groups=[split if split == "validation" else f"{n}" for n, split in enumerate(SPLITS)])
    select_layers(tmp_path)
    notes = Silent()
    assert "lda" not in evaluate(tmp_path, rivals=True, context=RunContext(progress=notes)).clean.decisions
    assert "rivals are left out: cross-fitting takes 2 groups, and there are 1 in validation" in notes.notes


def test_without_scikit_learn_the_message_says_what_to_install(known, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(ResourceError, match="not installed; install it, or gramcli with its extra evaluate"):
        evaluate(known, rivals=True)


def test_channel_means_have_their_own_baselines_under_every_condition(limited_sounds, tmp_path):
    chosen = quick(limited_sounds, tmp_path / "cache")
    extract(replace(chosen, network=replace(chosen.network, with_means=True)), RunContext(folder=ROOT))
    calibrate(tmp_path / "cache")
    select_layers(tmp_path / "cache")
    result = evaluate(tmp_path / "cache", conditions=["gain:-6"], rivals=True)
    for condition in result.conditions.values():
        for name in fitted_baselines.ON_MEANS:
            assert condition.decisions[name]["accuracy"] > 0.6


def test_if_outputs_are_not_the_classes_baselines_do_without_the_network(limited_sounds, tmp_path):
    extract(headless(quick(limited_sounds, tmp_path / "cache")), RunContext(folder=ROOT))
    calibrate(tmp_path / "cache")
    select_layers(tmp_path / "cache")
    found = evaluate(tmp_path / "cache", rivals=True).clean.decisions
    assert list(found) == ["gram", "fused", *(name for name in baselines.NAMES if name not in baselines.NEEDS_NETWORK)]


def test_pooled_clips_keep_the_decisions_that_all_parts_have(known):
    _, one = judged(known)
    less = JudgedClips(one.clips, one.labels, {k: one.decisions[k] for k in ("map", "gram", "fused")}, None, 2)
    both = JudgedClips.pooled([one, less])
    assert list(both.decisions) == ["map", "gram", "fused"]
    assert (len(both.clips), len(both.labels), both.failed, both.unknown) == (180, 180, 2, None)
    assert both.decisions["gram"].surprise is None
    np.testing.assert_array_equal(both.decisions["fused"].surprise[90:], one.decisions["fused"].surprise)
