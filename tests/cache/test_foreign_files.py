"""A cache is not begun over files of other programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from gramcli import cache
from gramcli.cache import foreign_files
from gramcli.errors import UsageError

NAMES = ["clips.csv", "failures.csv", "finished.safetensors", "statistics.safetensors", "decision.safetensors"]


def write(folder: Path) -> int:
    return cache.write(["a", "b"], {"x": np.ones((2, 3))}, labels=["dog", "rain"], splits=["train"] * 2, cache=folder)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", [b"", b"id,path\n", b"safetensors"])
def test_files_of_other_programs_are_not_replaced(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    if content == b"safetensors":
        save_file({"weight": np.ones(3)}, path)
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    message = rf"{name}: is no file of gramcli, and would be replaced; move it away, or name another folder"
    with pytest.raises(UsageError, match=message):
        write(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == [name]
    assert path.read_bytes() == before


def test_files_of_a_cache_do_not_matter(tmp_path: Path) -> None:
    assert write(tmp_path) == 2
    foreign_files.require_none(tmp_path)
    (tmp_path / "views").rename(tmp_path.parent / "views-of-another-place")
    foreign_files.require_none(tmp_path)
