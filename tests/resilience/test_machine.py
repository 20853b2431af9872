"""A state machine extends, kills, damages, relabels, resumes and repairs a cache in random order.

The model knows what was committed, what was damaged since, and what every clip's numbers are. Commands run as processes
of their own, which are really killed.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from gramcli.cache import clip_table, shard
from gramcli.cache.view import View
from gramcli.errors import Exit
from tests.support.forked_commands import Ended, ForkedCommands
from tests.support.interruption_cases import contents
from tests.support.sets import Line, read_manifest, write_manifest

DERIVED = ("failures.csv", "finished.safetensors")
"""Files that are made anew without a word where they are not as they were written."""
Rows = dict[str, tuple[bytes, ...]]


def rows(cache: Path, without: set[str]) -> Rows:
    """The bits of every clip that is listed and committed, by its name; damaged files are not read."""
    view, found = View.open(cache), {}
    present = {number for number in view.present() if str(view.path(number).relative_to(cache)) not in without}
    shards = {number: view.read(number) for number in present}
    for clip in clip_table.require(cache).rows:
        if clip.split and clip.shard in shards:
            arrays = (*shards[clip.shard].descriptors.values(), shards[clip.shard].logits)
            assert shards[clip.shard].status[clip.row] == shard.OK
            found[clip.id] = tuple(np.ascontiguousarray(values[clip.row]).tobytes() for values in arrays)
    return found


class Machine(RuleBasedStateMachine):
    """The cache and what is known of it."""

    trials: ForkedCommands
    project: Path
    lines: list[Line]
    known: Rows

    def __init__(self) -> None:
        super().__init__()
        self.cache = self.project / ".gramcli"
        self.manifest = self.project / "sounds" / "machine.csv"
        shutil.rmtree(self.cache, ignore_errors=True)
        self.listed = [line for line in self.lines if line.file.endswith("-0.wav")]
        self.committed: dict[str, bytes] = {}
        """Shards that are there and were never damaged."""
        self.damaged: set[str] = set()
        self.complete = False
        """Whether the last extract has seen the manifest as it is."""
        self.write()

    def write(self) -> None:
        write_manifest(self.manifest, self.listed)
        self.complete = False

    def run(self, *command: str, **faults: Any) -> Ended:
        ended = self.trials.run([*command], **faults)
        assert "Traceback" not in ended.err, ended
        if ended.code not in (0, -9):
            assert ended.err.count("error: ") == 1, ended
        if ended.code == Exit.DAMAGED:
            assert any(name in ended.err for name in self.damaged), (ended.err, self.damaged)
        return ended

    def is_there(self) -> bool:
        """Whether there are the two files that say what all others are."""
        return (self.cache / "clips.csv").is_file() and (self.cache / "views" / "clean" / "view.json").is_file()

    def rotten(self, *kinds: str) -> set[str]:
        return {name for name in self.damaged if any(kind in name for kind in kinds)}

    @invariant()
    def nothing_committed_is_lost_or_changed(self) -> None:
        if not self.cache.is_dir():
            return
        there = {name: content for name, content in contents(self.cache).items() if name.endswith(".h5")}
        for name, content in self.committed.items():
            assert there.get(name) == content, name
        for name, content in there.items():
            if name not in self.damaged and not name.startswith("quarantine"):
                self.committed[name] = content

    @rule(chosen=st.sets(st.integers(0, 23)))
    def list(self, chosen: set[int]) -> None:
        """Clips join the manifest and leave it; the first of each source stays."""
        stays = [line for n, line in enumerate(self.lines) if n in chosen or line.file.endswith("-0.wav")]
        labels = {line.file: line.label for line in self.listed}
        self.listed = [Line(one.file, labels.get(one.file, one.label), one.split, one.source) for one in stays]
        self.write()

    @rule(source=st.integers(0, 11), label=st.sampled_from(["hum", "hiss", "click"]))
    def relabel(self, source: int, label: str) -> None:
        name = sorted({line.source for line in self.lines})[source]
        self.listed = [
            Line(one.file, label if one.source == name else one.label, one.split, one.source) for one in self.listed
        ]
        self.write()

    @rule()
    def extract(self) -> None:
        ended = self.run("extract", "sounds/machine.csv", "--clips-per-shard", "3")
        if self.rotten("view.json", "clips.csv"):
            assert ended.code == Exit.DAMAGED, ended
            return
        if ended.code == Exit.DAMAGED:
            assert self.rotten(".h5"), ended
            return
        assert ended.code == 0, ended
        self.complete = True
        self.damaged -= set(DERIVED)
        found = rows(self.cache, self.damaged)
        assert all(found[name] == self.known[name] for name in found)
        if not self.rotten(".h5"):
            assert set(found) == {line.file for line in self.listed}
        wanted = {line.file: line.label for line in self.listed}
        assert {clip.id: clip.label for clip in clip_table.require(self.cache).rows if clip.split} == wanted

    @rule(at=st.integers(0, 120), kind=st.sampled_from(["kill", "torn", "ENOSPC", "EIO"]))
    def extract_that_ends_early(self, at: int, kind: str) -> None:
        ended = self.run("extract", "sounds/machine.csv", "--clips-per-shard", "3", at=at, kind=kind)
        assert ended.code in (0, -9, Exit.RESOURCE, Exit.DAMAGED), ended
        self.complete = False
        self.damaged = {name for name in self.damaged if name not in DERIVED}

    @precondition(lambda self: self.cache.is_dir() and not self.rotten("view.json", "clips.csv"))
    @rule(chance=st.randoms(use_true_random=False))
    def rot(self, chance: random.Random) -> None:
        """One bit of one file; whatever carries a digest tells."""
        there = [
            name for name in contents(self.cache) if not name.startswith("quarantine") and name not in self.damaged
        ]
        there = [name for name in there if not name.endswith(".tmp")]
        if there:
            name = chance.choice(sorted(there))
            content = bytearray((self.cache / name).read_bytes())
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            (self.cache / name).write_bytes(content)
            self.damaged.add(name)
            self.committed.pop(name, None)

    @precondition(lambda self: len(self.committed) > 0)
    @rule(chance=st.randoms(use_true_random=False))
    def lose_a_shard(self, chance: random.Random) -> None:
        name = chance.choice(sorted(self.committed))
        (self.cache / name).unlink()
        del self.committed[name]
        self.complete = False

    @precondition(lambda self: self.is_there())
    @rule()
    def lose_the_table(self) -> None:
        (self.cache / "clips.csv").unlink()
        self.damaged.discard("clips.csv")
        self.complete = False

    @precondition(lambda self: self.is_there())
    @rule()
    def calibrate(self) -> None:
        ended = self.run("calibrate")
        if self.rotten("view.json", "clips.csv"):
            assert ended.code == Exit.DAMAGED, ended
            return
        view = View.open(self.cache)
        used = {clip.shard for clip in clip_table.require(self.cache).used("train", "validation")}
        if used - view.present():
            assert ended.code == Exit.ARTEFACT, ended
            return
        if {str(view.path(number).relative_to(self.cache)) for number in used} & self.damaged:
            assert ended.code == Exit.DAMAGED, ended
            return
        assert ended.code == 0, ended
        self.damaged.discard("statistics.safetensors")
        if self.complete:
            fresh = self.project / "fresh"
            shutil.rmtree(fresh, ignore_errors=True)
            assert self.run("extract", "sounds/machine.csv", "--cache", "fresh").code == 0
            assert self.run("calibrate", "--cache", "fresh").code == 0
            one, other = ((folder / "statistics.safetensors").read_bytes() for folder in (self.cache, fresh))
            assert one == other

    @precondition(lambda self: self.is_there())
    @rule()
    def verify(self) -> None:
        ended = self.run("cache", "verify")
        found = {name for name in self.damaged if name not in DERIVED}
        assert ended.code == (Exit.DAMAGED if found else 0), (ended, found)
        assert all(name in ended.err for name in found), ended

    @precondition(lambda self: self.is_there())
    @rule()
    def repair(self) -> None:
        broken = {name: (self.cache / name).read_bytes() for name in self.damaged if name not in DERIVED}
        ended = self.run("cache", "verify", "--repair")
        assert ended.code in (0, Exit.ARTEFACT), ended
        kept = [content for name, content in contents(self.cache).items() if name.startswith("quarantine")]
        assert all(content in kept for content in broken.values())
        self.damaged -= set(broken)
        if ended.code == 0:
            assert self.run("cache", "verify").code == 0
        else:
            assert "gramcli extract" in ended.error
            self.complete = False
        if broken:
            self.damaged.discard("failures.csv")


@pytest.mark.parametrize(("examples", "steps"), [(8, 12), pytest.param(400, 25, marks=pytest.mark.slow)])
def test_a_cache_and_its_model(trials, trial_project, examples, steps):
    lines = read_manifest(trial_project / "sounds" / "manifest.csv")
    assert len(lines) == 24
    shutil.rmtree(trial_project / ".gramcli", ignore_errors=True)
    assert trials.run(["extract"]).code == 0
    known = rows(trial_project / ".gramcli", set())
    shutil.rmtree(trial_project / ".gramcli")

    class Here(Machine):
        pass

    Here.trials, Here.project, Here.lines, Here.known = trials, trial_project, lines, known
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks
        ),
    )
