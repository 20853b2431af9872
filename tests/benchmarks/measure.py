"""Timers and memory meters of the benchmarks, and the figures that they print."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measured number beside what it has to reach."""

    number: int
    """Row of the documented table of speed."""
    what: str
    value: float
    unit: str = ""
    """"" for a ratio."""
    most: float | None = None
    """Largest value that will do, if there is one."""
    least: float | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    """Numbers behind it."""

    @property
    def target(self) -> str:
        """What is asked."""
        asked = [f"{sign} {limit:g}" for sign, limit in (("≤", self.most), ("≥", self.least)) if limit is not None]
        return ", ".join(asked) or "stated"

    @property
    def reached(self) -> bool:
        """Whether it is."""
        return not (self.most is not None and self.value > self.most) and not (
            self.least is not None and self.value < self.least
        )

    def as_dict(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return {**asdict(self), "target": self.target, "reached": self.reached}


def seconds(jobs: Mapping[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """Returns the least time of each job, taken in turns so that a slow moment of the machine meets all of them."""
    best = dict.fromkeys(jobs, float("inf"))
    for _ in range(rounds):
        for name, job in jobs.items():
            began = time.perf_counter()
            job()
            best[name] = min(best[name], time.perf_counter() - began)
    return best


def _answer(asked: Connection, make: Callable[..., Callable[[], object]], arguments: tuple[Any, ...]) -> None:
    job = make(*arguments)
    with contextlib.suppress(EOFError):
        while True:
            asked.send(None)
            asked.recv()
            job()


@contextlib.contextmanager
def apart(make: Callable[..., Callable[[], object]], *arguments: Any) -> Iterator[Callable[[], object]]:
    """Yields a job that runs in a process of its own, with the memory management of any other program.

    Args:
        make: Returns the job, once, in that process.
        arguments: Of `make`.
    """
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_answer, args=(theirs, make, arguments), daemon=True)
    process.start()
    theirs.close()
    ours.recv()

    def job() -> None:
        ours.send(None)
        ours.recv()

    with ours:
        yield job
    process.join()


# a process that was forked from a large one counts that one's memory as its own past, but not in VmHWM
_PEAK = """
import atexit, os, re, sys
@atexit.register
def write_peak():
    with open(os.environ["PEAK"], "w") as file:
        file.write(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
"""
_COMMAND = """
from gramcli.cli.app import main
try:
    main()
finally:  # it ends the process before functions are called that were registered earlier
    write_peak()
"""


@dataclass(frozen=True)
class Ran:
    """What a process took."""

    seconds: float
    stdout: str


def run(*command: str | Path, folder: Path | None = None, **environment: str) -> Ran:
    """Runs a process to its end.

    Raises:
        RuntimeError: It failed.
    """
    began = time.perf_counter()
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    took = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stderr[-2000:]}")
    return Ran(took, done.stdout)


def gramcli(*arguments: str | Path, folder: Path | None = None, **environment: str) -> Ran:
    """Runs a command of gramcli as a process."""
    return run(sys.executable, "-m", "gramcli", *arguments, folder=folder, **environment)


def with_peak(*arguments: str | Path, code: str = _COMMAND) -> tuple[Ran, float]:
    """Runs a command of gramcli, or other code, as a process of its own, and returns the most MiB it held (Linux)."""
    with tempfile.NamedTemporaryFile() as peak_file:
        ran = run(sys.executable, "-c", _PEAK + code, *arguments, PEAK=peak_file.name)
        return ran, float(Path(peak_file.name).read_text()) / 1024


def fresh(path: Path) -> Path:
    """Returns a folder that holds nothing yet."""
    path.mkdir(parents=True)
    return path


def table(figures: list[Figure]) -> str:
    """Returns figures as a Markdown table."""
    lines = ["| # | what | asked | measured | |", "|---|---|---|---|---|"]
    for one in sorted(figures, key=lambda figure: figure.number):
        verdict = "" if one.target == "stated" else "reached" if one.reached else "not reached"
        lines.append(
            f"| {one.number} | {one.what} | {one.target} | {one.value:.3g}{one.unit and ' ' + one.unit} | {verdict} |"
        )
    return "\n".join(lines)


def save(figures: list[Figure], path: Path) -> None:
    """Writes figures as JSON."""
    path.write_text(json.dumps([one.as_dict() for one in figures], indent=1, ensure_ascii=False) + "\n")
