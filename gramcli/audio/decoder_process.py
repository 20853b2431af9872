"""One decoding process, seen from its parent."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from gramcli.audio.reader import Samples
from gramcli.errors import ResourceError
from gramcli.text import shown

COMMAND = (sys.executable, "-P", "-m", "gramcli.audio.decoder_main")
START_S = 60.0
"""Longest that a process may take to start."""
LINE = 1 << 20
"""Longest line, in bytes."""
WORDS = {"ready", "probe", "samples", "seconds", "error"}
"""What a line may say."""
NONSENSE = "decoder answered nonsense"
END_S = 5.0
"""Longest that it may take to end once its output has ended."""

Reply = tuple[dict[str, Any], Samples | None]
"""What a line said, and the samples that came with it."""


class Ended(Exception):  # noqa: N818 - an event, not an error of the program
    """The process has ended, or had to be ended; the message says how."""


class TimedOut(Ended):
    """The process was silent for too long and had to be ended."""


class Child:
    """A process that speaks the protocol of `gramcli.audio.decoder_main`.

    Args:
        command: Program and arguments.

    Raises:
        ResourceError: It cannot be started.
    """

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        package = str(Path(__file__).parents[2])
        paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
        # one thread each: children share the cores with the network
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"}
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        try:
            self._process = subprocess.Popen(
                command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, env=environment
            )
        except OSError as error:
            self._said.close()
            raise ResourceError(f"a decoder cannot be started: {error}") from None
        self._requests, self._replies = _given(self._process.stdin), _given(self._process.stdout)
        self._arrived = selectors.DefaultSelector()
        self._arrived.register(self._replies, selectors.EVENT_READ)
        self._received = bytearray()
        self._how = ""

    def greet(self) -> None:
        """Waits for the first word.

        Raises:
            ResourceError: There is none.
        """
        try:
            self.receive(START_S)
        except TimedOut as end:
            raise ResourceError(
                f"a decoder cannot be started: {end}; the machine is busy: run the same command again, or with fewer "
                "--decoders"
            ) from None
        except Ended as end:
            raise ResourceError(f"a decoder cannot be started: {end}") from None

    def alive(self) -> bool:
        """Tells whether the process is still there."""
        return self._process.poll() is None

    def send(self, message: dict[str, Any]) -> None:
        """Sends a request; if nobody is there to read it, `receive` will say so."""
        with contextlib.suppress(BrokenPipeError):
            self._requests.write(json.dumps(message).encode() + b"\n")

    def receive(self, timeout_s: float) -> Reply:
        """Returns the next reply.

        Args:
            timeout_s: Longest silence, in seconds.

        Raises:
            Ended: The process crashed or was silent for longer; it is gone.
        """
        line: dict[str, Any] = {}
        while not line:  # an empty one says only that work goes on
            deadline = time.monotonic() + timeout_s
            while (length := self._received.find(b"\n", 0, LINE)) < 0:
                if len(self._received) > LINE:
                    raise self._nonsense()
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
        """Returns what a line says; hostile audio may have made anything of a decoder's memory."""
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            raise self._nonsense() from None
        size = said.get("samples", 0) if isinstance(said, dict) else None
        if not isinstance(size, int) or size < 0 or not said.keys() <= WORDS:
            raise self._nonsense()
        return dict(said)

    def _nonsense(self) -> Ended:
        self.end()
        return Ended(NONSENSE)

    def _wait(self, deadline: float, timeout_s: float) -> None:
        """Waits for more bytes."""
        if not self._arrived.select(max(0.0, deadline - time.monotonic())):
            self.end()
            raise TimedOut(f"timed out after {timeout_s:g} s")
        block = os.read(self._replies.fileno(), 1 << 20)
        if not block:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)
            raise Ended(self.end())
        self._received += block

    def kill(self) -> None:
        """Ends the process from another thread; the one that waits for a reply sees it end."""
        self._process.kill()

    def end(self) -> str:
        """Ends the process if it is still there, frees what it held, and tells how it ended."""
        if self._how:
            return self._how
        self._process.kill()
        code = self._process.wait()
        self._arrived.close()
        self._requests.close()
        self._replies.close()
        with self._said:
            self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - 4096))
            last = self._said.read().decode(errors="backslashreplace").strip().rpartition("\n")[2]
        ended = f"decoder ended (exit {code}){': ' * bool(last)}{shown(last)}"
        self._how = f"decoder crashed (signal {-code})" if code < 0 else ended
        return self._how


def _given(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None, "Popen was asked for this pipe"
    return pipe
