"""``gramcli cache`` and the options of extract that look after a cache, as a person sees them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import save_file

from gramcli.cache import clip_table
from gramcli.cache.view import View
from tests.support.sets import sound, write_wav
from tests.support.toys import ResNet

SHARD = Path(".gramcli/views/clean/shards/00001.h5")


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def test_a_damaged_cache_is_repaired_and_cleaned(calibrated, gramcli):
    before = SHARD.read_bytes()
    damage(SHARD)
    found = gramcli("cache", "verify")
    assert found.code == 6
    assert f"damaged: {SHARD}: is damaged" in found.err
    assert "gramcli cache verify --repair moves them into quarantine and computes their clips again" in found.error

    mended = gramcli("cache", "verify", "--repair")
    assert mended.code == 0
    assert mended.out.endswith("8 clips computed again\n7 files, none damaged\n")
    assert "quarantine/views/clean/shards/00001.h5" in mended.out
    assert SHARD.read_bytes() == before

    listed = gramcli("cache", "clean")
    assert "damaged, moved into quarantine by a repair" in listed.out
    assert listed.out.endswith(": --yes deletes them\n")
    assert json.loads(gramcli("cache", "clean", "--yes", "--json").out)["files"][0]["bytes"] == len(before) - 1
    assert gramcli("cache", "clean").out == "no file can be deleted\n"


def test_a_repair_names_the_command_that_is_left(calibrated, gramcli):
    damage(Path(".gramcli/clips.csv"))
    mended = gramcli("cache", "verify", "--repair")
    assert mended.code == 4
    assert "run the gramcli extract that made it again" in mended.error
    assert "note: .gramcli/clips.csv: moved to .gramcli/quarantine/clips.csv" in mended.err
    assert gramcli("extract").code == 0
    assert gramcli("cache", "verify").code == 0


def test_a_full_look_reads_the_audio_too(calibrated, gramcli, rng):
    assert gramcli("cache", "verify", "--full").out == (
        "7 files, none damaged\n24 of 24 audio files are unchanged, 0 have changed, 0 cannot be read\n"
    )
    first, second, *_ = (Path(clip.path) for clip in clip_table.require(Path(".gramcli")).rows)
    write_wav(first, sound("hum", rng))
    second.unlink()
    found = gramcli("cache", "verify", "--full")
    assert found.code == 4
    assert "22 of 24 audio files are unchanged, 1 have changed, 1 cannot be read" in found.out
    assert f"changed: {first}: has changed since it was extracted" in found.err
    assert "1 audio files have changed since they were extracted; restore them, or touch them" in found.error


def test_a_replay_states_the_difference(calibrated, gramcli):
    done = gramcli("cache", "verify", "--replay", "5")
    assert done.code == 0
    assert done.out.startswith(
        "7 files, none damaged\n5 clips computed again: 5 identical; largest difference of a descriptor 0 ("
    )
    view = View.open(Path(".gramcli"))
    rows = view.read(0)
    view.path(0).unlink()
    view.write(0, replace(rows, descriptors={layer: values[:, ::-1] for layer, values in rows.descriptors.items()}))
    other = gramcli("cache", "verify", "--replay", "24", "--json")
    assert other.code == 4
    assert json.loads(other.out)["replayed"]["identical"] == 16
    assert "clips computed on this machine differ by more than 5e-05" in other.error


def test_a_checkpoint_that_has_moved_is_named(project, gramcli):
    save_file(ResNet(3).state_dict(), "net.safetensors")
    assert gramcli("extract", "--weights", "net.safetensors").code == 0
    Path("net.safetensors").rename("moved.safetensors")
    lost = gramcli("cache", "verify", "--replay", "1")
    assert lost.code == 3
    assert "net.safetensors: cannot be read: No such file or directory; if it has moved, name it with --w" in lost.error
    assert gramcli("cache", "verify", "--replay", "1", "--weights", "moved.safetensors").code == 0


def test_a_dry_run_tells_and_writes_nothing(project, gramcli, monkeypatch):
    told = gramcli("extract", "--dry-run")
    assert told.code == 0
    rows = dict(line.split(",", 1) for line in told.out.splitlines())
    assert (rows["clips"], rows["there already"], rows["to compute"]) == ("24", "0", "24")
    assert rows["disk"].endswith("that are free")
    assert "(measured on 24 clips)" in rows["time"]
    assert not Path(".gramcli").exists()
    assert gramcli("extract", "--dry-run", "--profile").code == 2
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**30, 2**30, 1000))
    short = gramcli("extract", "--dry-run")
    assert short.code == 7
    assert "1000 B are free" in short.error


@pytest.mark.parametrize("again", [False, True])
def test_a_try_is_offered_for_what_failed(project, gramcli, again):
    path = Path("sounds/hum-0-0.wav")
    content = path.read_bytes()
    path.write_bytes(content[:-40] + b"\xff" * 40)  # NaN
    assert gramcli("extract").code == 5
    done = gramcli("extract", *["--retry-failed"] * again)
    assert done.code == 5
    assert ("note: 1 failed clips retried: 0 are usable now" in done.err) == again
