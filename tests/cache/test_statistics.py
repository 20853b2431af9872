"""Statistics and decisions: rot, forgery and replacement are found; equal content gives equal bytes."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace

import numpy as np
import pytest

from gramcli.cache import decision as decisions
from gramcli.cache import sealed_writer, statistics
from gramcli.cache.decision import Decision, LayerRanking
from gramcli.cache.fitted_rule import FittedRule
from gramcli.cache.statistics import Basis, Sizes, Statistics
from gramcli.errors import DamagedError, GramcliError
from gramcli.rule.class_size import SizeCorrection
from gramcli.rule.discriminant import Discriminant
from gramcli.rule.fusion import Fusion
from gramcli.rule.threshold import Threshold
from tests.support.damage import flips, truncations, zeroed

LAYERS = {"relu": 2, "a/b": 1, ":relu#1": 3}
ZEROS = {layer: np.zeros((channels, 2), np.float32) for layer, channels in LAYERS.items()}
LEVEL = Discriminant(dict.fromkeys(LAYERS, 1.0), ZEROS, np.zeros(2))
"""A discriminant with the same score for every class."""
FUSED = {"name": "fused", "fusion": Fusion(np.ones(3))}
"""What makes the rule gram the rule fused."""


def create(folder, classes=("x", "y"), fill=0.5) -> Statistics:
    with statistics.create(folder, Basis(LAYERS, tuple(classes), 0.05, "f", "c"), Sizes(3, 2)) as arrays:
        for array in arrays.values():
            array[...] = fill
    return statistics.load(folder, "f")


@pytest.fixture
def known(tmp_path):
    return create(tmp_path)


def decision(known: Statistics, **changed) -> Decision:
    rule = replace(FittedRule("gram", tuple(LAYERS), 2, known.expected), **changed)
    ranking = LayerRanking("rank", "auto", rule.layers, (0.5, 1 / 3, np.nan), (0.5, 0.75, 1.0), rule.chosen)
    return Decision(ranking, rule, None, known.digest)


@pytest.mark.parametrize("kind", ["statistics", "decision"])
@pytest.mark.parametrize("rot", [flips, truncations, lambda content: zeroed(content, 16)])
def test_every_change_of_a_byte_and_every_loss_is_found(tmp_path, known, kind, rot):
    decisions.save(tmp_path, decision(known))
    path = tmp_path / f"{kind}.safetensors"
    for changed in rot(path.read_bytes()):
        path.write_bytes(changed)
        with pytest.raises(DamagedError, match=rf"{kind}\.safetensors: is damaged"):
            statistics.load(tmp_path) if kind == "statistics" else decisions.load(tmp_path, known)


@pytest.mark.parametrize(("classes", "validation", "outputs"), [(["x"], 0, 0), (["x", "\udcff", "a\nb"], 1, 5)])
def test_any_size_comes_back(tmp_path, classes, validation, outputs):
    sizes = Sizes(validation, outputs)
    with statistics.create(tmp_path, Basis(LAYERS, tuple(classes), 1e-6, "f", "c"), sizes) as arrays:
        arrays["validation/key"][...] = 255
        arrays["expected"][...] = [1 / 3, 1e29, 1e-29]
        wanted = {name: array.copy() for name, array in arrays.items()}
    known = statistics.load(tmp_path)
    assert known.classes == tuple(classes)
    assert list(known.layers.items()) == list(LAYERS.items())
    assert {name: (str(known.file[name].dtype), known.file[name].shape) for name in known.file.names} == (
        statistics.shapes(LAYERS, len(classes), sizes)
    )
    for name, array in wanted.items():
        assert known.file[name].tobytes() == array.tobytes()


@pytest.mark.parametrize(("name", "value"), [("expected", 1e-31), ("expected", 1e31), ("validation/deviation/a", 3e38)])
def test_numbers_that_overflow_when_they_are_used_are_refused(tmp_path, name, value):
    with statistics.create(tmp_path, Basis(LAYERS, ("x", "y"), 0.05, "f", "c"), Sizes(3, 2)) as arrays:
        name = name if name in arrays else next(one for one in arrays if one.startswith("validation/deviation/"))
        arrays[name][...] = value
    layer = name.rpartition("/")[2]
    with pytest.raises(DamagedError, match=r"statistics\.safetensors: "):
        statistics.load(tmp_path).validation_deviations(layer)


def test_equal_statistics_have_equal_bytes(tmp_path, known):
    (tmp_path / "again").mkdir()
    assert create(tmp_path / "again").file.digest == known.file.digest
    assert create(tmp_path / "again", fill=0.25).file.digest != known.file.digest


def test_tensors_lie_aligned(tmp_path, known):
    content = known.file.path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    for name, about in header.items():
        if name != "__metadata__":
            assert (8 + length + about["data_offsets"][0]) % known.file[name].dtype.itemsize == 0, name


def test_a_decision_comes_back_to_the_last_bit(tmp_path, known):
    decisions.save(tmp_path, decision(known))
    read = decisions.load(tmp_path, known)
    ranking = read.ranking
    assert np.array(ranking.scores).tobytes() == np.array(decision(known).ranking.scores).tobytes()
    assert (ranking.layers, ranking.accuracy, ranking.chosen) == (tuple(LAYERS), (0.5, 0.75, 1.0), 2)
    assert (read.rule.layers, read.rule.chosen, read.rule.name) == (tuple(LAYERS), 2, "gram")
    assert read.rule.expected.tobytes() == known.expected.tobytes()


def test_an_open_file_is_read_even_if_another_file_replaces_it(tmp_path, known):
    create(tmp_path, fill=0.25)
    assert (known.bounds("relu")[0] == 0.5).all()
    known.file.path.unlink()
    assert (known.validation_deviations("relu", slice(1, 3)) == np.full((2, 2), 0.5)).all()


def test_a_file_that_becomes_shorter_while_it_is_read_is_damage(known):
    with known.file.path.open("r+b") as file:
        file.truncate(known.file.path.stat().st_size - 4)
    with pytest.raises(DamagedError, match="changed while it was read; run the same command again"):
        _ = [known.file.rows(name) for name in known.file.names]


def test_a_file_that_is_written_to_after_its_digest_was_checked_is_damage(known):
    with known.file.path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\0\0\0\1")
    os.utime(known.file.path, ns=(1, 1))  # in case the clock of the file system is coarse
    with pytest.raises(DamagedError, match="changed while it was read; run the same command again"):
        _ = known.file.rows(known.file.names[0])


def test_the_file_is_opened_once_however_much_is_read(known, tmp_path):
    opened = []
    with pytest.MonkeyPatch.context() as patched:
        real = os.open
        patched.setattr(os, "open", lambda path, *args, **kind: opened.append(path) or real(path, *args, **kind))
        found = statistics.load(tmp_path)
        for layer in LAYERS:
            found.bounds(layer)
            found.validation_deviations(layer)
        assert found.counts.sum() == found.validation.labels.sum() == 0
    assert opened == [tmp_path, statistics.FILE]


def reseal(known: Statistics, about: dict | None = None, **changed: np.ndarray | None) -> None:
    """Writes statistics again with some tensors replaced or left out, and a right digest."""
    tensors = {name: known.file[name].copy() for name in known.file.names}
    tensors |= {name.replace("__", "/"): array for name, array in changed.items()}
    kept = {name: array for name, array in tensors.items() if array is not None}
    sealed_writer.write(known.file.path, "statistics", kept, {**known.file.about, **(about or {})})


@pytest.mark.parametrize(
    "changed",
    [
        {"lower__relu": None},
        {"upper__relu": np.zeros((2, 3), np.float32)},
        {"upper__relu": np.zeros((2, 2), np.float64)},
        {"counts": np.zeros(3, np.int64)},
        {"more": np.zeros(3, np.float32)},
        {"validation__logits": np.zeros((3, 2, 1), np.float32)},
        {"validation__label": np.zeros(2, np.int32)},
        {"subsample__size": np.zeros((2, 4), np.int64)},
    ],
    ids=str,
)
def test_missing_tensors_and_other_shapes_are_refused(tmp_path, known, changed):
    reseal(known, **changed)
    with pytest.raises(
        DamagedError, match=r"statistics\.safetensors: (holds values that do not fit|field '.+' is missing)"
    ):
        statistics.load(tmp_path)


@pytest.mark.parametrize(
    "about", [{"epsilon": 0.0}, {"epsilon": np.nan}, {"epsilon": "x"}, {"classes": ["x", "x"]}, {"classes": [1, 2]},
              {"classes": []}, {"layers": [["relu", -1]]}, {"fingerprint": 3}, {"clips": None}], ids=str,
)  # fmt: skip
def test_the_metadata_of_statistics_must_be_valid(tmp_path, known, about):
    reseal(known, about)
    with pytest.raises(
        DamagedError, match=r"statistics\.safetensors: (holds values that do not fit|field '.+' is missing|is damaged)"
    ):
        statistics.load(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("upper/relu", lambda known: known.bounds("relu")),
        ("validation/deviation/relu", lambda known: known.validation_deviations("relu")),
        ("expected", lambda known: known.expected),
        ("validation/logits", lambda known: known.validation.logits),
        ("validation/label", lambda known: known.validation.labels),
        ("counts", lambda known: known.counts),
    ],
)
def test_numbers_that_calibrate_never_writes_are_refused(tmp_path, known, name, read, value):
    odd = known.file[name].copy()
    if odd.dtype.kind == "i" and not np.isfinite(value):
        value = -7
    if name == "validation/logits" and value == -1:
        value = -np.inf
    odd.flat[1] = value
    reseal(known, **{name.replace("/", "__"): odd})
    with pytest.raises(DamagedError, match=r"statistics\.safetensors: .*; run gramcli calibrate again"):
        read(statistics.load(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        {"chosen": 0}, {"chosen": 4}, {"chosen": 1.5}, {"layers": ("relu", "other", "a/b")},
        {"inverse_temperature": np.nan},
        {"threshold": Threshold(np.inf, 0.05, 20, 0.01, 0.1)}, {"threshold": Threshold(1.0, 0.05, 20, 0.01, 0.1, 3)},
        {"name": "other"}, {"name": "fused"}, {"fusion": Fusion(np.ones(3))}, {"discriminant": LEVEL},
        {**FUSED, "fusion": Fusion(np.ones(2))}, {**FUSED, "fusion": Fusion(np.array([1.0, 1, -1]))},
        {**FUSED, "fusion": Fusion(np.array([1.0, np.nan, 1]))}, {**FUSED, "fusion": Fusion(np.ones(3), np.inf)},
        {"size_correction": SizeCorrection(np.ones((3, 1)), np.ones((3, 2)))},
        {**FUSED, "discriminant": Discriminant({"relu": 1.0}, {"relu": np.zeros((2, 2), np.float32)}, np.zeros(2))},
        {**FUSED, "discriminant": Discriminant(dict.fromkeys(LAYERS, 0.0), ZEROS, np.zeros(2))},
        {**FUSED, "discriminant": Discriminant(dict.fromkeys(LAYERS, 1.0), ZEROS, np.full(2, np.nan))},
    ], ids=str,
)  # fmt: skip
def test_parts_of_a_decision_must_fit_each_other(tmp_path, change):
    known = create(tmp_path, fill=1)
    decisions.save(tmp_path, decision(known, **FUSED, discriminant=LEVEL))
    assert decisions.load(tmp_path, known).rule.name == "fused"
    decisions.save(tmp_path, decision(known, **change))
    with pytest.raises(
        DamagedError, match=r"decision\.safetensors: (holds values that do not fit|field '.+' is missing|is damaged)"
    ):
        decisions.load(tmp_path, known)


@pytest.mark.parametrize("about", [{}, {"layers": 3}, {"layers": [["a"]], "classes": []}, {"statistics": "x"}])
def test_files_with_a_right_digest_but_missing_fields_are_damaged(tmp_path, known, about):
    numbers = {"scores": np.zeros(1), "accuracy": np.zeros(1)}
    sealed_writer.write(tmp_path / decisions.FILE, "decision", numbers, about)
    with pytest.raises(
        DamagedError, match=r"decision\.safetensors: (holds values that do not fit|field '.+' is missing)"
    ):
        decisions.load(tmp_path, known)
    sealed_writer.write(tmp_path / statistics.FILE, "statistics", numbers, about)
    with pytest.raises(
        DamagedError, match=r"statistics\.safetensors: (holds values that do not fit|field '.+' is missing)"
    ):
        statistics.load(tmp_path)


@pytest.mark.parametrize(
    "metadata",
    [
        {"gramcli": '{"format": 1}'},
        {"kind": "statistics"},
        {"kind": "statistics", "gramcli": "["},
        {"kind": "statistics", "gramcli": "[" * 100_000},
        {"kind": "statistics", "gramcli": "3"},
        {"kind": "statistics", "gramcli": '{"format": "1"}'},
        {"kind": 3, "gramcli": '{"format": 1}'},
    ],
    ids=lambda metadata: str(metadata)[:60],
)
def test_forged_metadata_is_refused(tmp_path, metadata):
    """The digest is right, but the metadata are not."""
    header = {"__metadata__": {"sha256": "0" * 64, **metadata}}
    text = json.dumps(header, separators=(",", ":")).encode()
    content = len(text).to_bytes(8, "little") + text
    content = content.replace(b"0" * 64, hashlib.sha256(content).hexdigest().encode())
    (tmp_path / statistics.FILE).write_bytes(content)
    with pytest.raises(DamagedError, match=r"statistics\.safetensors: is damaged"):
        statistics.load(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 7, b"\xff" * 100, b"<html>", b"\x02\0\0\0\0\0\0\0{}", b"PK\x03\x04" * 9]
)
def test_any_other_content_is_damaged(tmp_path, content):
    (tmp_path / statistics.FILE).write_bytes(content)
    with pytest.raises(DamagedError, match=r"statistics\.safetensors: is damaged"):
        statistics.load(tmp_path)


def test_a_strange_folder_name_stays_on_one_line(tmp_path):
    folder = tmp_path / "a\nb"
    folder.mkdir()
    create(folder)
    with pytest.raises(GramcliError, match=r"a\\nb/statistics") as caught:
        statistics.load(folder, "g")
    assert "\n" not in str(caught.value)
