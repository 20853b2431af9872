"""Whole files of a cache are read if they are regular files of a plausible size."""

from __future__ import annotations

import os

import pytest

from gramcli.cache import clip_table, failures, regular_file
from gramcli.cache.view import View
from gramcli.errors import DamagedError
from tests.support.damage import clip


def test_what_is_there_is_read_whole(tmp_path):
    content = os.urandom(3_000_000).replace(b"\0", b"1")
    (tmp_path / "file").write_bytes(content)
    assert regular_file.read(tmp_path / "file", "clips", tmp_path) == content
    assert regular_file.read(tmp_path / "file", "shard", tmp_path, lambda head: len(content)) == content
    assert regular_file.read(tmp_path / "none", "clips", tmp_path) is None
    assert regular_file.read(tmp_path / "no" / "none", "clips", tmp_path) is None


@pytest.mark.parametrize(
    ("size", "fault"),
    [(2**40, f"it has {2**40} bytes, more than gramcli has written"), (2**31, "parts of it were never written")],
)
def test_a_table_with_a_hole_is_refused_before_it_is_read(tmp_path, size, fault):
    clip_table.write(tmp_path, [clip(n) for n in range(100)], 1.0)
    os.truncate(tmp_path / "clips.csv", size)
    with pytest.raises(DamagedError, match=rf"clips\.csv: is damaged \({fault}\); delete it"):
        clip_table.read(tmp_path)
    assert clip_table.name(tmp_path) == ""


def test_a_list_of_failures_with_a_hole_is_taken_from_the_shards(tmp_path):
    view = View.create(tmp_path, {"head": "none", "outputs": 1, "layers": [["relu", 1]]}, {})
    (tmp_path / "failures.csv").touch()
    os.truncate(tmp_path / "failures.csv", 2**40)
    assert failures.read(tmp_path, view, []) == {}


def test_a_file_that_is_longer_than_it_says_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    with pytest.raises(DamagedError, match=r"file: is damaged \(it has 5 bytes, more than gramcli has written\)"):
        regular_file.read(tmp_path / "file", "shard", tmp_path, lambda head: 4)
