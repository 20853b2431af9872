from __future__ import annotations

import os

import pytest

from gramcli.cache import clip_table, completion
from gramcli.dataset.clip import Clip
from tests.support.damage import flips, truncations, zeroed

FOUND = completion.Completion(2, ("a",), ("a note",))


@pytest.fixture
def done(tmp_path):
    """A cache of two files, one of them with a name that is not UTF-8, written down as finished."""
    clips = []
    for n, name in enumerate((b"one.wav", b"tw\xff.wav")):
        path = tmp_path / os.fsdecode(name)
        path.write_bytes(b"sound")
        about = path.stat()
        clips.append(Clip(
            path.name, f"{n}" * 64, path.name, str(path), 5, about.st_mtime_ns, None, None, "a", "train", "g", 0, n
        ))  # fmt: skip
    clip_table.write(tmp_path, clips, 5.0)
    completion.write(tmp_path, "source", FOUND, clips, {0, 3})
    return tmp_path


def test_what_was_finished_is_told(done):
    found = completion.read(done, "source", {0, 1, 3})
    assert found == FOUND


def touch(path):
    os.utime(path, ns=(1, 1))


def damage(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "change",
    [
        lambda cache: touch(cache / "one.wav"),
        lambda cache: (cache / "one.wav").unlink(),
        lambda cache: (cache / os.fsdecode(b"tw\xff.wav")).write_bytes(b"longer sound"),
        lambda cache: clip_table.write(cache, [], 5.0),
        lambda cache: (cache / "clips.csv").unlink(),
        lambda cache: damage(cache / completion.FILE),
        lambda cache: damage(cache / "clips.csv"),
        lambda cache: (cache / completion.FILE).unlink(),
    ],
)
def test_nothing_is_finished_once_something_has_changed(done, change):
    change(done)
    assert completion.read(done, "source", {0, 3}) is None


@pytest.mark.parametrize(("source", "shards"), [("other", {0, 3}), ("", {0, 3}), ("source", {0}), ("source", set())])
def test_nothing_is_finished_for_another_manifest_or_without_a_shard(done, source, shards):
    assert completion.read(done, source, shards) is None


@pytest.mark.parametrize("rot", [flips, truncations, lambda content: zeroed(content, 16)])
def test_nothing_is_finished_by_a_damaged_file(done, rot):
    path = done / completion.FILE
    for changed in rot(path.read_bytes()):
        path.write_bytes(changed)
        assert completion.read(done, "source", {0, 3}) is None


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_nothing_is_finished_by_what_is_no_file(done, kind, tmp_path):
    path = done / completion.FILE
    path.rename(done / "copy")
    path.mkdir() if kind == "folder" else path.symlink_to(done / "copy")
    assert completion.read(done, "source", {0, 3}) is None


def test_nothing_is_finished_where_the_table_cannot_be_named(done):
    damage(done / "clips.csv")
    (done / completion.FILE).unlink()
    completion.write(done, "source", FOUND, [], {0, 3})
    assert not (done / completion.FILE).exists()
