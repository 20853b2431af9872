"""Bounds of subsamples of large classes, from calibrate to the exported model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import gramcli.cache
from gramcli.cache import clip_table, statistics
from gramcli.cache import decision as decisions
from gramcli.cache.view import View
from gramcli.calibration.calibrate import calibrate
from gramcli.calibration.select_layers import select_layers
from gramcli.inference import bundle
from gramcli.inference.rule import Rule
from gramcli.progress import Silent
from gramcli.rule.subsample import clips_per_group, deal_subsamples, subsample_sizes
from gramcli.settings.schema import PRESETS, CalibrateSettings, DecisionSettings
from tests import reference

CLASSES = ("many", "none", "rare", "some")
TRAIN = (60, 0, 4, 17)
VALIDATION = (30, 2, 3, 9)
LAYERS = {"early": 6, "late": 10}


def made(seed=0, clips_a_recording=1):
    """Returns clips of classes of different sizes, as arguments of `gramcli.cache.write`."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.repeat(np.arange(4), counts) for counts in (TRAIN, VALIDATION)])
    splits = ["train"] * sum(TRAIN) + ["validation"] * sum(VALIDATION)
    keys = [f"clip {n}" for n in range(len(labels))]
    return {
        "keys": keys,
        "descriptors": {
            layer: np.exp(0.5 * rng.normal(size=(len(labels), channels)) + np.eye(4, channels)[labels])
            for layer, channels in LAYERS.items()
        },
        "logits": rng.normal(size=(len(labels), 4)),
        "labels": [CLASSES[label] for label in labels],
        "splits": splits,
        "groups": [f"{s} {c} {n // clips_a_recording}" for n, (s, c) in enumerate(zip(splits, labels, strict=True))],
        "classes": CLASSES,
    }


def part_of(arguments, where):
    """Returns the arguments for some of the clips, in this order."""
    one = {name: [arguments[name][n] for n in where] for name in ("keys", "labels", "splits", "groups")}
    one["descriptors"] = {layer: values[where] for layer, values in arguments["descriptors"].items()}
    return one | {"logits": arguments["logits"][where], "classes": CLASSES}


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """A calibrated cache of these clips. Tests must not change it."""
    cache = tmp_path_factory.mktemp("uneven")
    gramcli.cache.write(**made(), cache=cache)
    calibrate(cache)
    select_layers(cache)
    return cache


def test_deviations_are_from_the_bounds_of_the_dealt_clips(uneven):
    """Bounds of each subsample, and deviations from them, in plain loops."""
    known = statistics.load(uneven)
    view, clips = View.open(uneven), clip_table.require(uneven)
    counts = known.counts
    assert counts.tolist() == list(TRAIN)
    sizes = known.subsample_sizes
    assert (sizes == subsample_sizes(counts)).all()
    alike = clips_per_group(counts, known.groups)
    scaled = {
        (clip.key, layer): reference.normalise(view.read(clip.shard).descriptors[layer][clip.row].tolist())
        for clip in [*clips.used("train"), *clips.used("validation")]
        for layer in LAYERS
    }
    for layer in LAYERS:
        found = known.subsample_deviations(layer)
        for row, clip in zip(found, clips.used("validation"), strict=True):
            c = CLASSES.index(clip.label)
            own = sorted((other for other in clips.used("train") if other.label == clip.label), key=lambda o: o.key)
            chosen = deal_subsamples([o.key for o in own], [o.group for o in own], sizes[c], alike)
            for d, size in enumerate(sizes[c]):
                members = [scaled[o.key, layer] for o, yes in zip(own, chosen[:, d], strict=True) if yes]
                (bounds,) = reference.bounds(members, [0] * len(members), 1)
                assert len(members) == size
                wanted = reference.layer_deviation(scaled[clip.key, layer], bounds, 0.05) if size else 0.0
                assert row[d] == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    # the subsample of all clips is the class itself
    labels = known.validation.labels
    whole = known.validation_deviations("late")[labels == 0, 0]
    (at,) = np.flatnonzero(sizes[0] == 60)
    np.testing.assert_array_equal(known.subsample_deviations("late")[labels == 0, at], whole)


def test_shards_make_no_difference(uneven, tmp_path):
    arguments, rng = made(), np.random.default_rng(1)
    for part in np.array_split(rng.permutation(len(arguments["keys"])), 5):
        gramcli.cache.write(**part_of(arguments, part), cache=tmp_path)
    calibrate(tmp_path)
    assert (tmp_path / statistics.FILE).read_bytes() == (uneven / statistics.FILE).read_bytes()


def test_expected_deviations_are_those_of_the_largest_class(uneven):
    known = statistics.load(uneven)
    own = known.validation.labels == 0
    for layer, expected in zip(known.layers, known.expected, strict=True):
        assert expected == pytest.approx(known.validation_deviations(layer)[own, 0].astype(np.float64).mean())


def test_if_the_largest_class_stays_inside_its_bounds_all_classes_give_the_expected_deviation(tmp_path):
    arguments = made()
    largest = [n for n, label in enumerate(arguments["labels"]) if label == "many"]
    arguments["descriptors"]["late"][largest] = 1.0 + np.arange(10)
    gramcli.cache.write(**arguments, cache=tmp_path)
    known = calibrate(tmp_path)
    labels = known.validation.labels
    own = known.validation_deviations("late")[np.arange(len(labels)), labels][np.isin(labels, [0, 2, 3])]
    assert known.expected[list(known.layers).index("late")] == pytest.approx(own.astype(np.float64).mean())
    rule = Rule.of(known, select_layers(tmp_path)[0])
    assert np.isfinite(rule.fitted.size_correction.scale).all()


@pytest.mark.parametrize(
    ("word", "chosen"),
    [("ignore", CalibrateSettings(class_size="ignore")), ("paper", PRESETS["paper"]["calibrate"])],
)
def test_without_subsamples_nothing_is_corrected(uneven, tmp_path, word, chosen):
    """Without subsamples, statistics have the same tensors as before there were subsamples."""
    gramcli.cache.write(**made(), cache=tmp_path)
    progress = Silent()
    known = calibrate(tmp_path, chosen if word == "ignore" else CalibrateSettings(**chosen), progress=progress)
    assert known.subsample_sizes is None
    assert not any("subsample" in name for name in known.file.names)
    assert set(statistics.load(uneven).file.names) - set(known.file.names) == {
        "subsample/size", "subsample/deviation/early", "subsample/deviation/late",
    }  # fmt: skip
    assert any("4 to 60 training clips, and wider bounds favour the large ones" in note for note in progress.notes)
    assert any(note.endswith("; nothing corrects for it") for note in progress.notes)
    own = known.validation_deviations("late")[np.arange(44), known.validation.labels]
    own = own[known.validation.labels != 1].astype(np.float64)
    assert known.expected[list(known.layers).index("late")] == pytest.approx(own.mean())
    decision, _ = select_layers(tmp_path)
    assert decision.rule.size_correction is None
    assert decisions.load(tmp_path, known).rule.size_correction is None


def test_classes_of_equal_size_have_no_subsamples(tmp_path):
    arguments = made()
    few = [
        n
        for n, (s, c) in enumerate(zip(arguments["splits"], arguments["labels"], strict=True))
        if s == "train" and c != "none"
    ]
    kept = [n for n in few if sum(arguments["labels"][m] == arguments["labels"][n] for m in few if m < n) < 4]
    rest = [n for n, split in enumerate(arguments["splits"]) if split != "train"]
    gramcli.cache.write(**part_of(arguments, [*kept, *rest]), cache=tmp_path)
    progress = Silent()
    known = calibrate(tmp_path, progress=progress)
    assert known.counts.tolist() == [4, 0, 4, 4]
    assert known.subsample_sizes is None
    assert not any("wider bounds" in note for note in progress.notes)
    assert select_layers(tmp_path)[0].rule.size_correction is None


def test_subsamples_have_as_many_recordings_as_small_classes(tmp_path):
    """Windows of one recording are similar. Subsamples have as many recordings as a class of their size."""
    for name, together_ in (("single", 1), ("several", 4)):
        gramcli.cache.write(**made(clips_a_recording=together_), cache=tmp_path / name)
        calibrate(tmp_path / name)
    one, other = (statistics.load(tmp_path / name) for name in ("single", "several"))
    assert (one.subsample_sizes == other.subsample_sizes).all()
    assert not (one.subsample_deviations("late") == other.subsample_deviations("late")).all()


def test_the_size_correction_is_saved_and_exported(uneven, tmp_path):
    known = statistics.load(uneven)
    decision, _ = select_layers(uneven)
    assert decision.rule.size_correction.scale.shape == (2, 3)  # layers, classes that have training clips
    assert not (decision.rule.size_correction.scale[:, 1] == 1).any()
    assert (decision.rule.size_correction.scale[:, 0] == 1).all()
    rule, read = Rule.of(known, decision), Rule.of(known, decisions.load(uneven, known))
    weights = {"conv.weight": np.ones(3, np.float32)}
    identity = {**View.open(uneven).identity, "weights": "of a network"}
    bundle.save(tmp_path / "model.safetensors", bundle.ModelBundle(identity, {}, tmp_path, rule, weights))
    exported = bundle.load(tmp_path / "model.safetensors").rule
    some = {layer: values.astype(np.float32) for layer, values in made(seed=7)["descriptors"].items()}
    logits = made(seed=7)["logits"]
    wanted = rule.judge(some, logits)
    for one in (read, exported):
        for name in ("scale", "shift"):
            kept, wanted_ = one.fitted.size_correction, rule.fitted.size_correction
            assert getattr(kept, name).tobytes() == getattr(wanted_, name).tobytes()
        judged = one.judge(some, logits)
        np.testing.assert_array_equal(judged.log_p, wanted.log_p)
        np.testing.assert_array_equal(judged.strangeness, wanted.strangeness)
    bare = replace(rule, fitted=replace(rule.fitted, size_correction=None)).judge(some, logits)
    assert not np.allclose(bare.log_p[:, [0, 2, 3]], wanted.log_p[:, [0, 2, 3]])
    assert not np.allclose(bare.strangeness, wanted.strangeness)


@pytest.mark.parametrize("rule", ["fused", "gram"])
def test_the_threshold_is_set_on_corrected_strangeness(uneven, rule):
    decision, known = select_layers(uneven, DecisionSettings(rule=rule, false_reject=0.2))
    assert decision.rule.size_correction is not None
    strange = Rule.of(known, decision)
    whole = strange.judge(
        {layer: values.astype(np.float32) for layer, values in made()["descriptors"].items()}, made()["logits"]
    )
    validation = [n for n, split in enumerate(made()["splits"]) if split == "validation"]
    assert 0.05 < whole.unknown[validation].mean() < 0.4


def test_larger_classes_without_validation_clips_are_noted(tmp_path):
    arguments = made()
    fours = [n for n in range(81, 125) if arguments["labels"][n] in ("rare", "some")]
    kept = [*range(68), *fours]  # 4 training clips of "some" too, and no validation clips of "many"
    gramcli.cache.write(**part_of(arguments, kept), cache=tmp_path)
    calibrate(tmp_path)
    progress = Silent()
    decision, _ = select_layers(tmp_path, progress=progress)
    assert (decision.rule.size_correction.scale == 1).all()
    assert "no validation clips of the larger classes: the rule cannot be corrected for unequal class sizes" in (
        progress.notes
    )


def test_the_correction_for_class_sizes_is_noted(tmp_path):
    gramcli.cache.write(**made(), cache=tmp_path)
    progress = Silent()
    calibrate(tmp_path, progress=progress)
    (note,) = [note for note in progress.notes if "training clips, and wider bounds" in note]
    assert note.startswith("classes have 4 to 60 training clips")
    assert "(a new clip is outside a channel's range with 3.3% to 40.0% probability)" in note
    assert note.endswith("; the rule fused is corrected for it")
