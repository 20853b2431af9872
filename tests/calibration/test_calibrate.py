"""Notes, results and errors of calibrate and select-layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gramcli.cache import clip_table, statistics
from gramcli.cache import decision as decisions
from gramcli.cache.labelled_rows import label_indices
from gramcli.cache.view import View
from gramcli.calibration.calibrate import calibrate
from gramcli.calibration.select_layers import select_layers
from gramcli.errors import ArtefactError, DamagedError, NoInputError, UsageError
from gramcli.extraction.extract import extract
from gramcli.gram.ranking import curve
from gramcli.progress import Silent
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import CalibrateSettings, DecisionSettings
from tests import reference
from tests.support.sets import ROOT, headless, quick, read_manifest, write_manifest, write_set


def test_a_label_that_is_no_class_is_an_error_that_names_the_clip():
    clip = clip_table.Clip("a.wav", "k", "a.wav", "", 0, 0, None, None, "bird", "train", "g", 0, 0)
    with pytest.raises(ArtefactError, match=r"a\.wav: label bird is none of the network's outputs; correct"):
        label_indices([clip._replace(label="hum"), clip], {"hum": 0})
    with pytest.raises(ArtefactError, match=r"a\.wav: has no label; correct the manifest"):
        label_indices([clip._replace(label="")], {"hum": 0})


def edited(tmp_path: Path, change, *, head: bool = False) -> tuple[Path, list[str]]:
    """Returns the cache of a small set with a changed manifest, and the notes of calibrate."""
    manifest = write_set(tmp_path / "sounds", clips=2)
    write_manifest(manifest, [line for line in map(change, read_manifest(manifest)) if line is not None])
    chosen = quick(manifest, tmp_path / "cache")
    extract(chosen if head else headless(chosen), RunContext(folder=ROOT))
    progress = Silent()
    calibrate(tmp_path / "cache", progress=progress)
    return tmp_path / "cache", progress.notes


def test_statistics_hold_labels_groups_and_logits_of_the_clips(selected):
    known = statistics.load(selected)
    assert known.classes == ("click", "hiss", "hum")
    assert known.counts.tolist() == [6, 6, 6]
    assert known.groups.tolist() == [2, 2, 2]
    validation = clip_table.require(selected).used("validation")
    assert [known.classes[n] for n in known.validation.labels] == [clip.label for clip in validation]
    own = known.validation_deviations("act1")[np.arange(9), known.validation.labels]
    assert known.expected[list(known.layers).index("act1")] == pytest.approx(own.astype(np.float64).mean(), rel=1e-15)
    view = View.open(selected)
    rows = {clip.key: view.read(clip.shard).logits[clip.row] for clip in validation}
    np.testing.assert_array_equal(known.validation.logits, [rows[clip.key] for clip in validation])


def test_a_class_of_one_training_clip_is_noted(tmp_path):
    def change(line):
        return None if line.label == "hum" and line.split == "train" and line.file != "hum-0-0.wav" else line

    cache, notes = edited(tmp_path, change)
    assert statistics.load(cache).counts.tolist() == [4, 4, 1]
    assert "classes with one training clip, whose bounds have no width: hum" in notes
    assert any("1 to 4 training clips, and wider bounds favour the large ones" in note for note in notes)


def test_a_class_without_training_clips_is_never_chosen(tmp_path):
    cache, notes = edited(
        tmp_path, lambda line: None if (line.label, line.split) == ("hum", "train") else line, head=True
    )
    assert "classes without training clips, so never chosen: hum" in notes
    known = statistics.load(cache)
    assert known.counts.tolist() == [4, 4, 0]
    assert np.isfinite(known.expected).all()
    decision, _ = select_layers(cache)
    assert decision.ranking.chosen >= 1


def test_a_class_without_validation_clips_is_noted(tmp_path):
    cache, notes = edited(tmp_path, lambda line: None if (line.label, line.split) == ("hiss", "validation") else line)
    assert "classes without validation clips: hiss" in notes
    assert select_layers(cache)[0].ranking.chosen >= 1


def test_layers_without_evidence_are_left_out(cache, monkeypatch):
    """All validation clips are inside the bounds, so E_l = 0, except at layers of 4 channels."""
    from gramcli.calibration import calibrate as module
    from gramcli.gram import deviation

    def blind(scaled, *bounds):
        real = deviation.deviations(scaled, *bounds)
        return real if scaled.shape[1] == 4 else np.zeros_like(real)

    monkeypatch.setattr(module, "deviations", blind)
    progress = Silent()
    known = calibrate(cache, progress=progress)
    assert any("all validation clips are inside their bounds (E_l = 0): act1" in note for note in progress.notes)
    decision, _ = select_layers(cache, DecisionSettings(top_k="all"))
    assert {known.layers[layer] for layer in decision.ranking.layers} == {4}


def test_without_usable_validation_clips_calibrate_refuses(tmp_path):
    with pytest.raises(NoInputError, match="no usable validation clips, which the expected deviations need"):
        edited(
            tmp_path, lambda line: replace(line, file=f"missing-{line.file}") if line.split == "validation" else line
        )


def test_clips_that_are_not_extracted_yet_are_refused(cache):
    next(cache.rglob("00003.h5")).unlink()
    with pytest.raises(ArtefactError, match="5 clips are not extracted yet; run gramcli extract again"):
        calibrate(cache)


def test_a_cache_without_extracted_clips_is_refused(tmp_path):
    with pytest.raises(ArtefactError, match="run gramcli extract first"):
        calibrate(tmp_path)


def test_swapped_shards_are_noticed(cache):
    one, two = next(cache.rglob("00001.h5")), next(cache.rglob("00002.h5"))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    with pytest.raises(DamagedError, match=r"0000[12]\.h5: row \d is not "):
        calibrate(cache)


@pytest.mark.parametrize("top_k", [1, 3, "all", "auto"])
def test_the_first_layers_of_the_ranking_decide(cache, top_k):
    decision, known = select_layers(cache, DecisionSettings(top_k=top_k))
    assert len(decision.ranking.layers) == len(known.layers) == 7
    assert list(decision.ranking.scores) == sorted(decision.ranking.scores, reverse=True)
    if top_k == "auto":
        best = [n + 1 for n, value in enumerate(decision.ranking.accuracy) if value == max(decision.ranking.accuracy)]
        assert decision.ranking.chosen == best[-1]
    else:
        assert decision.ranking.chosen == {"all": 7}.get(top_k, top_k)
    read = decisions.load(cache, known)
    assert (read.ranking, read.held_out, read.statistics) == (decision.ranking, decision.held_out, known.digest)
    one, other = read.rule, decision.rule
    assert (one.name, one.layers, one.chosen, one.threshold) == (
        other.name,
        other.layers,
        other.chosen,
        other.threshold,
    )
    assert one.expected.tolist() == other.expected.tolist()
    assert one.fusion.weights.tolist() == other.fusion.weights.tolist()
    assert (one.fusion.network_weight, one.fusion.discriminant_weight) == (
        other.fusion.network_weight,
        other.fusion.discriminant_weight,
    )
    first, second = one.discriminant, other.discriminant
    assert (dict(first.floors), first.bias.tolist()) == (dict(second.floors), second.bias.tolist())
    assert all(np.array_equal(first.weights[layer], weights) for layer, weights in second.weights.items())


def test_the_curve_is_that_of_the_ranked_layers(cache):
    decision, known = select_layers(cache)
    index = {layer: n for n, layer in enumerate(known.layers)}
    wanted = curve(
        [known.validation_deviations(layer) for layer in decision.ranking.layers],
        known.expected[[index[layer] for layer in decision.ranking.layers]],
        known.counts > 0,
        known.validation.logits,
        known.validation.labels,
    )
    assert decision.ranking.accuracy == tuple(wanted)


def test_paper_ranking_is_the_mean_deviation_of_the_negatives(cache):
    decision, known = select_layers(cache, DecisionSettings(ranking="paper"))
    clips = clip_table.require(cache).used("train")
    view = View.open(cache)
    for layer, score in zip(decision.ranking.layers, decision.ranking.scores, strict=True):
        lower, upper = known.bounds(layer)
        means = []
        for c, label in enumerate(known.classes):
            others = (view.read(clip.shard).descriptors[layer][clip.row] for clip in clips if clip.label != label)
            own = lower[c].tolist(), upper[c].tolist()
            scaled = (np.float32(reference.normalise(raw.tolist())).tolist() for raw in others)
            means.append(np.mean([reference.layer_deviation(one, own, known.epsilon) for one in scaled]))
        assert score == pytest.approx(np.mean(means), rel=1e-6)


def test_more_layers_than_can_be_used_are_refused(cache):
    with pytest.raises(UsageError, match="top_k is 8, but only 7 layers can be used"):
        select_layers(cache, DecisionSettings(top_k=8))


def test_another_epsilon_than_that_of_the_preset_is_refused(cache):
    with pytest.raises(ArtefactError, match=r"made with epsilon 0\.05, not 1e-06; run gramcli calibrate"):
        select_layers(cache, epsilon=1e-6)


def test_commands_out_of_order_are_refused(cache):
    manifest = Path(View.open(cache).recorded["settings"]["data"]["manifest"])
    changed = manifest.with_name("changed.csv")
    write_manifest(changed, read_manifest(manifest)[1:])
    (cache / decisions.FILE).unlink()
    with pytest.raises(ArtefactError, match="run gramcli select-layers"):
        decisions.load(cache, statistics.load(cache))
    extract(quick(changed, cache), RunContext(folder=ROOT))
    with pytest.raises(ArtefactError, match="the clips have changed since; run gramcli calibrate again"):
        select_layers(cache)
    calibrate(cache)
    select_layers(cache)
    calibrate(cache, CalibrateSettings(epsilon=0.1))
    with pytest.raises(ArtefactError, match="made from other statistics; run gramcli select-layers again"):
        decisions.load(cache, statistics.load(cache))
