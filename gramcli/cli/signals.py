"""Ctrl-C and SIGTERM: the first signal ends a command in an orderly way; after a few seconds it is ended in any case.

Python handles a signal in its main thread between two of its own steps, which can take long (a batch in a large
network is one step), and an exception in a library's destructor is lost. So a thread watches for signals as well. It
ends the process when a grace period after the first signal is over, or when a second signal arrives. No data is lost:
files appear complete or not at all, as after a kill.
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
"""Grace period after the first signal, in seconds."""

_CODES = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED}
_WORDS = {Exit.INTERRUPTED: "interrupted", Exit.TERMINATED: "terminated"}


class Interrupted(KeyboardInterrupt):
    """Ctrl-C. After a plain KeyboardInterrupt, Python may end by the signal instead of the exit code."""


class Terminated(BaseException):
    """SIGTERM arrived."""


_RECEIVED: list[Exit] = []


def received() -> Exit | None:
    """Returns the exit code of the first signal received, which a library may have turned into another error."""
    return _RECEIVED[0] if _RECEIVED else None


def message(code: Exit) -> str:
    """Returns the message for an end by a signal."""
    return f"{_WORDS[code]}; finished work is kept, run the same command again to go on"


def end_at_once() -> None:
    """Makes either signal end the process at once, with its exit code and no message, until `heed` is called."""
    for number, code in _CODES.items():
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, functools.partial(_end, code))


def _end(code: Exit, number: int, frame: FrameType | None) -> None:
    os._exit(code)


def heed() -> None:
    """Turns the first of these signals into an `Interrupted` or `Terminated` in this thread, the main one.

    A signal that is ignored, such as Ctrl-C in a background job, stays ignored.
    """

    def first(number: int, frame: FrameType | None) -> None:
        if not _RECEIVED:
            _RECEIVED.append(_CODES[signal.Signals(number)])
            raise Interrupted if number == signal.SIGINT else Terminated

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), name="gramcli signals", daemon=True).start()
    for number in _CODES:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, first)


def _watch(reader: int) -> None:
    """Waits for the first signal, and then for a second one or the end of the grace period."""
    code = _next(reader)
    if select.select([reader], [], [], GRACE_S)[0]:
        _next(reader)
    show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # which a progress bar hides
    # not through Python's own stream, which the main thread may have locked
    os.write(2, f"{show_cursor}error: {message(code)}\n".encode())
    os._exit(code)


def _next(reader: int) -> Exit:
    while True:
        number = os.read(reader, 1)[0]
        if number in _CODES:
            return _CODES[signal.Signals(number)]
