"""Labels held out of training and fitting, from the manifest to evaluate."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gramcli.audio.condition import parse
from gramcli.cache import clip_table
from gramcli.cache.labelled_rows import read_rows
from gramcli.cache.view import View
from gramcli.calibration.calibrate import calibrate
from gramcli.calibration.select_layers import select_layers
from gramcli.dataset.clip import SPLITS, UNKNOWN
from gramcli.errors import ArtefactError, UsageError
from gramcli.evaluation.evaluate import evaluate
from gramcli.extraction.conditions import extract_conditions
from gramcli.extraction.extract import extract
from gramcli.inference.classifier import GramClassifier
from gramcli.maintenance.info import info
from gramcli.maintenance.verify import verify
from gramcli.network import checkpoint
from gramcli.progress import Silent
from gramcli.settings.configure import configure
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import Settings
from gramcli.training.train import train
from tests.support.sets import CLASSES, ROOT, headless, quick, read_manifest, write_manifest

HELD = "click"
LEFT = ("hiss", "hum")


def without(settings: Settings, *labels: str) -> Settings:
    """Returns settings that hold labels out, and a network of the classes that are left."""
    classes = tuple(label for label in settings.network.classes if label not in labels)
    network = replace(settings.network, classes=classes)
    return replace(settings, data=replace(settings.data, hold_out=labels), network=network)


def used(cache: Path) -> dict[str, set[str]]:
    clips = clip_table.require(cache)
    return {split: {clip.id for clip in clips.used(split)} for split in (*SPLITS, UNKNOWN)}


def files(sounds: Path, split: str, labels: tuple[str, ...]) -> set[str]:
    return {line.file for line in read_manifest(sounds) if line.split == split and line.label in labels}


@pytest.fixture(scope="module")
def held(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole cache without one label."""
    cache = tmp_path_factory.mktemp("held") / "cache"
    progress = Silent()
    done = extract(without(quick(sounds, cache), HELD), RunContext(progress=progress, folder=ROOT))
    assert (done.clips, done.forwarded, done.failed) == (27, 27, 0)
    assert (
        f"held out: {HELD}: 3 test clips are kept as unknown sounds, 9 of training and validation are not used"
        in progress.notes
    )
    calibrate(cache)
    select_layers(cache)
    return cache


def test_only_test_clips_of_the_label_are_kept(held, sounds):
    assert used(held) == {
        **{split: files(sounds, split, LEFT) for split in SPLITS},
        UNKNOWN: files(sounds, "test", (HELD,)),
    }
    assert not {clip.id for clip in clip_table.require(held).rows} & files(sounds, "train", (HELD,))
    assert info(held)["clips"] == {"train": 12, "validation": 6, "test": 6, "unknown": 3}
    assert info(held)["classes"] == 2
    assert verify(held).damaged == ()


def test_it_is_no_class_and_no_error_of_any_decision(held, sounds, tmp_path):
    """The figures of known clips are those of a manifest that never had the label."""
    lines = [line for line in read_manifest(sounds) if line.label != HELD]
    manifest = write_manifest(tmp_path / "left.csv", lines)
    settings = quick(manifest, tmp_path / "cache")
    settings = replace(
        settings,
        data=replace(settings.data, audio_root=str(sounds.parent)),
        network=replace(settings.network, classes=LEFT),
    )
    extract(settings, RunContext(folder=ROOT))
    assert calibrate(tmp_path / "cache").classes == LEFT
    select_layers(tmp_path / "cache")
    found = evaluate(held)
    assert found.classes == LEFT
    assert replace(found, unknown=None) == evaluate(tmp_path / "cache")
    assert found.clean.clips == 6


def test_its_descriptors_are_there_under_every_condition(held, sounds, tmp_path):
    shutil.copytree(held, tmp_path / "cache")
    strange = clip_table.require(tmp_path / "cache").used(UNKNOWN)
    views = {"clean": (View.open(held), strange)}
    views |= extract_conditions(tmp_path / "cache", [parse("gain:0")], strange)
    for view, placed in views.values():
        rows = [
            (clip.id, shard.logits[row], shard.descriptors)
            for group, shard, where in read_rows(view, placed)
            for clip, row in zip(group, where, strict=True)
        ]
        assert {name for name, _, _ in rows} == files(sounds, "test", (HELD,))
        assert all(logits.shape == (2,) and np.isfinite(logits).all() for _, logits, _ in rows)
    classifier = GramClassifier.load(held)
    assert classifier.classes == LEFT
    (row,) = classifier.predict([strange[0].path])
    assert row.label in LEFT
    assert row.strangeness is not None


def test_a_label_that_is_not_there_is_refused_before_anything_is_made(sounds, tmp_path):
    settings = quick(sounds, tmp_path / "cache", "tests.support.training_toys:Small")
    for act in (
        lambda s: extract(s, RunContext(folder=ROOT)),
        lambda s: train(s, tmp_path / "w.safetensors", RunContext(folder=ROOT)),
    ):
        with pytest.raises(UsageError, match=r"no clip is labelled 'bird'; there are click, hiss, hum$"):
            act(without(settings, HELD, "bird"))
        with pytest.raises(UsageError, match="leaves no label to train on"):
            act(without(settings, *CLASSES))
        kept = replace(settings, data=replace(settings.data, hold_out=(HELD,)))
        with pytest.raises(UsageError, match=f"'{HELD}' is one of the network's classes"):
            act(kept)
    assert list(tmp_path.iterdir()) == []


def test_another_choice_is_another_split_and_costs_no_forward(sounds, tmp_path):
    """As with folds: the table of clips is derived anew, and statistics of other clips are refused."""
    settings = headless(quick(sounds, tmp_path / "cache"))
    cache = tmp_path / "cache"
    assert extract(settings, RunContext(folder=ROOT)).forwarded == 36
    calibrate(cache)
    select_layers(cache)
    done = extract(without(settings, HELD), RunContext(folder=ROOT))
    assert (done.clips, done.forwarded) == (27, 0)
    assert used(cache)[UNKNOWN] == files(sounds, "test", (HELD,))
    with pytest.raises(ArtefactError, match="the clips have changed since; run gramcli calibrate again"):
        evaluate(cache)
    assert calibrate(cache).classes == LEFT
    select_layers(cache)
    judged = evaluate(cache)
    fresh = tmp_path / "fresh"
    extract(without(replace(settings, cache=replace(settings.cache, dir=str(fresh))), HELD), RunContext(folder=ROOT))
    calibrate(fresh)
    select_layers(fresh)
    assert evaluate(fresh) == judged
    # and back again, with another label
    assert extract(without(settings, "hum"), RunContext(folder=ROOT)).forwarded == 0
    assert calibrate(cache).classes == ("click", "hiss")
    assert extract(settings, RunContext(folder=ROOT)).forwarded == 0
    assert used(cache)[UNKNOWN] == set()
    assert calibrate(cache).classes == tuple(sorted(CLASSES))


def test_with_a_head_another_choice_is_another_network(held, sounds):
    with pytest.raises(ArtefactError, match="outputs: "):
        extract(without(quick(sounds, held), "hum"), RunContext(folder=ROOT))


def test_outputs_that_nobody_named_are_the_labels_that_are_left(sounds, tmp_path):
    settings = without(quick(sounds, tmp_path / "cache"), HELD)
    progress = Silent()
    extract(
        replace(settings, network=replace(settings.network, classes=())), RunContext(progress=progress, folder=ROOT)
    )
    assert any("in this order, hiss, hum" in note for note in progress.notes)
    assert View.open(tmp_path / "cache").outputs == LEFT


def test_a_label_that_the_network_has_no_output_for_is_refused_with_a_hint(sounds, tmp_path):
    settings = quick(sounds, tmp_path / "cache")
    settings = replace(settings, network=replace(settings.network, classes=LEFT))
    with pytest.raises(
        ArtefactError, match=f"label {HELD} is none of .*hold the label out with --hold-out, or use --head none"
    ):
        extract(settings, RunContext(folder=ROOT))


# --- training


@pytest.fixture(scope="module")
def trained(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = quick(sounds, Path("unused"), "tests.support.training_toys:Small")
    settings = replace(settings, train=replace(settings.train, epochs=2))
    settings = without(settings, HELD)
    settings = replace(settings, network=replace(settings.network, classes=()))
    return train(settings, tmp_path_factory.mktemp("trained") / "w.safetensors", RunContext(folder=ROOT)).path


def flags(trained: Path, sounds: Path, cache: Path, *held_out: str) -> dict[str, dict[str, object]]:
    return {
        "data": {"manifest": str(sounds), "hold_out": list(held_out)},
        "network": {"weights": str(trained)},
        "cache": {"dir": str(cache)},
        "run": {"decoders": 1},
    }


def test_the_label_is_neither_learnt_nor_chosen_by(trained, sounds, held):
    about = checkpoint.metadata(trained)
    keys = {clip.split: set() for clip in clip_table.require(held).rows}
    for clip in clip_table.require(held).rows:
        keys[clip.split].add(clip.key)
    assert about["classes"] == list(LEFT)
    assert (set(about["trained_on"]), set(about["chosen_on"])) == (keys["train"], keys["validation"])
    assert about["training"]["hold_out"] == [HELD]


def test_a_training_without_another_label_is_another_training(trained, sounds, tmp_path):
    shutil.copy(trained, tmp_path / "w.safetensors")
    settings = quick(sounds, Path("unused"), "tests.support.training_toys:Small")
    settings = replace(
        settings,
        network=replace(settings.network, classes=()),
        train=replace(settings.train, epochs=2),
        data=replace(settings.data, hold_out=("hum",)),
    )
    with pytest.raises(UsageError, match="is not the result of this training"):
        train(settings, tmp_path / "w.safetensors", RunContext(folder=ROOT))
    same = replace(settings, data=replace(settings.data, hold_out=(HELD, HELD)))
    assert train(same, tmp_path / "w.safetensors", RunContext(folder=ROOT)).resumed == 2


def test_from_training_to_unknown_clips(trained, sounds, tmp_path):
    extract(
        configure(RunContext(flags(trained, sounds, tmp_path / "cache", HELD)), metadata=checkpoint.settings_of_file),
        RunContext(folder=ROOT),
    )
    assert used(tmp_path / "cache")[UNKNOWN] == files(sounds, "test", (HELD,))
    recorded = View.open(tmp_path / "cache").recorded["settings"]
    assert recorded["data"]["hold_out"] == [HELD]
    assert json.loads(json.dumps(recorded)) == recorded
    with pytest.raises(UsageError, match="'hum' is one of the network's classes, so such sounds are not unknown"):
        extract(
            configure(
                RunContext(flags(trained, sounds, tmp_path / "cache", HELD, "hum")),
                metadata=checkpoint.settings_of_file,
            ),
            RunContext(folder=ROOT),
        )
    with pytest.raises(ArtefactError, match=f"label {HELD} is none of the network's 2 classes"):
        extract(
            configure(RunContext(flags(trained, sounds, tmp_path / "cache")), metadata=checkpoint.settings_of_file),
            RunContext(folder=ROOT),
        )
