"""Writes to stdout and stderr, and remembers whether stdout was lost.

All of the package writes here, except that `gramcli.cli.signals` writes the last line of a process that it ends, as
another thread may be within `write` then.

A stream can be closed (``>&-``), full (``/dev/full``), or a pipe whose reader has gone. A fault of stderr is ignored:
it changes neither what a command does nor its exit code. After a fault of stdout, a command that writes files finishes
its work; `lost` then tells why its output is missing, unless a reader has gone on purpose, as ``| head`` does.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from typing import Any

from gramcli.errors import ResourceError
from gramcli.text import shown

_STDIN, _STDOUT, STDERR = 0, 1, 2
_CLOSED: set[int] = set()
"""Streams that were closed when the program started."""


class ReaderGone(Exception):  # noqa: N818 - an event, not an error of the program
    """The reader of stdout has gone, and the command has nothing to do but to write to it."""


def open_missing() -> None:
    """Opens the null device in place of each stream that is closed.

    Else the next file that is opened would get its number: what is printed would be written into that file, and child
    processes would start without the stream.
    """
    for number in (_STDIN, _STDOUT, STDERR):
        try:
            os.fstat(number)
        except OSError:
            _CLOSED.add(number)
            with contextlib.suppress(OSError):  # where no file can be opened, none can take the number either
                _open_null(number)


def _open_null(number: int) -> None:
    try:
        null = os.open(os.devnull, os.O_RDWR)
    except OSError:  # a system without a null device: reading and writing a folder fail, which is handled
        null = os.open(os.sep, os.O_RDONLY)
    if null != number:
        os.dup2(null, number)
        os.close(null)
    os.set_inheritable(number, True)


class _Stream(io.RawIOBase):
    """A stream without a buffer, so that nothing can fail later than `write`, which raises no OSError."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.begin()

    def begin(self) -> None:
        """Forgets earlier faults."""
        self.fault = "it is closed" if self._number in _CLOSED else ""
        """Why it cannot be written; empty while it can, and if its reader has gone."""
        self.gone = False
        """Whether it is a pipe whose reader has gone."""
        self.missed = False
        """Whether something was to be written after it had failed."""
        self.required = False
        """Whether a fault ends the command at once."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def write(self, content: Any) -> int:
        """Writes all of it, or nothing once the stream has failed.

        Raises:
            ResourceError: The stream is lost and is required.
            ReaderGone: The same, and its reader has gone.
        """
        data = memoryview(content).cast("B")
        if not (self.fault or self.gone):
            try:
                self._put(data)
            except OSError as error:
                self.gone = error.errno == errno.EPIPE
                self.fault = "" if self.gone else error.strerror or str(error)
        self.missed |= bool(self.fault and len(data))
        if self.required:
            self.check()
        return len(data)

    def _put(self, data: memoryview) -> None:
        while len(data):
            try:
                data = data[os.write(self._number, data) :]
            except BlockingIOError:  # another program has made the terminal or pipe non-blocking
                select.select([], [self._number], [])

    def check(self) -> None:
        """Raises an error if the stream, which is stdout, has failed.

        Raises:
            ResourceError: It cannot be written.
            ReaderGone: Its reader has gone.
        """
        if self.gone:
            raise ReaderGone
        if self.fault:
            raise self.loss()

    def loss(self) -> ResourceError:
        """Returns the error that stdout cannot be written."""
        return ResourceError(
            f"stdout cannot be written: {self.fault}; redirect it to another file and run the command again"
        )


_OUT, _ERROR = _Stream(_STDOUT), _Stream(STDERR)


def begin() -> None:
    """Forgets the faults of an earlier command in this process."""
    _OUT.begin()
    _ERROR.begin()


def take_over() -> None:
    """Puts the streams of this module in place of Python's, for libraries that print, such as typer with its help."""
    for name, stream in (("stdout", _OUT), ("stderr", _ERROR)):
        encoding = getattr(getattr(sys, name), "encoding", None) or "utf-8"
        setattr(sys, name, io.TextIOWrapper(stream, encoding, "backslashreplace", write_through=True))
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.FileIO(_STDIN, closefd=False), "utf-8")


def write(text: str) -> None:
    """Writes to stdout, in UTF-8; bytes that are not UTF-8 are written as they were read.

    Raises:
        ResourceError: Stdout is lost and is required.
        ReaderGone: The same, and its reader has gone.
    """
    try:
        content = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        content = "".join(map(_encodable, text)).encode("utf-8", "surrogateescape")
    _OUT.write(content)


def _encodable(character: str) -> str:
    try:
        character.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return shown(character)
    return character


def write_error(text: str) -> None:
    """Writes to stderr; a fault is ignored."""
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    _ERROR.write(text.encode(encoding, "backslashreplace"))


def require() -> None:
    """Makes a loss of stdout an error at once, for a command that does nothing but write to it.

    Raises:
        ResourceError: It is lost already.
        ReaderGone: The same, and its reader has gone.
    """
    _OUT.required = True
    _OUT.check()


def lost() -> ResourceError | None:
    """Returns the error that output could not be written to stdout; None if all was, or if its reader has gone."""
    return _OUT.loss() if _OUT.missed else None


def stdout_is_terminal() -> bool:
    """Returns whether stdout is a terminal."""
    return _OUT.isatty()


def stderr_is_terminal() -> bool:
    """Returns whether stderr is a terminal."""
    return _ERROR.isatty()
