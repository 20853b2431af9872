"""Statistics and decisions: rot, forgery and replacement are found; equal content gives equal bytes."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from gramcli.cache import decision as decisions
from gramcli.cache import sealed, statistics
from gramcli.cache.decision import Decision
from gramcli.cache.statistics import Statistics
from gramcli.errors import ArtefactError, DamagedError, GramcliError
from tests.cache.damage import flips, truncations, zeroed

LAYERS = {"relu": 2, "a/b": 1, ":relu#1": 3}


def create(folder, classes=("x", "y"), fill=0.5) -> Statistics:
    with statistics.create(
        folder, LAYERS, classes, epsilon=0.05, fingerprint="f", clips="c", validation=3, outputs=2
    ) as arrays:
        for array in arrays.values():
            array[...] = fill
    return statistics.load(folder, "f")


@pytest.fixture
def known(tmp_path):
    return create(tmp_path)


def decision(known: Statistics) -> Decision:
    return Decision("rank", "auto", tuple(LAYERS), (0.5, 1 / 3, np.nan), (0.5, 0.75, 1.0), 2, known.file.digest)


@pytest.mark.parametrize("kind", ["statistics", "decision"])
@pytest.mark.parametrize("rot", [flips, truncations, lambda content: zeroed(content, 16)])
def test_every_change_of_a_byte_and_every_loss_is_found(tmp_path, known, kind, rot):
    decisions.save(tmp_path, decision(known))
    path = tmp_path / f"{kind}.safetensors"
    for changed in rot(path.read_bytes()):
        path.write_bytes(changed)
        with pytest.raises(DamagedError, match=rf"{kind}\.safetensors: is damaged"):
            statistics.load(tmp_path) if kind == "statistics" else decisions.load(tmp_path, known)


@pytest.mark.parametrize(
    ("classes", "validation", "outputs"), [(["x"], 0, 0), (["x", "\udcff", "a\nb"], 1, 5), ([], 0, 0)]
)
def test_any_size_comes_back(tmp_path, classes, validation, outputs):
    with statistics.create(
        tmp_path, LAYERS, classes, epsilon=1e-6, fingerprint="f", clips="c", validation=validation, outputs=outputs
    ) as arrays:
        arrays["validation/key"][...] = 255
        arrays["expected"][...] = [1 / 3, np.inf, 5e-324]
        wanted = {name: array.copy() for name, array in arrays.items()}
    known = statistics.load(tmp_path)
    assert known.classes == tuple(classes)
    assert list(known.layers.items()) == list(LAYERS.items())
    assert {name: (str(known.file[name].dtype), known.file[name].shape) for name in known.file.names} == (
        statistics.shapes(LAYERS, len(classes), validation, outputs)
    )
    for name, array in wanted.items():
        assert known.file[name].tobytes() == array.tobytes()


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
    assert np.array(read.scores).tobytes() == np.array(decision(known).scores).tobytes()
    assert (read.order, read.accuracy, read.layers) == (tuple(LAYERS), (0.5, 0.75, 1.0), ("relu", "a/b"))


def test_new_statistics_under_an_open_file_are_not_mixed_with_the_old(tmp_path, known):
    assert known.counts.tolist() == [0, 0]
    create(tmp_path, fill=0.25)
    with pytest.raises(ArtefactError, match=r"statistics\.safetensors: was replaced while it was read"):
        known.bounds("relu")
    known.file.path.unlink()
    with pytest.raises(ArtefactError, match="was replaced while it was read"):
        _ = known.expected


def test_tensors_that_are_not_there_are_damage(tmp_path):
    about = {"layers": [["relu", 2]], "classes": [], "epsilon": 1, "fingerprint": "f", "clips": "c"}
    sealed.write(tmp_path / statistics.FILE, "statistics", {"counts": np.zeros(0, np.int64)}, about)
    known = statistics.load(tmp_path, "f")
    assert known.counts.tolist() == []
    with pytest.raises(DamagedError, match=r"holds no lower/relu"):
        known.bounds("relu")


@pytest.mark.parametrize("about", [{}, {"layers": 3}, {"layers": [["a"]], "classes": []}, {"statistics": "x"}])
def test_well_sealed_files_that_say_too_little_are_damage(tmp_path, known, about):
    numbers = {"scores": np.zeros(1), "accuracy": np.zeros(1)}
    sealed.write(tmp_path / decisions.FILE, "decision", numbers, about)
    with pytest.raises(DamagedError, match=r"decision\.safetensors: does not say what it must"):
        decisions.load(tmp_path, known)
    sealed.write(tmp_path / statistics.FILE, "statistics", numbers, about)
    with pytest.raises(DamagedError, match=r"statistics\.safetensors: does not say what it must"):
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
    """The digest is right; what stands beside it is not."""
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
def test_rubbish_is_damage(tmp_path, content):
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
