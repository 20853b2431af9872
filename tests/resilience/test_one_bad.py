"""One unusable file among many fails alone; the rows of all other clips stay identical."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gramcli.cache import clip_table
from gramcli.cache.shard import Shard
from gramcli.cache.view import View
from gramcli.cli.app import run
from gramcli.extraction.extract import extract
from gramcli.settings.run_context import RunContext
from tests.support.commands import TOML
from tests.support.sets import CLASSES, ROOT, Line, quick, sound, write_manifest, write_wav

BAD: dict[str, Callable[[Path], object]] = {
    "garbage": lambda path: path.write_bytes(b"no sound at all" * 99),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-500]),
    "nan": lambda path: path.write_bytes(path.read_bytes()[:-40] + b"\xff" * 40),
    "missing": lambda path: path.unlink(),
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "folder": lambda path: (path.unlink(), path.mkdir()),
}


def rows(cache: Path) -> dict[str, tuple[bytes, ...]]:
    """The bits of every usable clip, by its name."""
    view = View.open(cache)
    shards: dict[int, Shard] = {number: view.read(number) for number in view.present()}
    found = {}
    for clip in clip_table.require(cache).rows:
        if clip.shard is not None and shards[clip.shard].status[clip.row] == "ok":
            shard = shards[clip.shard]
            arrays = (*shard.descriptors.values(), shard.logits)
            found[clip.id] = tuple(np.ascontiguousarray(values[clip.row]).tobytes() for values in arrays)
    return found


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", BAD)
def test_all_others_are_as_without_it(tmp_path, monkeypatch, capfd, rng, kind, count):
    lines = []
    for n in range(count):
        line = Line(f"{n:04}.wav", CLASSES[n % 3], ("train", "validation", "test")[n // 3 % 3], str(n))
        write_wav(tmp_path / "sounds" / line.file, sound(line.label, rng))
        lines.append(line)
    bad = lines.pop(count // 2 + 3)
    manifest = write_manifest(tmp_path / "sounds" / "manifest.csv", lines)
    extract(quick(manifest, tmp_path / "without"), RunContext(folder=ROOT))
    before = rows(tmp_path / "without")
    assert len(before) == count - 1

    write_manifest(manifest, [*lines[: count // 2 + 3], bad, *lines[count // 2 + 3 :]])
    BAD[kind](tmp_path / "sounds" / bad.file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT)
    Path("gramcli.toml").write_text(TOML)
    assert run(["extract", "--cache", "with", "--clips-per-shard", "7"]) == 5
    told = capfd.readouterr().err
    assert f"error: 1 of {count} clips failed" in told
    assert rows(tmp_path / "with") == before
    listed = Path("with/failures.csv").read_text().splitlines()
    assert len(listed) == 3
    assert listed[2].startswith(f"{bad.file},")
