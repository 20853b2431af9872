"""What an extract would take, told before and compared with what it took."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gramcli.cache.view import View
from gramcli.errors import ArtefactError, ResourceError
from gramcli.extraction.dry_run import forecast
from gramcli.extraction.extract import extract
from gramcli.settings.run_context import RunContext
from tests.support.interruption_cases import contents
from tests.support.sets import ROOT, quick, read_manifest, sound, write_manifest, write_wav


def test_nothing_is_written_and_what_is_told_comes_true(sounds, tmp_path):
    settings = quick(sounds, tmp_path / "cache", batch=4)
    told = forecast(settings, RunContext(folder=ROOT))
    assert not (tmp_path / "cache").exists()
    assert (told.clips, told.there, told.unreadable, told.todo, told.tried) == (36, 0, 0, 36, 20)
    done = extract(settings, RunContext(folder=ROOT))
    assert done.forwarded == told.todo
    assert told.bytes == 36 * View.open(tmp_path / "cache").bytes_per_clip
    assert told.fits
    assert 0 < told.seconds < 60
    assert 50e6 < told.memory < 5e9


def test_only_what_is_missing_counts(sounds, tmp_path):
    shutil.copytree(sounds.parent, tmp_path / "sounds")
    manifest, mine = tmp_path / "sounds" / "manifest.csv", tmp_path / "mine"
    lines = read_manifest(manifest)
    write_manifest(manifest, lines[:30])
    settings = quick(manifest, mine)
    extract(settings, RunContext(folder=ROOT))
    write_manifest(manifest, lines)
    (tmp_path / "sounds" / lines[35].file).write_bytes(b"no sound")
    before = contents(mine)
    told = forecast(settings, RunContext(folder=ROOT))
    assert contents(mine) == before
    assert (told.clips, told.there, told.unreadable, told.todo) == (36, 30, 1, 5)
    assert extract(settings, RunContext(folder=ROOT)).forwarded == 5


def test_a_finished_extract_has_nothing_to_do(sounds, extracted):
    told = forecast(quick(sounds, extracted), RunContext(folder=ROOT))
    assert (told.clips, told.there, told.todo, told.bytes, told.seconds) == (36, 36, 0, 0, 0.0)


def test_a_cache_of_something_else_is_refused(sounds, extracted):
    with pytest.raises(ArtefactError, match=r"was extracted otherwise \(architecture"):
        forecast(quick(sounds, extracted, network="tests.support.toys:DenseNet"), RunContext(folder=ROOT))


def test_a_disk_without_room_is_told_and_then_refused_before_the_work(sounds, tmp_path, monkeypatch):
    settings = quick(sounds, tmp_path / "cache")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**30, 2**30, 1000))
    told = forecast(settings, RunContext(folder=ROOT))
    assert not told.fits
    assert told.free == 1000
    with pytest.raises(ResourceError, match="36 clips to compute need about 0 MiB, and 0 MiB are free; free some"):
        extract(settings, RunContext(folder=ROOT))
    assert View.open(tmp_path / "cache").present() == set()
    monkeypatch.undo()
    assert extract(settings, RunContext(folder=ROOT)).failed == 0


def test_the_estimate_of_space_is_what_shards_take(tmp_path, rng):
    lines = ["file,label,split"]
    for n in range(48):
        write_wav(tmp_path / f"{n}.wav", sound("hum", rng))
        lines.append(f"{n}.wav,{('hum', 'hiss', 'click')[n % 3]},{('train', 'validation')[n % 2]}")
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    settings = quick(tmp_path / "m.csv", tmp_path / "cache")
    told = forecast(settings, RunContext(folder=ROOT))
    extract(settings, RunContext(folder=ROOT))
    stored = sum(path.stat().st_size for path in Path(settings.cache.dir).rglob("*.h5"))
    assert 0.2 < told.bytes / stored < 1, "the rest is what HDF5 needs, much in shards as small as these"
