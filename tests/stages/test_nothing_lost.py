"""Kills, faults of the system, full disks and second writers, at every point: what was committed stays, to the bit."""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gramcli.errors import Exit
from tests import faults
from tests.cli.conftest import TOML
from tests.cli.processes import started
from tests.power import restore
from tests.sets import read_manifest, write_manifest, write_set
from tests.trials import Ended, Trials

TEMPORARY = re.compile(r"\..+\.tmp")
WRITES = {"write", "fsync", "link", "replace", "posix_fallocate", "msync", "ftruncate", "pwrite"}
"""Calls without which a command cannot have done what it should."""
MANY_SHARDS = ["extract", "--clips-per-shard", "2"]


def contents(cache: Path) -> dict[str, bytes]:
    """What a cache holds; not the lock, which names its last holder, nor the records of runs, which tell the time."""
    files = {str(path.relative_to(cache)): path for path in cache.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != "lock" and not name.startswith("runs/")}


def whole(content: dict[str, bytes]) -> dict[str, bytes]:
    return {name: bytes for name, bytes in content.items() if not TEMPORARY.fullmatch(Path(name).name)}


def shards(cache: Path) -> dict[str, tuple[int, int]]:
    """Shards that are there, and the file that each of them is."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in cache.rglob("*.h5")}


@dataclass
class Case:
    """A command, the cache that it finds, and the one that it leaves when nothing goes wrong."""

    trials: Trials
    cache: Path
    command: list[str]
    base: Path | None
    before: dict[str, bytes]
    after: dict[str, bytes]
    calls: list[str]
    written: int
    seconds: float

    @classmethod
    def of(cls, trials: Trials, cache: Path, command: list[str], base: Path | None) -> Case:
        case = cls(trials, cache, command, base, {}, {}, [], 0, 0.0)
        case.reset()
        case.before = contents(cache) if base else {}
        done = trials.run(command)
        assert done.code == 0, done.err
        case.after, case.calls, case.written, case.seconds = contents(cache), done.calls, done.written, done.seconds
        assert case.before != case.after == whole(case.after)
        return case

    def reset(self) -> None:
        shutil.rmtree(self.cache, ignore_errors=True)
        if self.base:
            shutil.copytree(self.base, self.cache)

    def check(self) -> None:
        """Everything is the old file or the new one, nothing is lost, and the same command goes on to the same end."""
        found = whole(contents(self.cache))
        assert set(self.before) <= set(found)
        for name, content in found.items():
            assert content in (self.before.get(name), self.after.get(name)), name
        committed = shards(self.cache)
        again = self.trials.run(self.command)
        assert again.code == 0, again.err
        assert contents(self.cache) == self.after
        assert not [path for path in self.cache.rglob("*") if TEMPORARY.fullmatch(path.name)]
        for record in self.cache.glob("runs/*"):
            json.loads(record.read_text())
        assert committed.items() <= shards(self.cache).items()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sounds and settings, and a manifest that lists only some of the sounds."""
    folder = tmp_path_factory.mktemp("trials")
    manifest = write_set(folder / "sounds", clips=2)
    write_manifest(manifest.with_name("part.csv"), read_manifest(manifest)[:20])
    (folder / "gramcli.toml").write_text(TOML)
    return folder


@pytest.fixture(scope="module")
def trials(project: Path) -> Iterator[Trials]:
    with Trials(project) as trials:
        yield trials


@pytest.fixture(scope="module")
def cases(trials: Trials, project: Path) -> dict[str, Case]:
    cache, bases = project / ".gramcli", project / "bases"
    bases.mkdir()
    assert trials.run(["extract", "sounds/part.csv"]).code == 0
    shutil.move(cache, bases / "part")
    found = {"extract": Case.of(trials, cache, ["extract"], None)}
    shutil.move(cache, bases / "extracted")
    found["extract grown"] = Case.of(trials, cache, ["extract"], bases / "part")
    found["calibrate"] = Case.of(trials, cache, ["calibrate"], bases / "extracted")
    shutil.move(cache, bases / "calibrated")
    found["select-layers"] = Case.of(trials, cache, ["select-layers"], bases / "calibrated")
    found["extract by two"] = Case.of(trials, cache, MANY_SHARDS, None)
    return found


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


# --- S1, S3, S5: a fault at any one call


@pytest.mark.parametrize("name", ["extract", "extract grown", "calibrate", "select-layers"])
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
        told = f"{fault} at call {place}, {case.calls[place]}: {ended}"
        if fault in faults.KILLS:
            assert ended.code == -signal.SIGKILL, told
        elif fault == "short":
            assert ended.code == 0, told
        elif case.calls[place] in WRITES or ended.code != 0:
            assert ended.code == Exit.RESOURCE, told
            assert "cannot be" in ended.error, told
            assert "Traceback" not in ended.err, told
        if ended.code == 0:  # a file that could not be read was done without, at most finished.safetensors
            left = {name: content for name, content in case.after.items() if name != "finished.safetensors"}
            assert left.items() <= contents(case.cache).items(), told
        case.check()


# --- S1, G1: kill -9 at random moments


@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_kill_9_at_random_moments_loses_no_committed_clip(cases, count):
    case, rng = cases["extract by two"], random.Random(count)
    kept = []
    for _ in range(count):
        case.reset()
        ended = case.trials.run(case.command, kill_after=rng.uniform(0.2, 1.0) * case.seconds)
        assert ended.code in (-signal.SIGKILL, 0), ended
        kept.append(len(shards(case.cache)))
        case.check()
    assert sum(0 < n < 12 for n in kept) > count / 4  # most moments are those that matter


@pytest.mark.slow
def test_kill_9_of_the_real_command_loses_no_committed_clip(cases, project, monkeypatch):
    monkeypatch.chdir(project)
    case, rng = cases["extract by two"], random.Random(5)
    for _ in range(5):
        case.reset()
        with started(MANY_SHARDS) as process:
            while process.poll() is None and not shards(case.cache):
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.1))
            process.kill()
            process.wait()
        assert process.returncode in (-signal.SIGKILL, 0)
        assert shards(case.cache)
        case.check()


# --- S20: a power cut


@pytest.mark.parametrize("name", ["extract", "extract grown", "calibrate", "select-layers"])
@pytest.mark.parametrize("most", [2, pytest.param(None, marks=pytest.mark.slow)])
def test_a_power_cut_after_any_call_loses_nothing(cases, project, tmp_path, name, most):
    """Of what was not synced nothing is there, or some of it; of what was, all."""
    case = cases[name]
    case.reset()
    assert case.trials.run(case.command, top=str(project), into=str(tmp_path / "log")).code == 0
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
            restore(tree, project)
            assert committed <= set(shards(case.cache))
            case.check()
    assert shown[-1] == len(shards(case.cache))


# --- S3, G4: a full disk


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
def test_a_file_system_that_is_really_full_loses_nothing(cases, project):
    """Blocks of a small file system in memory; a memory map that ran out of them would end the process."""
    disk = project / ".gramcli"
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
                    refused(ended, "No space left on device")
                (disk / "ballast").unlink()
                case.check()
    finally:
        subprocess.run(["umount", disk], check=True)
    assert outcomes.count(Exit.RESOURCE) >= 16


# --- S7, G9: two writers


@pytest.mark.parametrize("count", [4, pytest.param(100, marks=pytest.mark.slow)])
def test_a_second_writer_is_refused_at_once(cases, count):
    """The first is halted at some call while it holds the lock."""
    case, rng = cases["extract"], random.Random(count)
    held = range(case.calls.index("pwrite") + 1, len(case.calls) - 20)
    for _ in range(count):
        case.reset()
        first = case.trials.start(case.command, at=rng.choice(held), kind="stop")
        assert case.trials.wait(first, stopped=True) is None
        second = case.trials.run(case.command)
        assert second.code == Exit.LOCKED, second
        assert second.seconds < 1
        assert re.search(rf"\.gramcli: in use by process {first} on \S+ since \d{{4}}-\d\d-\d\d \d\d:", second.error)
        os.kill(first, signal.SIGCONT)
        done = case.trials.wait(first)
        assert done is not None
        assert done.code == 0, done
        assert contents(case.cache) == case.after


@pytest.mark.parametrize("count", [4, pytest.param(100, marks=pytest.mark.slow)])
def test_readers_beside_a_writer_see_only_what_is_committed(cases, count):
    case, rng = cases["extract by two"], random.Random(count)
    seen = []
    for _ in range(count):
        case.reset()
        writer = case.trials.start(case.command, at=rng.randrange(len(case.calls)), kind="stop")
        assert case.trials.wait(writer, stopped=True) is None
        there = len(shards(case.cache))
        verified = case.trials.run(["cache", "verify"])
        seen.append(verified.code)
        assert verified.code == 0 or (verified.code == Exit.ARTEFACT and not there), verified
        if there:
            assert case.trials.run(["cache", "info", "--json"]).code == 0
        os.kill(writer, signal.SIGCONT)
        done = case.trials.wait(writer)
        assert done is not None
        assert done.code == 0
        assert contents(case.cache) == case.after
    assert 0 in seen


def test_a_disk_that_cannot_be_written_is_told_before_any_sound_is_read(cases):
    case = cases["extract"]
    for fault, words in (("EROFS", "Read-only file system"), ("EACCES", "Permission denied")):
        case.reset()
        ended = case.trials.run(case.command, at=0, kind=fault, lasting=True)
        refused(ended, f".gramcli: cannot be written: {words}; choose a folder that can be written (--cache")
        assert "reading files" not in ended.err
        assert not case.cache.exists()


@pytest.mark.parametrize("count", [4, pytest.param(100, marks=pytest.mark.slow)])
def test_two_writers_whose_locks_do_nothing_corrupt_no_shard(cases, count):
    """Each is halted at some call while the other one works; one may fail, as its temporary file was swept away."""
    case, rng = cases["extract by two"], random.Random(count)
    codes = []
    for _ in range(count):
        case.reset()
        pair = [
            case.trials.start(case.command, at=rng.randrange(len(case.calls)), kind="stop", locks=False)
            for _ in range(2)
        ]
        ended = {process: case.trials.wait(process, stopped=True) for process in pair}
        halted = [process for process in pair if ended[process] is None]
        for process in rng.sample(halted, len(halted)):
            os.kill(process, signal.SIGCONT)
            if rng.random() < 0.5:
                time.sleep(rng.uniform(0, 0.2))
        ended |= {process: case.trials.wait(process) for process in halted}
        codes += [done.code for done in ended.values() if done is not None]
        assert set(codes) <= {Exit.OK, Exit.RESOURCE}, ended
        case.check()
    assert len(codes) == 2 * count
    assert codes.count(0) >= count / 2


# --- S21, S22: what must not matter


@pytest.mark.parametrize(
    "name",
    ["two words", "名前 é [/x] *?.tmp", "line\nbreak", os.fsdecode(b"no utf-8 \xff"), "/".join(["long" * 50] * 12)],
    ids=["spaces", "signs", "line", "bytes", "long"],
)
def test_a_cache_of_any_name_works(cases, project, name):
    cache = project / "names" / name
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
