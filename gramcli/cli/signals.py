"""Ctrl-C and SIGTERM: the first signal ends a command in an orderly way; after a few seconds it is ended in any case.

Python handles a signal in its main thread between two of its own steps, which can take long (a batch in a large
network is one step). So a thread watches for signals as well. It ends the process when a grace period after the first
signal is over, or when a second signal arrives. No data is lost: files appear complete or not at all, as after a kill.

An exception in a destructor or a callback of a library is lost: Python prints it and goes on. `hide_ignored` takes the
place of that printing, and has the thread send the signal again.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from gramcli.cli.streams import STDERR
from gramcli.errors import Exit

GRACE_S = 4.0
"""Grace period after the first signal, in seconds."""

_AGAIN_S = 0.01
"""Time after which a signal whose exception was lost is sent again, in seconds; the destructor has ended then."""

_CODES = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED}
_WORDS = {Exit.INTERRUPTED: "interrupted", Exit.TERMINATED: "terminated"}


class Interrupted(KeyboardInterrupt):
    """Ctrl-C. After a plain KeyboardInterrupt, Python may end by the signal instead of the exit code."""


class Terminated(BaseException):
    """SIGTERM arrived."""


_RECEIVED: list[Exit] = []
_EXCEPTION_LOST: list[int] = []
"""Not empty while the exception of a signal was lost and it has not been raised again."""
_COMMAND_ENDED: list[bool] = []
"""Not empty when the command has ended, and no exception is raised any more."""
_REQUESTS: list[int] = []
"""Descriptor on which the thread can be asked to send the signal again."""


def received() -> Exit | None:
    """Returns the exit code of the first signal received, which a library may have turned into another error."""
    return _RECEIVED[0] if _RECEIVED else None


def message(code: Exit) -> str:
    """Returns the message for an end by a signal."""
    return f"{_WORDS[code]}; complete files are kept, run the same command again"


def end_at_once() -> None:
    """Makes either signal end the process at once, with its exit code and no message, until `install` is called."""
    for number, code in _CODES.items():
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, functools.partial(_end, code))


def _end(code: Exit, number: int, frame: FrameType | None) -> None:
    os._exit(code)


def install() -> None:
    """Turns the first of these signals into an `Interrupted` or `Terminated` in this thread, the main one.

    A signal that is ignored, such as Ctrl-C in a background job, stays ignored.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:
        if _COMMAND_ENDED or (_RECEIVED and not _EXCEPTION_LOST):
            return
        if not _RECEIVED:
            _RECEIVED.append(_CODES[signal.Signals(number)])
        _EXCEPTION_LOST.clear()
        raise Interrupted if _RECEIVED[0] == Exit.INTERRUPTED else Terminated

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    _REQUESTS[:] = [writer]
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), name="gramcli signals", daemon=True).start()
    for number in _CODES:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, on_signal)


def stop_raising() -> None:
    """Keeps the exit code of a command that has ended: a signal that comes now raises nothing."""
    _COMMAND_ENDED.append(True)


def hide_ignored(tell: Callable[[str], None]) -> None:
    """Replaces the tracebacks that Python prints of exceptions in destructors, callbacks and threads.

    Args:
        tell: Gets one line on an exception that is no signal.
    """

    def ignored(lost: Any) -> None:  # takes what it uses with it, as it may run when modules are being emptied
        if issubclass(lost.exc_type, KeyboardInterrupt | Terminated):
            _EXCEPTION_LOST.append(1)
            for writer in _REQUESTS:
                with contextlib.suppress(OSError):
                    os.write(writer, b"\0")
        elif not issubclass(lost.exc_type, SystemExit):
            where = getattr(lost, "object", None) or getattr(lost, "thread", None)
            tell(f"ignored in {where!r}: {lost.exc_type.__name__}: {lost.exc_value}")

    sys.unraisablehook = ignored
    threading.excepthook = ignored


def _watch(reader: int) -> None:
    """Waits for the first signal, and then for a second one or the end of the grace period."""
    code = _next(reader)
    number = next(number for number, one in _CODES.items() if one == code)
    ends, resent = time.monotonic() + GRACE_S, 0
    while select.select([reader], [], [], max(0.0, ends - time.monotonic()))[0]:
        byte = os.read(reader, 1)[0]
        if byte == 0:
            time.sleep(_AGAIN_S)
            resent += 1
            signal.pthread_kill(threading.main_thread().ident or 0, number)
        elif byte in _CODES and resent:  # the signal that this thread has sent
            resent -= 1
        elif byte in _CODES:
            break
    show_cursor = "\x1b[?25h" if os.isatty(STDERR) else ""  # which a progress bar hides
    with contextlib.suppress(OSError):
        # not through Python's own stream, which the main thread may have locked
        os.write(STDERR, f"{show_cursor}error: {message(code)}\n".encode())
    os._exit(code)


def _next(reader: int) -> Exit:
    while True:
        number = os.read(reader, 1)[0]
        if number in _CODES:
            return _CODES[signal.Signals(number)]
