from __future__ import annotations

import pytest

from gramcli.system import profiler
from gramcli.system.profiler import NoStopwatch, Stopwatch


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by one second whenever it is read."""
    ticks = iter(range(100))
    monkeypatch.setattr(profiler.time, "perf_counter", lambda: float(next(ticks)))


def test_a_step_within_another_is_taken_out_of_it(clock):
    watch = Stopwatch()
    with watch.step("whole"):  # 0
        with watch.step("part"):  # 1 to 2
            pass
        with watch.step("part"), watch.step("core"):  # 3, 4, 5, 6
            pass
    # the clock was read 8 times, so 7 seconds have passed
    assert watch.seconds == {"whole": 3.0, "part": 3.0, "core": 1.0}


def test_a_step_that_fails_is_timed_too(clock):
    watch = Stopwatch()
    with pytest.raises(KeyError), watch.step("whole"), watch.step("part"):
        raise KeyError
    assert watch.seconds == {"whole": 2.0, "part": 1.0}


def test_the_device_is_waited_for_before_the_clock_is_read(clock):
    watch, settled = Stopwatch(), []
    watch.settle = lambda: settled.append(True)
    with watch.step("forward"):
        pass
    assert len(settled) == 2


def test_no_stopwatch_times_nothing():
    watch = NoStopwatch()
    with watch.step("whole"):
        pass
    assert watch.seconds == {}
