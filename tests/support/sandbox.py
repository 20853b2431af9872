"""Runs readers on hostile files in a separate process; reports crashes, hangs, memory growth and forbidden actions."""

from __future__ import annotations

import os
import re
import selectors
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HANGS_S = 10.0
ACTS = re.compile(
    r"os\.(?!listdir|scandir|fwalk|walk|putenv|unsetenv)|subprocess\.|socket\.|shutil\.|exec$|ctypes\.dlopen"
)
"""Audit events of code that acts instead of reading."""
IMPORTS = ("exec", "os.mkdir", "os.rename")
"""Those among them that Python itself has where a module is imported for the first time and its byte code is kept."""


def ask(question: Callable[[int], str], count: int, allowed: Path) -> tuple[list[str], int]:
    """Asks a question `count` times in a forked process, and returns the answers and how many KiB that took.

    Raises:
        AssertionError: The process crashed, hung for 10 s, ran code, or opened a file outside `allowed`; the case is
            named.
    """
    question(0)  # whatever is imported late is imported now
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        _answer(question, count, allowed, write)
    os.close(write)
    answers, rest = [], b""
    with selectors.DefaultSelector() as ready, os.fdopen(read, "rb", 0) as pipe:
        ready.register(pipe, selectors.EVENT_READ)
        while True:
            if not ready.select(HANGS_S):
                os.kill(child, 9)
                os.waitpid(child, 0)
                raise AssertionError(f"case {len(answers)} hangs")
            block = pipe.read(1 << 16)
            if not block:
                break
            *lines, rest = (rest + block).split(b"\n")
            answers += [line.decode() for line in lines]
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code == 0, f"case {len(answers)}: the process ended with {code}; the last it said: {answers[-1:]}"
    *answers, grown = answers
    assert len(answers) == count
    return answers, int(grown)


def _answer(question: Callable[[int], str], count: int, allowed: Path, write: int) -> None:
    """The life of the process."""
    at, guarding = [0], [True]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if not guarding[0]:
            return
        opened = event == "open" and isinstance(arguments[0], str | bytes) and not _may_open(arguments, allowed)
        if opened or (ACTS.match(event) and not (event in IMPORTS and _importing())):
            guarding[0] = False
            os.write(write, f"case {at[0]} does {event} {arguments!r}\n".encode())
            os._exit(1)

    sys.addaudithook(watch)
    before = _peak()
    for at[0] in range(count):
        answer = question(at[0])
        os.write(write, f"{answer}\n".encode())
    guarding[0] = False
    os.write(write, f"{_peak() - before}\n".encode())
    os._exit(0)


def _importing() -> bool:
    """Tells whether code runs since a library imports another late; its file is one of those that may be opened."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
    return False


def _may_open(arguments: tuple[Any, ...], folder: Path) -> bool:
    """Tells whether a file is in the folder; a bare name without links is one in a folder that was opened before."""
    path, _, flags = arguments
    return _below(path, folder) or (flags & os.O_NOFOLLOW and os.sep not in os.fsdecode(path))


def _below(path: str | bytes, folder: Path) -> bool:
    path = str(Path(os.fsdecode(path)).absolute())
    return path == str(folder) or path.startswith(
        (f"{folder}/", "/proc/self/", "/sys/", f"{sys.prefix}/", f"{sys.base_prefix}/")
    )


def _peak() -> int:
    guard = os.open("/proc/self/status", os.O_RDONLY)
    try:
        return int(os.read(guard, 1 << 16).partition(b"VmHWM:")[2].split()[0])
    finally:
        os.close(guard)
