"""Kills, failed system calls, power cuts and full disks at any point lose no committed clip."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from gramcli.errors import Exit
from tests.support import faults
from tests.support.forked_commands import Ended
from tests.support.interruption_cases import MANY_SHARDS, contents, shards
from tests.support.power_cut import restore
from tests.support.processes import started

STAGES = ("extract", "extract grown", "calibrate", "select-layers")
WRITES = {"write", "fsync", "link", "replace", "posix_fallocate", "msync", "ftruncate", "pwrite"}
"""Calls without which a command cannot have done what it should."""


def some(total: int, most: int | None) -> list[int]:
    """Numbers below `total`: all, or as many as asked for, each from its own part of them."""
    if most is None or most >= total:
        return list(range(total))
    return [random.Random(total + n).randrange(n * total // most, (n + 1) * total // most) for n in range(most)]


def refused(ended: Ended, *words: str) -> None:
    assert ended.code == Exit.RESOURCE, ended
    for word in words:
        assert word in ended.error
    assert "Traceback" not in ended.err


# --- a fault at any one call


@pytest.mark.parametrize("name", [*STAGES, "repair", "clean", "retry"])
@pytest.mark.parametrize("most", [2, pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["kill", "torn", "short", "ENOSPC", "EIO", "EDQUOT lasting", "EIO lasting"])
def test_a_fault_at_any_call_loses_nothing(cases, name, kind, most):
    case = cases[name]
    fault, *lasting = kind.split()
    places = [n for n, call in enumerate(case.calls) if fault not in ("torn", "short") or call == "write"]
    if fault in ("ENOSPC", "EDQUOT"):  # what a full disk can say
        places = [n for n in places if case.calls[n] in WRITES | {"mkdir", "open"}]
    for place in (places[n] for n in some(len(places), most)):
        case.reset()
        ended = case.trials.run(case.command, at=place, kind=fault, lasting=bool(lasting))
        # threads read shards at the same time, so that the order of calls varies; a process that was killed told none
        call = ended.calls[place] if place < len(ended.calls) else case.calls[place]
        told = f"{fault} at call {place}, {call}: {ended}"
        if fault in faults.KILLS:
            assert ended.code == -signal.SIGKILL, told
        elif fault == "short":
            assert ended.code == 0, told
        elif call in WRITES or ended.code != 0:
            assert ended.code == Exit.RESOURCE, told
            assert "cannot be" in ended.error, told
            assert "Traceback" not in ended.err, told
        if ended.code == 0:  # a file that could not be read was done without, at most finished.safetensors
            left = {name: content for name, content in case.after.items() if name != "finished.safetensors"}
            assert left.items() <= contents(case.cache).items(), told
        case.check()


# --- kill -9 at random moments


@pytest.mark.parametrize("count", [25, pytest.param(1000, marks=pytest.mark.slow)])
def test_kill_9_at_random_moments_loses_no_committed_clip(cases, count):
    case, rng = cases["extract by two"], random.Random(count)
    kept = []
    for _ in range(count):
        case.reset()
        process, least = case.trials.start(case.command), rng.randrange(12)
        # by what is there, not by time: machines are busy
        for _ in range(60_000):
            if len(list(case.cache.rglob("*.h5"))) >= least:
                break
            time.sleep(0.001)
        time.sleep(rng.uniform(0, case.seconds / 12))
        os.kill(process, signal.SIGKILL)  # not waited for yet, so the number is still its own
        ended = case.trials.wait(process)
        assert ended.code in (-signal.SIGKILL, 0), ended
        kept.append(len(shards(case.cache)))
        case.check()
    assert sum(0 < n < 12 for n in kept) > count / 4  # most moments are those that matter


@pytest.mark.slow
def test_kill_9_of_the_real_command_loses_no_committed_clip(cases, trial_project, monkeypatch):
    monkeypatch.chdir(trial_project)
    case, rng = cases["extract by two"], random.Random(5)
    for _ in range(5):
        case.reset()
        with started([*MANY_SHARDS, "--network", "tests.support.toys:ResNet"]) as process:
            while process.poll() is None and not shards(case.cache):
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.1))
            process.kill()
            process.wait()
        assert process.returncode in (-signal.SIGKILL, 0)
        assert shards(case.cache)
        case.check()


# --- a power cut


@pytest.mark.parametrize("name", [*STAGES, "repair", "clean", "retry"])
@pytest.mark.parametrize("most", [2, pytest.param(None, marks=pytest.mark.slow)])
def test_a_power_cut_after_any_call_loses_nothing(cases, trial_project, tmp_path, name, most):
    """Of what was not synced nothing is there, or some of it; of what was, all."""
    case = cases[name]
    case.reset()
    assert case.trials.run(case.command, top=str(trial_project), into=str(tmp_path / "log")).code == 0
    moments = [
        (call, *({path: tree[path] for path in tree if path.split("/")[0] == case.cache.name} for tree in trees))
        for call, *trees in pickle.loads((tmp_path / "log").read_bytes())
    ]
    committed, shown = set(shards(case.base) if case.base else ()), []
    for place, (call, nothing, part) in enumerate(moments):
        if call == "fsync" and "link" in {call for call, _, _ in moments[place - 3 : place]}:  # done for good
            committed |= {path.rpartition("/")[2] for path in nothing if path.endswith(".h5")}
        shown.append(len(committed))
        if place not in set(some(len(moments), most)):
            continue
        for tree in (nothing, part):
            shutil.rmtree(case.cache, ignore_errors=True)
            restore(tree, trial_project)
            assert committed <= set(shards(case.cache))
            case.check()
    assert shown[-1] == len(shards(case.cache))


# --- a full disk


@pytest.mark.parametrize("name", ["extract", "calibrate", "select-layers"])
@pytest.mark.parametrize("levels", [5, pytest.param(200, marks=pytest.mark.slow)])
def test_a_disk_that_is_full_at_any_level_loses_nothing(cases, name, levels):
    """A budget of bytes: what fits of a write is written, all else finds no space left."""
    case = cases[name]
    for level in range(levels):
        room = case.written * level // levels
        case.reset()
        refused(case.trials.run(case.command, room=room), "No space left on device", "free some space and run the same")
        case.check()


@pytest.mark.slow
def test_a_file_system_that_is_really_full_loses_nothing(cases, trial_project):
    """Blocks of a small file system in memory; a memory map that ran out of them would end the process."""
    disk = trial_project / ".gramcli"
    if os.geteuid() != 0:
        pytest.skip("only root mounts a file system")
    shutil.rmtree(disk, ignore_errors=True)
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    outcomes = []
    try:
        for name in ("extract", "calibrate", "select-layers"):
            case = cases[name]
            for pages in range(16):
                for path in disk.iterdir():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                if case.base:
                    shutil.copytree(case.base, disk, dirs_exist_ok=True)
                free = os.statvfs(disk).f_bavail * 4096
                (disk / "ballast").write_bytes(bytes(max(free - 4096 * pages, 0)))
                ended = case.trials.run(case.command)
                outcomes.append(ended.code)
                if ended.code:
                    refused(ended, "free some space")  # by the system, or by extract before the work
                (disk / "ballast").unlink()
                case.check()
    finally:
        subprocess.run(["umount", disk], check=True)
    assert outcomes.count(Exit.RESOURCE) >= 16


def test_a_disk_that_cannot_be_written_is_told_before_any_sound_is_read(cases):
    case = cases["extract"]
    for fault, words in (("EROFS", "Read-only file system"), ("EACCES", "Permission denied")):
        case.reset()
        ended = case.trials.run(case.command, at=0, kind=fault, lasting=True)
        refused(ended, f".gramcli: cannot be written: {words}; choose a folder that can be written")
        assert "reading files" not in ended.err
        assert not case.cache.exists()


# --- what must not matter


@pytest.mark.parametrize(
    "name",
    ["two words", "名前 é [/x] *?.tmp", "line\nbreak", os.fsdecode(b"no utf-8 \xff"), "/".join(["long" * 50] * 12)],
    ids=["spaces", "signs", "line", "bytes", "long"],
)
def test_a_cache_of_any_name_works(cases, trial_project, name):
    cache = trial_project / "names" / name
    for command in (["extract"], ["calibrate"], ["select-layers"], ["cache", "verify"], ["extract"]):
        done = cases["extract"].trials.run([*command, "--cache", str(cache)])
        assert done.code == 0, done.err
    stored = {path.name: path.read_bytes() for path in cache.rglob("*.h5")}
    assert stored == {Path(name).name: content for name, content in cases["extract"].after.items() if ".h5" in name}


def test_times_of_the_cache_and_the_clock_do_not_matter(cases):
    """Nothing is done again, or left undone, for a time in the future or at the beginning."""
    case = cases["extract by two"]
    for when in (0, 2**33):
        case.reset()
        shutil.rmtree(case.cache, ignore_errors=True)
        ended = case.trials.run(case.command, at=len(case.calls) // 2, kind="kill")
        assert ended.code == -signal.SIGKILL
        for path in case.cache.rglob("*"):
            os.utime(path, (when, when))
        case.check()
