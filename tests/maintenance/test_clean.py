"""What a cache holds that nothing reads any more."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from gramcli.cache import clip_table
from gramcli.cache.view import View
from gramcli.calibration.calibrate import calibrate
from gramcli.errors import ArtefactError, DamagedError, LockedError
from gramcli.extraction import extract as extraction
from gramcli.extraction.extract import extract
from gramcli.maintenance.clean import clean, leftovers
from gramcli.maintenance.repair import repair
from gramcli.maintenance.verify import verify
from gramcli.settings.run_context import RunContext
from gramcli.system.folder_lock import lock
from tests.maintenance.test_repair import flip
from tests.support.crashing_decoders import CrashingDecoders
from tests.support.interruption_cases import contents
from tests.support.sets import ROOT, quick, read_manifest, write_manifest


@pytest.fixture
def mine(sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with superseded generations and a file in quarantine."""
    settings = quick(sounds, tmp_path / "mine")
    with monkeypatch.context() as patched:
        patched.setattr(extraction, "Decoders", CrashingDecoders)
        extract(settings, RunContext(folder=ROOT))
    extract(settings, RunContext(folder=ROOT), retry_failed=True)
    mine = Path(settings.cache.dir)
    view = View.open(mine)
    flip(next(view.path(number) for number in view.present() if view.generations(number) == [0]))
    repair(mine)
    return mine


def test_a_cache_in_use_has_nothing_to_clean(cache):
    before = contents(cache)
    assert leftovers(cache) == clean(cache) == []
    assert contents(cache) == before


def test_what_is_superseded_or_in_quarantine_goes_when_asked(mine):
    before = contents(mine)
    found = leftovers(mine)
    assert contents(mine) == before, "looking deletes nothing"
    assert {one.why for one in found} == {
        "damaged, moved into quarantine by a repair",
        *(f"replaced by {Path(name).name}" for name in before if ".1.h5" in name),
    }
    assert all(one.bytes == one.path.stat().st_size for one in found)
    before_statistics = statistics_of(mine)
    assert clean(mine) == found
    assert set(before) - set(contents(mine)) == {str(one.path.relative_to(mine)) for one in found}
    assert leftovers(mine) == []
    assert verify(mine, full=True).damaged == ()
    assert statistics_of(mine) == before_statistics


def statistics_of(cache: Path) -> bytes:
    calibrate(cache)
    return (cache / "statistics.safetensors").read_bytes()


def test_clips_that_have_left_the_manifest_go_only_with_their_whole_shard_and_on_demand(sounds, tmp_path):
    shutil.copytree(sounds.parent, tmp_path / "sounds")
    manifest, mine = tmp_path / "sounds" / "manifest.csv", tmp_path / "mine"
    settings = quick(manifest, mine)
    extract(settings, RunContext(folder=ROOT))
    rows = clip_table.require(mine).rows
    leaving = {clip.id for clip in rows if clip.shard in (1, 2)} | {next(clip.id for clip in rows if clip.shard == 3)}
    write_manifest(manifest, [line for line in read_manifest(manifest) if line.file not in leaving])
    extract(settings, RunContext(folder=ROOT))
    assert leftovers(mine) == []
    found = leftovers(mine, unlisted=True)
    assert [one.path.name for one in found] == ["00001.h5", "00002.h5"]
    clean(mine, unlisted=True)
    assert View.open(mine).present() == {0, 3, 4, 5, 6, 7}
    assert verify(mine).damaged == ()
    assert verify(mine).unfinished == 0
    assert extract(settings, RunContext(folder=ROOT)).forwarded == 0
    shutil.copy(sounds, manifest)
    assert extract(settings, RunContext(folder=ROOT)).forwarded == 10
    fresh = dataclasses.replace(settings, cache=dataclasses.replace(settings.cache, dir=str(tmp_path / "fresh")))
    extract(fresh, RunContext(folder=ROOT))
    assert statistics_of(mine) == statistics_of(tmp_path / "fresh")


@pytest.mark.parametrize("where", ["quarantine", "quarantine/views", "quarantine/views/clean/shards"])
def test_what_a_linked_quarantine_leads_to_is_not_deleted(mine, tmp_path, where):
    precious = tmp_path / "precious"
    (mine / where).rename(precious)
    (mine / where).symlink_to(precious)
    before = contents(precious)
    if where == "quarantine":
        for look in (leftovers, clean):
            with pytest.raises(DamagedError, match=r"quarantine: is damaged \(a link stands in its place\)"):
                look(mine)
    else:  # in the quarantine, links are what a repair has moved there
        assert mine / where in [one.path for one in clean(mine)]
        assert not (mine / where).is_symlink()
    assert contents(precious) == before != {}


def test_a_repair_moves_nothing_out_of_the_cache(mine, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    shutil.rmtree(mine / "quarantine")
    (mine / "quarantine").symlink_to(tmp_path / "elsewhere")
    flip(View.open(mine).path(0))
    before = contents(mine)
    with pytest.raises(DamagedError, match=r"quarantine: is damaged \(a link stands in its place\)"):
        repair(mine)
    assert contents(tmp_path / "elsewhere") == {}
    assert {**before, "failures.csv": b""} == {"failures.csv": b"", **contents(mine)}


def test_a_generation_that_is_cleaned_up_while_the_cache_is_verified_is_no_damage(mine, monkeypatch):
    view = View.open(mine)
    number = next(number for number in view.present() if len(view.generations(number)) > 1)
    read = View.read

    def racing(self: View, asked: int, *others: object, **named: object) -> object:
        if asked == number:
            view.path(number, 0).unlink(missing_ok=True)
        return read(self, asked, *others, **named)

    monkeypatch.setattr(View, "read", racing)
    assert verify(mine).damaged == ()


def test_a_writer_is_not_disturbed(mine, tmp_path):
    with lock(mine), pytest.raises(LockedError):
        clean(mine)
    with pytest.raises(ArtefactError, match="no extracted clips there"):
        leftovers(tmp_path / "none")


def test_what_was_replaced_stays_as_long_as_what_replaced_it_is_damaged(mine):
    view = View.open(mine)
    number = next(number for number in view.present() if len(view.generations(number)) > 1)
    flip(view.path(number))
    before = contents(mine)
    for look in (leftovers, clean):
        with pytest.raises(DamagedError, match=rf"{number:05d}\.1\.h5: is damaged"):
            look(mine)
    assert contents(mine) == before
