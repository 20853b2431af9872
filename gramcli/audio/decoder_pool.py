"""Decodes audio files in child processes, ahead of the network, so that a file that crashes its decoder harms no other.

Each lane is a thread with a queue of jobs and one child process that works them off.
"""

from __future__ import annotations

import atexit
import os
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from gramcli.audio.decoder_process import COMMAND, UNREADABLE, Child, Ended, Reply
from gramcli.audio.limits import LIMITS, Limits
from gramcli.audio.reader import Probe, Samples
from gramcli.audio.requests import Request
from gramcli.errors import AudioError, ResourceError
from gramcli.settings.schema import Settings

AHEAD = 24
"""Default number of windows that are decoded before they are needed."""
WINDOWS_PER_JOB = 8
"""Most windows that are asked of a child in one message."""
STRIKES = 2
"""Crashes or timeouts of one file after which its remaining windows are given up."""

CLOCKS_NS = 2_000_000_000
"""Nanoseconds by which a file system's clock may be behind this machine's."""

_SPARE: deque[Child] = deque()
"""Child processes that were started before they were needed."""


def start_ahead(count: int = 1) -> None:
    """Starts child processes for the next `Decoders`, so that they get ready while a network is being built.

    Raises:
        ResourceError: A process cannot be started.
    """
    while len(_SPARE) < count:
        _SPARE.append(Child())


def _spare() -> Child | None:
    try:
        return _SPARE.pop()
    except IndexError:  # another lane may have been faster
        return None


@atexit.register
def _end_spare() -> None:
    while (child := _spare()) is not None:
        child.end()


@dataclass(frozen=True)
class Decoded:
    """One decoded window: its samples, or why there are none."""

    samples: Samples | None
    """(n,) float32."""
    error: str = ""


class Decoders:
    """Child processes that probe and decode audio files; use it as a context manager.

    If a child crashes, or gives no sign of life for `timeout_s`, the window it was at fails and the child is replaced;
    all other windows go on. After `STRIKES` such ends in one file, the rest of that file is given up. The children end
    with this process.

    Args:
        count: Number of children.
        timeout_s: Longest time without a sign of life, in seconds.
        limits: Longest file, and whether a truncated one may be used.
        ahead: Windows that are decoded before they are needed, at most.
        command: Program to run in place of `gramcli.audio.decoder_main`.

    Raises:
        ValueError: `count` or `ahead` below 1.
    """

    def __init__(
        self,
        count: int,
        timeout_s: float = 60.0,
        *,
        limits: Limits = LIMITS,
        ahead: int = AHEAD,
        command: Sequence[str] = COMMAND,
    ) -> None:
        if count < 1 or ahead < 1:
            raise ValueError(f"count and ahead must be at least 1, not {count} and {ahead}")
        self.seconds: Counter[str] = Counter()
        """Seconds that the children took together, by step: hash, decode, resample."""
        self._limits = [limits.max_seconds, limits.allow_truncated]
        # a file that changed since then may have done so between its hashing and its decoding
        self._since_ns = time.time_ns() - CLOCKS_NS
        self._ahead = ahead
        self._closed = False
        self._lanes = [_Lane(timeout_s, command) for _ in range(count)]

    @classmethod
    def of(cls, settings: Settings) -> Decoders:
        """Returns the decoders that the settings ask for, which decode at least a batch ahead."""
        ahead = max(AHEAD, settings.run.batch * 3 // 2)
        return cls(settings.run.decoders, limits=Limits.of(settings.data), ahead=ahead)

    def __enter__(self) -> Decoders:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends all children, also those that are decoding."""
        self._closed = True
        for lane in self._lanes:
            lane.stop()
        for lane in self._lanes:
            lane.thread.join()

    def probe(self, paths: Iterable[str], *, hashed: bool = True) -> Iterator[Probe | AudioError]:
        """Yields header and digest of each file, or why it cannot be used, in order; see `gramcli.audio.reader.probe`.

        Raises:
            ResourceError: No child can be started.
        """
        jobs = (_Job(path, {"probe": _absolute(path), "hashed": hashed, "limits": self._limits}, 1) for path in paths)
        for reply, _ in self._run(jobs):
            yield _probe(reply)

    def decode(self, requests: Iterable[Request]) -> Iterator[Decoded]:
        """Yields one result for each window, in order.

        Consecutive requests for one file go to the same child, which reads on from where it was.

        Raises:
            ResourceError: No child can be started.
        """
        jobs = (job for request in requests for job in _jobs(request, self._limits, self._since_ns))
        for reply, samples in self._run(jobs):
            yield Decoded(samples, reply.get("error", "" if samples is not None else UNREADABLE))

    def _run(self, jobs: Iterator[_Job]) -> Iterator[Reply]:
        pending: deque[_Job] = deque()
        outstanding = 0
        path, lane = "", self._lanes[0]
        try:
            while True:
                while outstanding < self._ahead and (job := next(jobs, None)):
                    if job.path != path:
                        path, lane = job.path, min(self._lanes, key=_Lane.load)
                    lane.submit(job)
                    pending.append(job)
                    outstanding += job.count
                if not pending:
                    return
                for _ in range(pending[0].count):
                    if self._closed:
                        raise ValueError("the decoders are closed")
                    reply = pending[0].replies.get()
                    if isinstance(reply, Exception):
                        raise reply
                    self.seconds.update(reply[0].pop("seconds", {}))
                    yield reply
                    outstanding -= 1
                pending.popleft()
        finally:
            for job in pending:
                job.abandoned = True


def _probe(reply: Mapping[str, Any]) -> Probe | AudioError:
    """Returns what a reply says of a file; a hostile file may have corrupted the decoder's memory."""
    if "error" in reply:
        return AudioError(str(reply["error"]))
    match reply.get("probe"):
        case [int(), int(), int(), str(), int(), int()] as found if min(found[0], found[1], found[2]) > 0:
            return Probe(*found)
    return AudioError(UNREADABLE)


@dataclass
class _Job:
    """A message to a child and the replies to it."""

    path: str
    message: dict[str, Any]
    count: int
    """Replies that the message asks for."""
    replies: queue.SimpleQueue[Reply | Exception] = field(default_factory=queue.SimpleQueue)
    abandoned: bool = False

    def rest(self, done: int) -> dict[str, Any]:
        """Returns the message without the windows that have been answered."""
        return {**self.message, "windows": self.message["windows"][done:]} if done else self.message


def _absolute(path: str) -> str:
    """Returns a path that leads to the same file from anywhere: a child may have been started in another folder."""
    return os.path.join(os.getcwd(), path)  # noqa: PTH109, PTH118 - pathlib would drop what `..` behind a link means


def _jobs(request: Request, limits: Sequence[Any], since_ns: int) -> Iterator[_Job]:
    """Cuts a request into jobs of a few windows each, since the windows decoded ahead are counted by whole jobs."""
    common = {
        "path": _absolute(request.path),
        "sample_rate": request.sample_rate,
        "channel": request.channel,
        "limits": limits,
        "expected": _expected(request, since_ns),
    }
    for first in range(0, len(request.windows), WINDOWS_PER_JOB):
        windows = request.windows[first : first + WINDOWS_PER_JOB]
        yield _Job(request.path, {**common, "windows": windows}, len(windows))


def _expected(request: Request, since_ns: int) -> list[Any] | None:
    """Returns the file that a request is about, with the time from which on it must be hashed again if it changed."""
    file = request.expected
    return None if file is None else [file.digest, file.bytes, file.mtime_ns, file.since_ns or since_ns]


class _Lane:
    """A queue of jobs, the thread that works it off, and the child process that decodes."""

    def __init__(self, timeout_s: float, command: Sequence[str]) -> None:
        self._timeout_s = timeout_s
        self._command = command
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._busy = False
        self._stopped = False
        self._child: Child | None = None
        self._suspect, self._strikes = "", 0
        """The last file that crashed a child or timed out, and how often in a row."""
        self.thread = threading.Thread(target=self._work, name="gramcli decoder", daemon=True)
        self.thread.start()

    def load(self) -> int:
        """Returns the number of jobs that are waiting or under way."""
        return self._jobs.qsize() + self._busy

    def submit(self, job: _Job) -> None:
        """Puts a job at the end of the queue."""
        self._jobs.put(job)

    def stop(self) -> None:
        """Ends thread and child now; a child writes nothing, so nothing is lost."""
        self._stopped = True
        self._jobs.put(None)
        child = self._child
        if child is not None:
            child.kill()

    def _work(self) -> None:
        while (job := self._jobs.get()) and not self._stopped:
            self._busy = True
            if not job.abandoned:
                try:
                    self._serve(job)
                except Exception as error:  # to be raised where the reply is waited for
                    job.replies.put(error)
                    self._drop()
            self._busy = False
        self._drop()

    def _serve(self, job: _Job) -> None:
        """Gets all replies of a job, with a new child after each crash or timeout."""
        done = 0
        while done < job.count and not self._stopped:
            child = self._ready()
            child.send(job.rest(done))
            try:
                while done < job.count:
                    job.replies.put(child.receive(self._timeout_s))
                    done += 1
            except Ended as end:
                self._child = None
                self._strikes = self._strikes + 1 if job.path == self._suspect else 1
                self._suspect = job.path
                for _ in range(job.count - done if self._strikes >= STRIKES else 1):
                    job.replies.put(({"error": str(end)}, None))
                    done += 1

    def _ready(self) -> Child:
        """Returns a running child; one that ended between two jobs is replaced and fails no window."""
        if self._child is not None and not self._child.alive():
            self._drop()
        if self._child is None:
            try:
                return self._start()
            except ResourceError:  # on a busy machine a second one may start in time
                self._drop()
                if self._stopped:
                    raise
            return self._start()
        return self._child

    def _start(self) -> Child:
        self._child = (_spare() if tuple(self._command) == COMMAND else None) or Child(self._command)
        if self._stopped:  # stop() may have come before the child
            self._child.kill()
        self._child.greet()
        return self._child

    def _drop(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None
