"""Damage found, moved away, and mended by computing only what it took."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gramcli.audio.condition import parse
from gramcli.cache import clip_table, failures, regular_file, shard
from gramcli.cache.view import CLEAN, View
from gramcli.errors import ArtefactError, LockedError, NewerError, ResourceError
from gramcli.extraction import extract as extraction
from gramcli.extraction import retry
from gramcli.extraction.compute import compute_shards
from gramcli.extraction.conditions import extract_conditions
from gramcli.extraction.extract import extract
from gramcli.maintenance import repair as stage
from gramcli.maintenance.repair import repair
from gramcli.maintenance.verify import verify
from gramcli.progress import Silent
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import Settings
from gramcli.system.folder_lock import lock
from tests.support.crashing_decoders import LOST, CrashingDecoders
from tests.support.interruption_cases import contents
from tests.support.sets import ROOT, quick, sound, write_wav


@pytest.fixture
def settings(sounds: Path, tmp_path: Path) -> Settings:
    shutil.copytree(sounds.parent, tmp_path / "sounds")
    return quick(tmp_path / "sounds" / "manifest.csv", tmp_path / "mine")


@pytest.fixture
def mine(settings: Settings) -> Path:
    """A cache whose audio may be changed."""
    extract(settings, RunContext(folder=ROOT))
    return Path(settings.cache.dir)


def flip(path: Path, place: int = -100) -> bytes:
    """Changes one byte, and returns the damaged content."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    return bytes(content)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Clips that a repair computes."""
    clips: list[str] = []

    def noted(extractor, todo, **how):
        clips.extend(clip.id for group in todo.values() for clip in group)
        return compute_shards(extractor, todo, **how)

    monkeypatch.setattr(stage, "compute_shards", noted)
    monkeypatch.setattr(retry, "compute_shards", noted)
    return clips


def test_a_damaged_shard_gets_its_bytes_back_and_is_kept_as_it_was(mine, computed):
    before, view = contents(mine), View.open(mine)
    path = view.path(3)
    damaged = flip(path)
    progress = Silent()
    done = repair(mine, RunContext(progress=progress))
    kept = mine / "quarantine" / "views" / "clean" / "shards" / "00003.h5"
    assert (dict(done.moved), done.computed, done.complete, done.advice) == ({path: kept}, 5, True, ())
    assert kept.read_bytes() == damaged
    assert f"{path}: moved to {kept}" in progress.notes
    assert sorted(computed) == sorted(clip.id for clip in clip_table.require(mine).rows if clip.shard == 3)
    shutil.rmtree(mine / "quarantine")
    assert contents(mine) == before
    assert repair(mine).moved == {}


def test_what_stands_in_a_shards_place_is_moved_too(mine):
    before, view = contents(mine), View.open(mine)
    view.path(0).rename(mine / "elsewhere")
    view.path(0).symlink_to(mine / "elsewhere")
    view.path(1).unlink()
    view.path(1).mkdir()
    assert repair(mine).computed == 10
    assert (mine / "quarantine" / "views" / "clean" / "shards" / "00000.h5").is_symlink()
    (mine / "elsewhere").unlink()
    shutil.rmtree(mine / "quarantine")
    assert contents(mine) == before


def test_files_of_one_name_stay_side_by_side_in_quarantine(mine):
    path, damaged = View.open(mine).path(2), []
    for place in (-100, -200, -300):
        damaged.append(flip(path, place))
        repair(mine)
    kept = sorted((mine / "quarantine").rglob("*.h5*"))
    assert [one.name for one in kept] == ["00002.h5", "00002.h5~1", "00002.h5~2"]
    assert [one.read_bytes() for one in kept] == damaged


def test_a_damaged_generation_uncovers_the_one_before_and_its_failures_are_tried_again(settings, monkeypatch, computed):
    with monkeypatch.context() as patched:
        patched.setattr(extraction, "Decoders", CrashingDecoders)
        extract(settings, RunContext(folder=ROOT))
    extract(settings, RunContext(folder=ROOT), retry_failed=True)
    mine = Path(settings.cache.dir)
    before, view = contents(mine), View.open(mine)
    (number,) = [
        n for n in view.present() if len(view.generations(n)) > 1 and len(set(view.read(n, generation=0).status)) > 1
    ][:1]
    flip(view.path(number))
    computed.clear()
    done = repair(mine)
    assert 0 < done.computed == len(computed) <= 2
    assert set(computed) <= set(LOST)
    shutil.rmtree(mine / "quarantine")
    assert contents(mine) == before


def test_audio_that_has_changed_is_left_to_extract(mine, settings, rng):
    view, rows = View.open(mine), clip_table.require(mine).rows
    changed = next(clip for clip in rows if clip.shard == 2)
    write_wav(Path(changed.path), sound("hiss", rng))
    flip(view.path(2))
    done = repair(mine)
    assert (done.computed, done.complete, done.advice) == (0, False, ())
    again = extract(settings, RunContext(folder=ROOT))
    assert (again.forwarded, again.failed) == (5, 0)
    assert verify(mine, full=True).damaged == ()


@pytest.mark.parametrize("name", ["clips.csv", "views/clean/view.json"])
def test_a_damaged_table_or_identity_is_derived_by_extract(mine, settings, name):
    before = contents(mine)
    flip(mine / name)
    done = repair(mine)
    assert set(done.moved) == {mine / name}
    assert not done.complete
    assert extract(settings, RunContext(folder=ROOT)).forwarded == 0
    shutil.rmtree(mine / "quarantine")
    assert contents(mine) == before


def test_derived_files_are_moved_and_their_command_named(cache):
    flip(cache / "statistics.safetensors", 3000)
    done = repair(cache)
    assert {path.name for path in done.moved} == {"statistics.safetensors", "decision.safetensors"}
    assert done.advice == ("run gramcli calibrate and gramcli select-layers",)
    assert verify(cache).damaged == ()


def test_a_damaged_condition_is_computed_when_it_is_next_asked_for(mine):
    clips = clip_table.require(mine).used("test")
    condition = parse("gain:-6")
    extract_conditions(mine, [condition], clips)
    flip(View.open(mine, condition.name).path(0))
    done = repair(mine)
    assert done.advice == (
        f"condition {condition.name}: the next evaluate or extract with --condition computes what is missing",
    )
    view, placed = extract_conditions(mine, [condition], clips)[condition.text]
    assert [view.read(clip.shard).keys[clip.row] for clip in placed] == [clip.key for clip in clips]
    assert verify(mine, full=True).damaged == ()


def test_failures_are_derived_from_what_is_there_after_a_repair(settings, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(extraction, "Decoders", CrashingDecoders)
        assert extract(settings, RunContext(folder=ROOT)).failed == 3
    mine = Path(settings.cache.dir)
    view = View.open(mine)
    for number in view.present():
        if len(set(view.read(number).status)) > 1:
            flip(view.path(number))
    repair(mine)
    assert failures.read(mine, View.open(mine), clip_table.require(mine).rows) == {}
    assert extract(settings, RunContext(folder=ROOT)).failed == 0


def test_a_repair_waits_for_no_writer_and_needs_a_cache(mine, tmp_path):
    with lock(mine), pytest.raises(LockedError, match="in use by process"):
        repair(mine)
    with pytest.raises(ArtefactError, match="no extracted clips there"):
        repair(tmp_path / "none")
    assert not (mine / "views" / CLEAN / "quarantine").exists()


def test_a_file_that_cannot_be_read_just_now_is_not_taken_for_damaged(mine, monkeypatch):
    path = View.open(mine).path(1)
    read = regular_file.read

    def failing(asked: Path, *others: object) -> bytes | None:
        if asked == path:
            raise ResourceError(f"{asked}: cannot be read: Input/output error")
        return read(asked, *others)

    monkeypatch.setattr(regular_file, "read", failing)
    with pytest.raises(ResourceError, match=r"00001\.h5: cannot be read"):
        repair(mine)
    assert path.is_file()


def test_what_a_newer_version_made_is_not_taken_for_damaged(mine, monkeypatch):
    view, rows = View.open(mine), View.open(mine).read(1)
    flip(view.path(0))
    view.path(1).unlink()
    with monkeypatch.context() as patched:
        patched.setattr(shard, "FORMAT", 2)
        view.write(1, rows)
    before = contents(mine)
    with pytest.raises(NewerError, match=r"00001\.h5: was made by a newer gramcli \(format 2\); update gramcli"):
        repair(mine)
    assert contents(mine) == before
