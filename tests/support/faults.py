"""System calls that fail on demand: any one call of a writing module can fail, and the disk be full at any point."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Callable
from typing import Any

from gramcli.system import durable_files, folder_lock, opener, temporary_file

CALLS = ("mkdir", "open", "write", "pwrite", "ftruncate", "posix_fallocate", "fsync", "close", "link", "replace",
         "unlink", "listdir", "lstat")  # fmt: skip
ENTRY = 64
"""Bytes that a new name in a folder takes on a disk of limited room."""
KILLS = ("kill", "torn")


class System:
    """What the modules that open and write files take for `os` and `fcntl`; counts the calls that matter.

    Args:
        at: Which call has the fault, from 0; none if None.
        kind: ``kill`` dies before the call, ``torn`` after half of a write, ``stop`` waits before it for SIGCONT,
            ``short`` writes half; anything else names an errno, as ``ENOSPC``. A close fails once it has closed.
        lasting: Whether all later calls that change the disk fail too.
        room: Bytes that can be written before the disk is full; a write that fits in part is done in part.
        locks: Whether `flock` does anything.
        folders: Whether opening and closing a folder counts, which changes nothing.
    """

    def __init__(
        self, at: int | None = None, kind: str = "kill", *, lasting: bool = False, room: int | None = None,
        locks: bool = True, folders: bool = False,
    ) -> None:  # fmt: skip
        self.calls: list[str] = []
        self.written = 0
        self._at, self._kind, self._lasting, self._room, self._locks = at, kind, lasting, room, locks
        self._count_folders, self._folders = folders, set[int]()

    def put_between(self) -> System:
        """Replaces the system for these modules, for good: meant for a process that ends soon."""
        flush = durable_files.flush
        for module in (durable_files, folder_lock, opener, temporary_file):
            module.os = self  # type: ignore[attr-defined]
        folder_lock.fcntl = temporary_file.fcntl = self  # type: ignore[attr-defined,assignment]
        durable_files.flush = lambda content: self._call("msync", flush, content)  # type: ignore[assignment]
        return self

    def __getattr__(self, name: str) -> Any:
        if name == "flock":
            return self._flock
        real = getattr(os if hasattr(os, name) else fcntl, name)
        if name == "open" and not self._count_folders:
            return self._open
        if name == "close" and not self._count_folders:
            return self._close
        return (lambda *a, **k: self._call(name, real, *a, **k)) if name in CALLS else real

    def _open(self, path: Any, flags: int, *mode: int, dir_fd: int | None = None) -> int:
        if dir_fd is None and not flags & (os.O_DIRECTORY | os.O_CREAT):  # a file that the user named, as gramcli.toml
            return os.open(path, flags, *mode)
        if not flags & os.O_DIRECTORY:
            return self._call("open", os.open, path, flags, *mode, dir_fd=dir_fd)
        descriptor = os.open(path, flags, *mode, dir_fd=dir_fd)
        self._folders.add(descriptor)
        return descriptor

    def _close(self, descriptor: int) -> None:
        if descriptor in self._folders:
            self._folders.remove(descriptor)
            os.close(descriptor)
        else:
            self._call("close", os.close, descriptor)

    def _flock(self, descriptor: int, how: int) -> None:
        def lock(descriptor: int, how: int) -> None:
            if self._locks:
                fcntl.flock(descriptor, how)

        self._call("flock", lock, descriptor, how)

    def _call(self, name: str, real: Callable[..., Any], *args: Any, **named: Any) -> Any:
        number = len(self.calls)
        self.calls.append(name)
        if self._at is not None and (number == self._at or (self._lasting and number > self._at)):
            fault = getattr(errno, self._kind, None)
            if fault is not None:
                if name == "close":
                    real(*args)
                raise OSError(fault, os.strerror(fault))
            if self._kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self._kind == "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            if self._kind in ("short", "torn") and name == "write":
                descriptor, content = args
                done = real(descriptor, content[: max(1, len(content) // 2)])
                if self._kind == "torn":
                    os.kill(os.getpid(), signal.SIGKILL)
                return done
        return real(*self._within_room(name, args), **named)

    def _within_room(self, name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Takes what a call needs from the room that is left, and returns its arguments, cut to that."""
        size = 0
        if name in ("write", "pwrite"):
            size = len(args[1])
        elif name == "posix_fallocate":
            size = args[2]
        elif name in ("mkdir", "link") or (name == "open" and args[1] & os.O_CREAT):
            size = ENTRY
        if self._room is not None and self.written + size > self._room:
            size = self._room - self.written
            if name != "write" or size <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            args = (args[0], args[1][:size])
        self.written += size
        return args
