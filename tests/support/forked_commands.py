"""Runs gramcli commands in processes forked after torch is imported, so that hundreds of trials take seconds.

``python -m tests.support.forked_commands`` runs in a project's folder and takes JSON lines; `ForkedCommands` speaks
to it. A forked process runs the command line itself, with two things exchanged: recordings are decoded in the process
by the decoder's own code, and the network is the one that was built before. What it writes goes through
`tests.support.faults.System`.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.sets import ROOT


@dataclass(frozen=True)
class Ended:
    """How a trial ended."""

    code: int
    """Exit code, or the signal as a negative number."""
    err: str
    seconds: float
    calls: list[str] = field(default_factory=list)
    """What it asked of the system, unless it was killed."""
    written: int = 0
    """Bytes that it wrote, as `faults.System` counts them."""

    @property
    def error(self) -> str:
        """The one line that says what went wrong."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("error: ")]
        return line


class ForkedCommands:
    """The process that forks; use it as a context manager.

    Args:
        project: Folder with ``gramcli.toml``, in which all commands run.
    """

    def __init__(self, project: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forked_commands"], cwd=project, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._receive() == "ready"

    def __enter__(self) -> ForkedCommands:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.communicate()

    def _receive(self) -> Any:
        assert self._server.stdout is not None
        return json.loads(self._server.stdout.readline())

    def start(self, arguments: Sequence[str], **faults: Any) -> int:
        """Starts a command and returns its process, which may be signalled; `faults` are for `System` or `Recorder`."""
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps({"run": list(arguments), "faults": faults}) + "\n")
        self._server.stdin.flush()
        process: int = self._receive()
        return process

    def wait(self, process: int, *, stopped: bool = False) -> Ended | None:
        """Waits for the end of a command; with `stopped` also for its halt, which is told as None."""
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps({"wait": process, "stopped": stopped}) + "\n")
        self._server.stdin.flush()
        told = self._receive()
        return None if told is None else Ended(**told)

    def run(self, arguments: Sequence[str], **faults: Any) -> Ended:
        """Runs a command to its end."""
        ended = self.wait(self.start(arguments, **faults))
        assert ended is not None
        return ended


class _Here:
    """Stands for `gramcli.audio.decoder_pool.Decoders`: the worker's own code, in this process."""

    def __init__(self, limits: Any) -> None:
        from collections import Counter

        self._limits = [limits.max_seconds, limits.allow_truncated]
        self.seconds: Counter[str] = Counter()

    @classmethod
    def of(cls, settings: Any) -> _Here:
        return cls(settings.data)

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def _ask(self, request: dict[str, Any]) -> io.BytesIO:
        from gramcli.audio.decoder_main import Worker

        replies = io.BytesIO()
        Worker(replies).answer(request)
        replies.seek(0)
        return replies

    def probe(self, paths: Iterable[str], *, hashed: bool = True) -> Iterator[Any]:
        from gramcli.audio.reader import Probe
        from gramcli.errors import AudioError

        for path in paths:
            reply = json.loads(self._ask({"probe": path, "hashed": hashed, "limits": self._limits}).readline())
            yield AudioError(reply["error"]) if "error" in reply else Probe(*reply["probe"])

    def decode(self, requests: Iterable[Any]) -> Iterator[Any]:
        import numpy as np

        from gramcli.audio.decoder_pool import Decoded

        for request in requests:
            expected = None if request.expected is None else dataclasses.astuple(request.expected)
            replies = self._ask({**vars(request), "expected": expected, "limits": self._limits})
            for _ in request.windows:
                reply = json.loads(replies.readline())
                size = 4 * reply.get("samples", 0)
                found = None if "error" in reply else np.frombuffer(replies.read(size), np.float32)
                yield Decoded(found, reply.get("error", ""))


def _exchange() -> None:
    from gramcli.extraction import extract, inputs, reopen
    from gramcli.maintenance import repair

    made: list[Any] = []
    prepare = inputs.prepare

    def prepared(*arguments: Any, **named: Any) -> Any:
        if not made:
            made.append(prepare(*arguments, **named))
        return made[0]

    inputs.prepare = reopen.prepare = prepared
    inputs.start_ahead = lambda count: None
    extract.Decoders = repair.Decoders = _Here  # type: ignore[assignment,misc]


def _forked(run: Any, request: dict[str, Any], log: Path) -> None:
    """The life of a trial."""
    from tests.support.faults import System
    from tests.support.power_cut import Recorder

    code = 70
    try:
        os.dup2(os.open(log.with_suffix(".err"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(2, 1)
        kind = Recorder if "into" in request["faults"] else System
        system = kind(**request["faults"]).put_between()
        code = run(request["run"])
        if isinstance(system, Recorder):
            system.finish()
        part = log.with_suffix(".part")
        part.write_text(json.dumps({"calls": system.calls, "written": system.written}))
        part.rename(log)  # a kill may come at any moment, this one too
    finally:
        os._exit(code)


def _serve() -> None:
    import shutil
    import tempfile

    from gramcli.cli.app import run
    from tests.support.own_toys import count_as_own

    count_as_own()
    _exchange()
    for command in ("extract", "calibrate", "select-layers"):  # imports everything, compiles, builds the network
        code = run([command, "--quiet", "--cache", "warm"])
        assert code == 0, command
    assert run(["cache", "verify", "--cache", "warm"]) == 0
    shutil.rmtree("warm")
    logs, began = Path(tempfile.mkdtemp()), {}
    _tell("ready")
    for line in sys.stdin:
        request = json.loads(line)
        if "run" in request:
            process = os.fork()
            if process == 0:
                _forked(run, request, logs / str(os.getpid()))
            began[process] = time.monotonic()
            _tell(process)
            continue
        process = request["wait"]
        _, status = os.waitpid(process, os.WUNTRACED if request["stopped"] else 0)
        if os.WIFSTOPPED(status):
            _tell(None)
            continue
        seconds = time.monotonic() - began.pop(process)
        log = logs / str(process)
        told = json.loads(log.read_text()) if log.exists() else {}
        err = log.with_suffix(".err")
        said = err.read_text() if err.exists() else ""
        for path in (log, err, log.with_suffix(".part")):
            path.unlink(missing_ok=True)
        _tell({"code": os.waitstatus_to_exitcode(status), "err": said, "seconds": seconds, **told})
    shutil.rmtree(logs)


def _tell(value: object) -> None:
    os.write(_TOLD, json.dumps(value).encode() + b"\n")


if __name__ == "__main__":
    _TOLD = os.dup(1)
    os.dup2(2, 1)  # what commands print must not get between
    _serve()
