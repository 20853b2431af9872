"""Sealed files: what is written is read back, and every change of the file is noticed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from gramcli.cache import decision as decisions
from gramcli.cache import sealed, sealed_writer, statistics
from gramcli.cache.decision import Decision, LayerRanking
from gramcli.cache.fitted_rule import FittedRule
from gramcli.cache.statistics import Basis, Sizes
from gramcli.errors import ArtefactError, DamagedError, NoInputError
from gramcli.inference import bundle
from gramcli.system import opener
from tests.support.damage import flips, truncations

TENSORS = {
    "b": np.array([1, 2, 3], np.uint8),
    "x": np.arange(6, dtype=np.float32).reshape(2, 3),
    "none": np.zeros((0, 4), np.float64),
    "flags": np.array([True, False]),
}


@pytest.fixture
def file(tmp_path):
    sealed_writer.write(tmp_path / "s.safetensors", "statistics", TENSORS, {"classes": ['a"b', "sha256"]})
    return tmp_path / "s.safetensors"


def test_it_is_read_back_and_any_safetensors_reader_opens_it(file):
    opened = sealed.load(file, "statistics")
    assert opened.about["classes"] == ['a"b', "sha256"]
    for source in (opened, load_file(file)):
        for name, array in TENSORS.items():
            np.testing.assert_array_equal(source[name], array)
            assert source[name].dtype == array.dtype


def test_equal_content_has_equal_bytes_and_digest(file, tmp_path):
    reordered = dict(reversed(TENSORS.items()))
    sealed_writer.write(tmp_path / "again.safetensors", "statistics", dict(sorted(reordered.items())), {"classes": []})
    sealed_writer.write(tmp_path / "third.safetensors", "statistics", dict(sorted(TENSORS.items())), {"classes": []})
    one, two = ((tmp_path / name).read_bytes() for name in ("again.safetensors", "third.safetensors"))
    assert one == two
    assert sealed.load(file, "statistics").digest != sealed.load(tmp_path / "third.safetensors", "statistics").digest


@pytest.mark.parametrize("rot", [flips, truncations])
def test_every_changed_byte_and_every_truncation_is_noticed(file, rot):
    content = file.read_bytes()
    for changed in rot(content):
        file.write_bytes(changed)
        with pytest.raises(DamagedError, match=r"s\.safetensors: is damaged"):
            sealed.load(file, "statistics")


def test_errors_name_what_does_not_fit(file, tmp_path, monkeypatch):
    with pytest.raises(
        ArtefactError, match="is a statistics file, not a decision file; run gramcli select-layers again"
    ):
        sealed.load(file, "decision")
    with pytest.raises(ArtefactError, match=r"no\.safetensors: is not there; run gramcli select-layers"):
        sealed.load(tmp_path / "no.safetensors", "decision")
    with pytest.raises(DamagedError, match="a folder stands in its place"):
        sealed.load(tmp_path, "decision", below=tmp_path.parent)
    with pytest.raises(NoInputError, match="is a folder, not a file; name a file"):
        sealed.load(tmp_path, "decision")
    monkeypatch.setitem(sealed.FORMATS, "statistics", 0)
    with pytest.raises(ArtefactError, match=r"made by a newer gramcli \(format 1\)"):
        sealed.load(file, "statistics")


@pytest.mark.parametrize("content", [b"", b"RIFF" * 9, b"\2\0\0\0\0\0\0\0{}", b"\x80\2}."])
def test_a_file_of_the_user_that_is_no_model_is_no_damaged_one(tmp_path, content):
    path = tmp_path / "net"
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match="net: is no model of gramcli; name a file that gramcli export made"):
        sealed.load(path, "model")
    with pytest.raises(DamagedError, match="net: is damaged"):
        sealed.load(path, "statistics", below=tmp_path)


def test_a_pipe_as_a_model_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NoInputError, match="pipe: is a pipe, not a file; name a file"):
        bundle.load(tmp_path / "pipe")


@pytest.mark.parametrize("kind", ["statistics", "decision", "model", "finished", "training"])
@pytest.mark.parametrize("left", [0, 7, 300, -1])
def test_a_file_that_is_cut_while_it_is_open_is_damage(tmp_path, kind, left):
    path = tmp_path / "s.safetensors"
    sealed_writer.write(path, kind, {"a": np.ones(100_000, np.float32), "b": np.ones(100_000, np.float32)}, {})
    opened = sealed.load(path, kind)
    assert opened["a"].sum() == 100_000
    os.truncate(path, left % path.stat().st_size)
    with pytest.raises(DamagedError, match="changed while it was read; run the same command again"):
        opened["b"]


@pytest.mark.parametrize("left", [0, 7, 300])
def test_a_file_that_is_cut_between_its_opening_and_its_reading_is_damage(file, monkeypatch, left):
    real = opener.open_file

    def cut(*arguments: object) -> int:
        descriptor = real(*arguments)
        os.truncate(file, left)
        return descriptor

    monkeypatch.setattr(opener, "open_file", cut)
    with pytest.raises(DamagedError, match=r"s\.safetensors: is damaged"):
        sealed.load(file, "statistics")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not list what is mapped")
def test_nothing_that_is_read_is_mapped(file):
    """A map of a file that becomes shorter ends the process with SIGBUS."""
    opened = sealed.load(file, "statistics")
    held = [opened[name] for name in opened.names]
    assert str(file) not in Path("/proc/self/maps").read_text()
    assert len(held) == len(TENSORS)


@pytest.mark.parametrize("grown", ["behind", "header", "empty"])
def test_a_giant_is_refused_by_its_size(file, grown, monkeypatch):
    """It is a hole of a terabyte, so that reading it all would take hours."""
    if grown == "empty":
        os.truncate(file, 0)
    os.truncate(file, 2**40)
    if grown == "header":
        with file.open("r+b") as opened:
            opened.write((2**39).to_bytes(8, "little"))
    read: list[int] = []
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda *asked: read.append(asked[1]) or real(*asked))
    with pytest.raises(DamagedError, match=r"s\.safetensors: is damaged"):
        sealed.load(file, "statistics")
    assert sum(read) < 10_000


def test_a_writer_that_fails_leaves_the_old_file(file, tmp_path):
    before = file.read_bytes()

    def fails():
        with sealed_writer.create(file, "statistics", {"x": ("float32", (2,))}, {}) as arrays:
            arrays["x"][0] = 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_decision_belongs_to_its_statistics(selected_statistics, tmp_path):
    known = selected_statistics
    ranking = LayerRanking("rank", "2", ("b", "a"), (0.5, 0.25), (0.75, 1.0), 2)
    rule = FittedRule("gram", ("b", "a"), 2, known.expected_of(("b", "a")))
    decisions.save(tmp_path, Decision(ranking, rule, 0.5, known.digest))
    found = decisions.load(tmp_path, known)
    assert (found.ranking, found.rule.layers, found.held_out) == (ranking, ("b", "a"), 0.5)
    decisions.save(tmp_path, Decision(ranking, rule, None, "0" * 64))
    with pytest.raises(ArtefactError, match="made from other statistics; run gramcli select-layers again"):
        decisions.load(tmp_path, known)


@pytest.fixture
def selected_statistics(tmp_path):
    basis, sizes = Basis({"a": 2, "b": 1}, ("x", "y"), 0.1, "f", "c"), Sizes(3, 2)
    with statistics.create(tmp_path, basis, sizes) as arrays:
        assert set(arrays) == set(statistics.shapes({"a": 2, "b": 1}, 2, sizes))
        arrays["expected"][...] = 1
        arrays["lower/a"][...], arrays["upper/a"][...] = 0.5, 0.75
        arrays["validation/label"][...] = [0, 1, 1]
    return statistics.load(tmp_path, "f")


def test_statistics_come_back(selected_statistics, tmp_path):
    known = selected_statistics
    assert (known.layers, known.classes, known.epsilon) == ({"a": 2, "b": 1}, ("x", "y"), 0.1)
    assert known.bounds("a")[0].tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert known.validation.labels.tolist() == [0, 1, 1]
    assert known.validation_deviations("b").shape == (3, 2)
    with pytest.raises(ArtefactError, match="made from other descriptors; run gramcli calibrate again"):
        statistics.load(tmp_path, "g")
