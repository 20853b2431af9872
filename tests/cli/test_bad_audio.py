"""Recordings that chance, a bad disk or an enemy has changed, as a person meets them: a line each, the others done."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from tests.support.audio_mutations import mutated

SUFFIX = (*["wav"] * 6, *["flac"] * 2, *["ogg"] * 4, *["mp3"] * 2, *["aiff"] * 2)
"""Of the files that `mutated` yields in turn."""


def write_mutated(folder: Path, count: int, seed: int) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{n:03}.{SUFFIX[n % len(SUFFIX)]}" for n in range(count)]
    for path, content in zip(paths, mutated(count, seed, seconds=0.3), strict=True):
        path.write_bytes(content)
    return paths


@pytest.mark.parametrize("count", [48, pytest.param(1000, marks=pytest.mark.slow)])
def test_classify_answers_for_every_file(calibrated, gramcli, count):
    paths = write_mutated(Path("bad"), count, seed=2)
    done = gramcli("classify", "bad", "sounds/hum-3-0.wav", "--quiet")
    assert done.code == 5
    assert done.err.count("\n") <= 1
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert {row["path"] for row in rows} == {*map(str, paths), "sounds/hum-3-0.wav"}
    assert len(done.out.splitlines()) == len(rows) + 1, "an error of two lines"
    assert all((row["status"] == "ok") == bool(row["label"]) == (not row["error"]) for row in rows)
    assert rows[-1]["status"] == "ok"
    assert count / 4 < sum(row["status"] != "ok" for row in rows) < len(rows)


def test_extract_lists_what_it_could_not_use(project, gramcli):
    manifest = Path("sounds/manifest.csv")
    paths = write_mutated(Path("sounds/bad"), 48, seed=3)
    with manifest.open("a") as file:
        file.writelines(f"bad/{path.name},hum,train,bad {path.name}\n" for path in paths)
    done = gramcli("extract")
    assert done.code == 5
    assert "Traceback" not in done.err
    _, *failed = Path(".gramcli/failures.csv").read_text().splitlines()
    assert 48 / 4 < len(failed) - 1 < 48
    assert gramcli("cache", "verify", "--full").code == 0
    assert gramcli("calibrate").code == 0


def test_a_file_that_ends_early_is_used_when_it_is_asked_for(calibrated, gramcli):
    content = Path("sounds/hum-3-0.wav").read_bytes()
    Path("cut.wav").write_bytes(content[: len(content) // 2])
    refused = gramcli("classify", "cut.wav", "sounds/hum-3-1.wav")
    assert refused.code == 5
    assert "truncated: " in refused.out
    assert "--allow-truncated uses what is there" in refused.out
    used = gramcli("classify", "cut.wav", "sounds/hum-3-1.wav", "--allow-truncated")
    assert used.code == 0, used.err
    assert used.out.count(",ok,") == 2
    short = gramcli("classify", "sounds/hum-3-0.wav", "sounds/hum-3-1.wav", "--max-seconds", "0.1")
    assert short.code == 3
    assert "0.25 s are more than 0.1 s; --max-seconds allows more" in short.out
