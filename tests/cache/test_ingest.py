"""Descriptors from elsewhere, and the stages on them."""

from __future__ import annotations

import numpy as np
import pytest

import gramcli.cache
from gramcli.cache import clip_table, statistics
from gramcli.cache.view import View
from gramcli.calibration.calibrate import calibrate
from gramcli.calibration.select_layers import select_layers
from gramcli.errors import ArtefactError
from gramcli.evaluation.evaluate import evaluate
from gramcli.inference.bundle import from_cache

CLASSES = ["a", "b"]


def made(rng, n=200):
    """Clips whose class shows in the first channels of two layers."""
    labels = [CLASSES[i % 2] for i in range(n)]
    tilt = np.array([[3.0, 1.0] if label == "a" else [1.0, 3.0] for label in labels])
    layers = {
        "conv1": np.hstack([tilt, np.ones((n, 3))]) * rng.uniform(0.9, 1.1, (n, 5)),
        "a/b": np.hstack([tilt, np.ones((n, 1))]) * rng.uniform(0.5, 1.5, (n, 3)),
    }
    splits = [("train", "train", "validation", "test")[i // 2 % 4] for i in range(n)]
    return [f"clip {i}" for i in range(n)], layers, labels, splits


def test_the_stages_go_on_from_there(rng, tmp_path):
    keys, layers, labels, splits = made(rng)
    logits = np.array([[1.0, 0.0]] * len(keys))
    told = {"labels": labels, "splits": splits, "classes": CLASSES, "cache": tmp_path}
    assert gramcli.cache.write(keys, layers, logits, **told) == 200
    assert gramcli.cache.write(keys, layers, logits, **told) == 0
    calibrate(tmp_path)
    select_layers(tmp_path)
    result = evaluate(tmp_path)
    assert result.clean.clips == splits.count("test")
    assert result.clean.decisions["gram"]["accuracy"] == 1.0
    tested = [label for label, split in zip(labels, splits, strict=True) if split == "test"]
    assert result.clean.decisions["map"]["accuracy"] == tested.count("a") / len(tested)
    with pytest.raises(ArtefactError, match="there is no network to run"):
        from_cache(tmp_path)


def test_adding_in_parts_equals_writing_at_once(rng, tmp_path):
    keys, layers, labels, splits = made(rng)
    for name, parts in (("whole", [slice(0, 200)]), ("parts", [slice(30, 200), slice(0, 10), slice(5, 40)])):
        for part in parts:
            gramcli.cache.write(
                keys[part],
                {layer: values[part] for layer, values in layers.items()},
                labels=labels[part],
                splits=splits[part],
                cache=tmp_path / name,
            )
        calibrate(tmp_path / name)
    one, two = ((tmp_path / name / statistics.FILE).read_bytes() for name in ("whole", "parts"))
    assert one == two
    assert statistics.load(tmp_path / "whole").classes == ("a", "b")


def test_rows_that_are_not_finite_have_failed(rng, tmp_path):
    keys, layers, labels, splits = made(rng)
    layers["conv1"][8, 2] = np.inf
    gramcli.cache.write(keys, layers, labels=labels, splits=splits, cache=tmp_path)
    row = next(clip for clip in clip_table.require(tmp_path).rows if clip.id == "clip 8")
    rows = View.open(tmp_path).read(row.shard)
    assert rows.status[row.row] == "descriptor not finite"
    assert np.isnan(rows.descriptors["a/b"][row.row]).all()
    assert sum(status != "ok" for status in rows.status) == 1
    assert np.isinf(layers["conv1"][8, 2])
    assert calibrate(tmp_path).counts.sum() == splits.count("train") - 1
    assert "clip 8" in (tmp_path / "failures.csv").read_text()


def test_other_layers_or_classes_are_refused(rng, tmp_path):
    keys, layers, labels, splits = made(rng)
    told = {"labels": labels, "splits": splits, "cache": tmp_path}
    gramcli.cache.write(keys, layers, **told)
    with pytest.raises(ArtefactError, match="layers: "):
        gramcli.cache.write(keys, {"conv1": layers["conv1"]}, **told)
    with pytest.raises(ArtefactError, match="architecture: external → other"):
        gramcli.cache.write(keys, layers, network="other", **told)


@pytest.mark.parametrize(
    "change",
    [
        {"keys": ["same"] * 200},
        {"labels": ["a"]},
        {"splits": ["dev"] * 200},
        {"classes": ["a", "c"]},
        {"splits": ["unknown"] + ["train"] * 199},
        {"descriptors": {}},
        {"descriptors": {"conv1": np.ones((199, 2))}},
        {"descriptors": {"conv1": np.ones(200)}},
        {"logits": np.ones((200, 3)), "classes": CLASSES},
        {"logits": np.ones((200, 2)) * 1j, "classes": CLASSES},
        {"logits": np.full((200, 2), "1"), "classes": CLASSES},
        {"descriptors": {"conv1": np.ones((200, 2)) * 1j}},
        {"descriptors": {"conv1": np.ones((200, 0))}},
        {"descriptors": {"conv1": np.ones((200, 2), object)}},
        {"descriptors": {"": np.ones((200, 2))}},
        {"descriptors": {7: np.ones((200, 2))}},
        {"descriptors": {"\udc80": np.ones((200, 2))}},
        {"labels": ["a"] * 199 + [""]},
        {"labels": ["a"] * 199 + ["\udc80"]},
        {"labels": ["a"] * 199 + [3]},
        {"labels": "a" * 200},
        {"groups": ["g"] * 199 + [None]},
        {"groups": ["g"] * 199 + [""]},
        {"keys": [*map(str, range(199)), ""]},
        {"keys": [*map(str, range(199)), "a\0b"]},
        {"keys": [*map(str, range(199)), "\ud800"]},
        {"network": ""},
        {"logits": np.ones((200, 2)), "classes": ["a", ""]},
    ],
    ids=lambda change: " ".join(change),
)
def test_arguments_that_do_not_fit(rng, tmp_path, change):
    keys, layers, labels, splits = made(rng)
    given = {"keys": keys, "descriptors": layers, "labels": labels, "splits": splits, "cache": tmp_path} | change
    with pytest.raises(ValueError, match=r"must (be|have|hold|all)|give one per key|has shape|but there are"):
        gramcli.cache.write(**given)
    assert list(tmp_path.iterdir()) == []


def test_clips_of_no_class_are_kept_apart(rng, tmp_path):
    keys, layers, labels, splits = made(rng)
    strange = [n for n, label in enumerate(labels) if label == CLASSES[0]]
    for n in strange:
        splits[n] = "unknown"
    gramcli.cache.write(keys, layers, labels=labels, splits=splits, cache=tmp_path)
    assert calibrate(tmp_path).classes == tuple(CLASSES[1:])
    assert {clip.id for clip in clip_table.require(tmp_path).used("unknown")} == {keys[n] for n in strange}
