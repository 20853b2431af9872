"""What a closer look finds that no digest can."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gramcli.cache import clip_table, shard
from gramcli.cache.view import View
from gramcli.errors import ArtefactError
from gramcli.extraction.extract import extract
from gramcli.maintenance.audio_files import check_audio
from gramcli.maintenance.verify import verify
from gramcli.settings.run_context import RunContext
from tests.support.sets import ROOT, quick, sound, write_wav


def reseal(view: View, number: int, rows: shard.Shard) -> Path:
    path = view.path(number)
    path.unlink()
    view.write(number, rows)
    return path


def test_a_failed_row_with_numbers_is_found_by_a_full_look(cache):
    view = View.open(cache)
    rows = view.read(0)
    path = reseal(view, 0, replace(rows, status=("decoder crashed (signal 9)", *rows.status[1:])))
    assert verify(cache).damaged == ()
    assert [*verify(cache, full=True).faults] == [path]


def test_every_fault_has_its_file(cache):
    view = View.open(cache)
    for path in (cache / "clips.csv", view.folder / "view.json", view.path(2)):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    found = verify(cache)
    assert set(found.faults) == {cache / "clips.csv", view.folder / "view.json", view.path(2)}
    assert all(line.startswith(f"{path}: is damaged") for path, line in found.faults.items())


def test_clips_without_a_shard_are_counted(cache):
    View.open(cache).path(4).unlink()
    assert verify(cache).unfinished == 5


def test_audio_is_compared_with_what_was_extracted(sounds, tmp_path, rng):
    shutil.copytree(sounds.parent, tmp_path / "sounds")
    mine = tmp_path / "mine"
    extract(quick(tmp_path / "sounds" / "manifest.csv", mine), RunContext(folder=ROOT))
    assert (heard := check_audio(mine, 2)).files == 36
    assert not heard.lost
    first, second, *_ = (clip.path for clip in clip_table.require(mine).rows)
    write_wav(Path(first), sound("hum", rng))
    Path(second).unlink()
    heard = check_audio(mine, 2)
    assert heard.changed == (first,)
    assert heard.gone == {second: "no such file"}
    assert heard.lost == {first, second}


def test_windows_of_one_file_are_known_by_the_whole_of_it(tmp_path, rng):
    lines = ["file,label,split"]
    for n, (label, split) in enumerate([("hum", "train"), ("hiss", "train"), ("click", "validation")]):
        write_wav(tmp_path / f"{n}.wav", sound(label, rng, 1.0))
        lines.append(f"{n}.wav,{label},{split}")
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    extract(quick(tmp_path / "m.csv", tmp_path / "mine"), RunContext(folder=ROOT))
    assert len(clip_table.require(tmp_path / "mine").rows) == 12
    assert (check_audio(tmp_path / "mine", 1).files, check_audio(tmp_path / "mine", 1).lost) == (3, set())


def test_there_must_be_a_cache(tmp_path):
    with pytest.raises(ArtefactError, match="no extracted clips there"):
        verify(tmp_path)
