"""The parent's side of one decoding process: starts it, sends requests, receives replies, and ends it."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from gramcli import json_values
from gramcli.audio.reader import Samples
from gramcli.errors import ResourceError
from gramcli.system import import_path
from gramcli.system.machine_faults import machine_fault, no_temporary_folder
from gramcli.text import shown

COMMAND = (sys.executable, "-P", "-m", "gramcli.audio.decoder_main")
START_S = 60.0
"""Longest time that a process may take to start, in seconds."""
LINE = 1 << 20
"""Longest line of a reply, in bytes."""
KEYS = {"ready", "probe", "samples", "seconds", "error"}
"""Keys that a reply may have."""
UNREADABLE = "the decoder process sent an unreadable reply; the clip is skipped (please report it)"
END_S = 5.0
"""Longest time that a process may take to end once its output is closed, in seconds."""

Reply = tuple[dict[str, Any], Samples | None]
"""The JSON object of a reply, and the samples that followed it."""


class Ended(Exception):  # noqa: N818 - an event, not an error of the program
    """The process crashed or had to be ended; the message says why."""


class TimedOut(Ended):
    """The process gave no sign of life for too long and was ended."""


class Child:
    """A child process that decodes audio files; `gramcli.audio.decoder_main` describes the protocol.

    Args:
        command: Program and arguments.

    Raises:
        ResourceError: The process cannot be started.
    """

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        # one thread each: children share the cores with the network
        environment = {**import_path.environment(str(Path(__file__).parents[2])), "OPENBLAS_NUM_THREADS": "1"}
        try:
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        except OSError as error:
            raise machine_fault(error) or no_temporary_folder() from None
        try:
            self._process = subprocess.Popen(
                command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment
            )
        except OSError as error:
            self._errors.close()
            raise ResourceError(f"a decoder process cannot be started: {error}") from None
        self._requests, self._replies = _pipe(self._process.stdin), _pipe(self._process.stdout)
        self._arrived = selectors.DefaultSelector()
        self._arrived.register(self._replies, selectors.EVENT_READ)
        self._received = bytearray()
        self._ending = ""

    def greet(self) -> None:
        """Waits until the process is ready for requests.

        Raises:
            ResourceError: It does not get ready within `START_S`.
        """
        try:
            self.receive(START_S)
        except TimedOut as end:
            raise ResourceError(
                f"a decoder process cannot be started: {end}; the machine is busy: run the same command again, or with "
                "fewer --decoders"
            ) from None
        except Ended as end:
            raise ResourceError(f"a decoder process cannot be started: {end}") from None

    def alive(self) -> bool:
        """Tells whether the process is still running."""
        return self._process.poll() is None

    def send(self, message: dict[str, Any]) -> None:
        """Sends a request; if the process has ended, `receive` will report it."""
        with contextlib.suppress(BrokenPipeError):
            self._requests.write(json.dumps(message).encode() + b"\n")

    def receive(self, timeout_s: float) -> Reply:
        """Returns the next reply.

        Args:
            timeout_s: Longest time without a sign of life, in seconds.

        Raises:
            Ended: The process crashed or gave no sign of life in time; it has ended.
        """
        line: dict[str, Any] = {}
        while not line:  # an empty one means that work goes on
            deadline = time.monotonic() + timeout_s
            while (length := self._received.find(b"\n", 0, LINE)) < 0:
                if len(self._received) > LINE:
                    raise self._unreadable()
                self._wait(deadline, timeout_s)
            line = self._parsed(self._received[:length])
            del self._received[: length + 1]
        if "samples" not in line:
            return line, None
        size = 4 * line["samples"]
        while len(self._received) < size:
            self._wait(deadline, timeout_s)
        samples = np.frombuffer(self._received[:size], np.float32)
        del self._received[:size]
        return line, samples

    def _parsed(self, line: bytearray) -> dict[str, Any]:
        """Returns the object of a line, checked: a hostile audio file may have corrupted the decoder's memory."""
        try:
            reply = json_values.parse(line)
        except ValueError:
            raise self._unreadable() from None
        size = reply.get("samples", 0) if isinstance(reply, dict) else None
        if not isinstance(size, int) or isinstance(size, bool) or size < 0 or not reply.keys() <= KEYS:
            raise self._unreadable()
        return dict(reply)

    def _unreadable(self) -> Ended:
        self.end()
        return Ended(UNREADABLE)

    def _wait(self, deadline: float, timeout_s: float) -> None:
        """Waits for more bytes of a reply."""
        if not self._arrived.select(max(0.0, deadline - time.monotonic())):
            self.end()
            raise TimedOut(f"the decoder process gave no reply within {timeout_s:g} s")
        block = os.read(self._replies.fileno(), 1 << 20)
        if not block:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)
            raise Ended(self.end())
        self._received += block

    def kill(self) -> None:
        """Ends the process from another thread; `receive` then raises `Ended` in the thread that waits."""
        self._process.kill()

    def end(self) -> str:
        """Ends the process if it still runs, closes its pipes, and returns how it ended, for a message."""
        if self._ending:
            return self._ending
        self._process.kill()
        code = self._process.wait()
        self._arrived.close()
        self._requests.close()
        self._replies.close()
        with self._errors:
            self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - 4096))
            last = self._errors.read().decode(errors="backslashreplace").strip().rpartition("\n")[2]
        ended = f"the decoder process ended (exit {code}){': ' * bool(last)}{shown(last)}"
        self._ending = f"the decoder process crashed (signal {-code})" if code < 0 else ended
        return self._ending


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None, "Popen was asked for this pipe"
    return pipe


_SPARE: deque[Child] = deque()
"""Child processes that were started before they were needed."""


def start_ahead(count: int = 1) -> None:
    """Starts child processes for the next decoders, so that they get ready while a network is being built.

    Raises:
        ResourceError: A process cannot be started.
    """
    while len(_SPARE) < count:
        _SPARE.append(Child())


def spare() -> Child | None:
    """Returns a child process that was started ahead; None if there is none left."""
    try:
        return _SPARE.pop()
    except IndexError:  # another lane may have been faster
        return None


@atexit.register
def _end_spare() -> None:
    while (child := spare()) is not None:
        child.end()
