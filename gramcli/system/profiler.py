"""Measures how much time each step of a run takes, for ``--profile``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator


class Stopwatch:
    """Seconds by step. The time of a step within another counts for the inner one only, so the steps add up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.settle: Callable[[], None] = lambda: None
        """Called before the clock is read, to wait for a device that still computes."""
        self._running: list[str] = []
        self._since = 0.0

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Times a block as a step of this name."""
        self._split()
        self._running.append(name)
        try:
            yield
        finally:
            self._split()
            self._running.pop()

    def _split(self) -> None:
        """Gives the time since the last call to the step that is running."""
        self.settle()
        now = time.perf_counter()
        if self._running:
            name = self._running[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now


class NoStopwatch(Stopwatch):
    """Measures nothing, and takes no time."""

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Runs the block."""
        yield
