"""A checkpoint is read once: what is hashed is what is used, and a file that is being written is refused."""

from __future__ import annotations

import hashlib
import json
import os
import tracemalloc
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gramcli.cache.view import View
from gramcli.errors import ArtefactError
from gramcli.extraction.extract import extract
from gramcli.maintenance.reproduce import reproduce
from gramcli.network import build as building
from gramcli.network import checkpoint
from gramcli.network.checkpoint_file import CheckpointFile
from gramcli.settings.configure import configure
from gramcli.settings.run_context import RunContext
from tests.support import toys
from tests.support.sets import CLASSES, ROOT, quick, write_set


def write(path: Path, seed: int, **about: object) -> Path:
    torch.manual_seed(seed)
    save_file(
        toys.ResNet().state_dict(),
        path,
        {"gramcli": json.dumps({"architecture": "tests.support.toys:ResNet", **about})},
    )
    return path


@pytest.mark.parametrize("change", ["grow", "shrink", "write"])
@pytest.mark.parametrize("read", [checkpoint.read, checkpoint.identify])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch, read, change):
    path = write(tmp_path / "net.safetensors", 0)
    into = CheckpointFile.into

    def changing(file: CheckpointFile, view: memoryview) -> int:
        count = into(file, view[:1000])
        if change == "write":
            with path.open("r+b") as other:
                other.seek(-4, os.SEEK_END)
                other.write(b"\0\0\0\0")
            os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
        else:
            os.truncate(path, 5000 if change == "shrink" else path.stat().st_size + 1)
        return count

    monkeypatch.setattr(CheckpointFile, "into", changing)
    with pytest.raises(ArtefactError, match=r"net\.safetensors: changed while it was read; wait until it is written"):
        read(path)


def test_the_digest_is_of_the_bytes_that_the_weights_came_from(tmp_path):
    path = write(tmp_path / "net.safetensors", 0)
    before = path.read_bytes()
    found = checkpoint.read(path)
    write(path, 1)
    path.write_bytes(b"")  # the bytes are no mapping of the file
    assert found.digest == hashlib.sha256(before).hexdigest()
    torch.manual_seed(0)
    assert torch.equal(found.weights()["fc.weight"], toys.ResNet().state_dict()["fc.weight"])


def test_weights_replaced_while_the_network_is_built(tmp_path, monkeypatch):
    """As a training run does that ends just then."""
    path = write(tmp_path / "net.safetensors", 0)
    used, other = path.read_bytes(), write(tmp_path / "other.safetensors", 1).read_bytes()
    call = building._call

    def replacing(*arguments):
        path.write_bytes(other)
        return call(*arguments)

    settings = configure(
        RunContext(
            {
                **quick(write_set(tmp_path / "sounds", clips=1), tmp_path / "cache").as_dict(),
                "network": {"weights": str(path), "classes": list(CLASSES)},
            }
        ),
        metadata=checkpoint.settings_of_file,
    )
    with monkeypatch.context() as patched:
        patched.setattr(building, "_call", replacing)
        assert extract(settings, RunContext(folder=ROOT)).failed == 0
    assert View.open(tmp_path / "cache").identity["weights"] == hashlib.sha256(used).hexdigest()
    with pytest.raises(ArtefactError, match="weights: "):
        reproduce(tmp_path / "cache", 3)
    path.write_bytes(used)
    found = reproduce(tmp_path / "cache", 3)
    assert found.identical == found.clips


def test_settings_of_another_file_than_the_weights_are_refused(tmp_path):
    path = write(tmp_path / "net.safetensors", 0, frontend={"mean": -3.0})
    flags = {
        **quick(write_set(tmp_path / "sounds", clips=1), tmp_path / "cache").as_dict(),
        "network": {"weights": str(path), "classes": list(CLASSES)},
    }
    flags["frontend"].pop("mean")
    settings = configure(RunContext(flags), metadata=checkpoint.settings_of_file)
    assert settings.frontend.mean == -3.0
    write(path, 1, frontend={"mean": -4.0})
    with pytest.raises(ArtefactError, match=r"net\.safetensors: changed while it was read"):
        extract(settings, RunContext(folder=ROOT))
    assert not (tmp_path / "cache" / "views").exists()
    write(path, 1, frontend={"mean": -3.0}, training="another, with the same settings")
    assert extract(settings, RunContext(folder=ROOT)).failed == 0


@pytest.mark.parametrize("start", [b"PK\3\4", b"\0" * 4, b"\x80\2\x8a\x0a", b"\x40\0\0\0\0\0\0\0{", b""], ids=repr)
def test_sparse_giants_are_refused_before_they_are_read(tmp_path, start):
    path = tmp_path / "net.pt"
    path.write_bytes(start)
    os.truncate(path, 40 * 10**9)
    tracemalloc.start()
    try:
        with pytest.raises(ArtefactError, match=r"net\.pt: is no (checkpoint|safetensors file): "):
            checkpoint.read(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


def test_a_sparse_giant_with_a_right_header_is_refused(tmp_path):
    text = json.dumps({"a": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}}).encode()
    (tmp_path / "net").write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(tmp_path / "net", 8 + len(text) + 4 * 10**9)
    with pytest.raises(ArtefactError, match=r"net: is no checkpoint: a sparse file, of whose \d+ bytes \d+ are there"):
        checkpoint.read(tmp_path / "net")


def test_safetensors_take_little_more_memory_than_the_file(tmp_path):
    save_file({"a": torch.ones(1 << 22)}, tmp_path / "net")
    tracemalloc.start()
    try:
        weights = checkpoint.read(tmp_path / "net").weights()
        assert float(weights["a"].sum()) == 1 << 22
        assert tracemalloc.get_traced_memory()[1] < 1.2 * (1 << 24)
    finally:
        tracemalloc.stop()
