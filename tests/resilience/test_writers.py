"""A second writer of a cache is refused, and readers beside a writer see whole files."""

from __future__ import annotations

import os
import random
import re
import signal
import time

import pytest

from gramcli.errors import Exit
from tests.support.interruption_cases import contents, shards


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
