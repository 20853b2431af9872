"""Ctrl-C and SIGTERM: the first one lets a command leave in order, and whatever it is at, it is gone in a few seconds.

Python tells its main thread of a signal between two steps of its own, which may be long in coming: a batch in a large
network is one such step, and what a library's destructor is told is lost. So a thread hears of signals too. It ends the
process when the first one has had its time, or when a second one comes. Nothing is lost by that: files appear whole or
not at all, as after a kill.
"""

from __future__ import annotations

import functools
import os
import select
import signal
import sys
import threading
from types import FrameType

from gramcli.errors import Exit

GRACE_S = 4.0
"""Seconds to leave in order after the first signal."""

_CODES = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED}
_WORDS = {Exit.INTERRUPTED: "interrupted", Exit.TERMINATED: "terminated"}


class Interrupted(KeyboardInterrupt):
    """Ctrl-C. Of a plain KeyboardInterrupt, caught or not, Python may make a death by the signal as it ends."""


class Terminated(BaseException):
    """SIGTERM arrived."""


_HEARD: list[Exit] = []


def heard() -> Exit | None:
    """Returns the exit code of the first signal that came, which a library may have turned into an error of its own."""
    return _HEARD[0] if _HEARD else None


def words(code: Exit) -> str:
    """Returns what to say of an end by a signal."""
    return f"{_WORDS[code]}; what was committed is kept, the same command goes on"


def end_at_once() -> None:
    """Makes either signal the end of the process, with its exit code and no word, until `heed` is called."""
    for number, code in _CODES.items():
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, functools.partial(_end, code))


def _end(code: Exit, number: int, frame: FrameType | None) -> None:
    os._exit(code)


def heed() -> None:
    """Makes the first of these signals an `Interrupted` or `Terminated` in this thread, the main one.

    A signal that was to be ignored, as Ctrl-C in a job in the background, still is.
    """

    def first(number: int, frame: FrameType | None) -> None:
        if not _HEARD:
            _HEARD.append(_CODES[signal.Signals(number)])
            raise Interrupted if number == signal.SIGINT else Terminated

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), name="gramcli signals", daemon=True).start()
    for number in _CODES:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, first)


def _watch(reader: int) -> None:
    """Waits for the first signal, and then for a second one or the end of the first one's time."""
    code = _next(reader)
    if select.select([reader], [], [], GRACE_S)[0]:
        _next(reader)
    show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # which a progress bar hides
    # not through Python's own stream, which the main thread may hold
    os.write(2, f"{show_cursor}error: {words(code)}\n".encode())
    os._exit(code)


def _next(reader: int) -> Exit:
    while True:
        number = os.read(reader, 1)[0]
        if number in _CODES:
            return _CODES[signal.Signals(number)]
