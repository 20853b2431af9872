"""Decodes audio files in child processes, ahead of the network, so that a file that crashes its decoder harms no other.

The windows that are wanted are cut into jobs, which go to the lane (`gramcli.audio.decoder_lane`) with the fewest.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from gramcli.audio.decoder_lane import Job, Lane
from gramcli.audio.decoder_process import COMMAND, UNREADABLE, Reply
from gramcli.audio.limits import LIMITS, Limits
from gramcli.audio.reader import Probe, Samples
from gramcli.audio.requests import Request
from gramcli.errors import AudioError
from gramcli.settings.schema import Settings

AHEAD = 24
"""Default number of windows that are decoded before they are needed."""
WINDOWS_PER_JOB = 8
"""Most windows that are asked of a child in one message."""
CLOCKS_NS = 2_000_000_000
"""Nanoseconds by which a file system's clock may be behind this machine's."""


@dataclass(frozen=True)
class Decoded:
    """One decoded window: its samples, or why there are none."""

    samples: Samples | None
    """(n,) float32."""
    error: str = ""


class Decoders:
    """Child processes that probe and decode audio files; use it as a context manager.

    If a child crashes, or gives no sign of life for `timeout_s`, the window it was at fails and the child is replaced;
    all other windows go on. After `gramcli.audio.decoder_lane.STRIKES` such ends in one file, the rest of that file is
    given up. The children end with this process.

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
        self._lanes = [Lane(timeout_s, command) for _ in range(count)]

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
        jobs = (Job(path, {"probe": _absolute(path), "hashed": hashed, "limits": self._limits}, 1) for path in paths)
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

    def _run(self, jobs: Iterator[Job]) -> Iterator[Reply]:
        pending: deque[Job] = deque()
        outstanding = 0
        path, lane = "", self._lanes[0]
        try:
            while True:
                while outstanding < self._ahead and (job := next(jobs, None)):
                    if job.path != path:
                        path, lane = job.path, min(self._lanes, key=Lane.load)
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


def _absolute(path: str) -> str:
    """Returns a path that leads to the same file from anywhere: a child may have been started in another folder."""
    return os.path.join(os.getcwd(), path)  # noqa: PTH109, PTH118 - pathlib would drop what `..` behind a link means


def _jobs(request: Request, limits: Sequence[Any], since_ns: int) -> Iterator[Job]:
    """Cuts a request into jobs of a few windows each, since the windows decoded ahead are counted by whole jobs."""
    file = request.expected
    common = {
        "path": _absolute(request.path),
        "sample_rate": request.sample_rate,
        "channel": request.channel,
        "limits": limits,
        "expected": None if file is None else dataclasses.astuple(dataclasses.replace(file, since_ns=since_ns)),
    }
    for first in range(0, len(request.windows), WINDOWS_PER_JOB):
        windows = request.windows[first : first + WINDOWS_PER_JOB]
        yield Job(request.path, {**common, "windows": windows}, len(windows))
