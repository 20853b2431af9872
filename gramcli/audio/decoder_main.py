"""The program of a decoding child process: ``python -m gramcli.audio.decoder_main``.

It is a program of its own rather than a `multiprocessing` child, which would import the user's script again and so
need a main guard there. Requests are JSON lines on standard input::

    {"probe": path, "hashed": true, "limits": [max_seconds, allow_truncated]}
    {
        "path": path,
        "windows": [null | [start, end], ...],
        "sample_rate": 16000,
        "channel": "mix",
        "limits": ...,
        "expected": null | [digest, bytes, mtime_ns, hash_again, since_ns],
    }

The limits are the fields of `gramcli.audio.limits.Limits`, and what is expected those of
`gramcli.audio.requests.HashedFile`. Replies are JSON lines on standard output, in order::

    {"ready": true}                                                                     once, at the start
    {"probe": [frames, sample_rate, channels, digest, bytes, mtime_ns], "seconds": {...}}   to a probe
    {"samples": n, "seconds": {"decode": s, "resample": s}}                             to each window
    {"error": reason}                                                                   in place of either
    {}                                                                                  work goes on

A line with samples is followed by n float32 in the machine's byte order. The seconds are the time that each step took.
The process exits when its standard input ends, so it never outlives its parent.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import time
from typing import Any, BinaryIO

from gramcli.audio.limits import Limits
from gramcli.audio.reader import Reader, Samples, probe
from gramcli.audio.requests import HashedFile
from gramcli.errors import AudioError
from gramcli.text import shown

ALIVE_S = 1.0
"""Seconds without a reply after which the next block that is read sends ``{}``."""


class Worker:
    """Answers requests. The last file stays open, as its next windows are usually asked for next."""

    def __init__(self, replies: BinaryIO) -> None:
        self._replies = replies
        self._replied_at = time.monotonic()
        self._open: tuple[tuple[Any, ...], Reader] | None = None

    def answer(self, request: dict[str, Any]) -> None:
        """Answers one request; any fault of its file becomes an error reply."""
        limits = Limits(*request["limits"])
        if "probe" in request:
            began = time.perf_counter()
            try:
                found = dataclasses.astuple(
                    probe(request["probe"], self._keep_alive, limits=limits, hashed=request["hashed"])
                )
                self._reply(probe=found, seconds={"hash": time.perf_counter() - began})
            except Exception as error:
                self._reply(error=_reason(error))
            return
        for window in request["windows"]:
            began = time.perf_counter()
            try:
                samples, resampling = self._window(request, window, limits)
            except Exception as error:
                self._reply(error=_reason(error))
            else:
                decoding = time.perf_counter() - began - resampling
                self._reply(samples, samples=len(samples), seconds={"decode": decoding, "resample": resampling})

    def _window(
        self, request: dict[str, Any], window: tuple[float, float] | None, limits: Limits
    ) -> tuple[Samples, float]:
        """Returns the samples of a window, and the seconds that resampling took."""
        wanted = (request["path"], request["sample_rate"], request["channel"])
        expected = HashedFile(*request["expected"]) if request.get("expected") else None
        about = (wanted, limits, expected)
        if self._open is None or self._open[0] != about or not self._open[1].reaches(window):
            if self._open is not None:
                self._open[1].close()
                self._open = None
            self._open = about, Reader(*wanted, self._keep_alive, limits=limits, expected=expected)
        reader = self._open[1]
        before = reader.resampling_s
        return reader.read(window), reader.resampling_s - before

    def _reply(self, payload: Samples | None = None, **reply: Any) -> None:
        self._replies.write(json.dumps(reply).encode() + b"\n")
        if payload is not None:
            self._replies.write(payload.data)
        self._replies.flush()
        self._replied_at = time.monotonic()

    def _keep_alive(self) -> None:
        if time.monotonic() - self._replied_at > ALIVE_S:
            self._reply()

    def ready(self) -> None:
        """Reports that requests can be sent."""
        self._reply(ready=True)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, AudioError) else shown(f"{type(error).__name__}: {error}")


def main() -> None:
    """Answers standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and may still want replies
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get between the replies
    worker = Worker(replies)
    try:
        worker.ready()
        for line in sys.stdin.buffer:
            worker.answer(json.loads(line))
    except BrokenPipeError:
        os._exit(0)  # the parent is gone; an ordinary exit would try to flush


if __name__ == "__main__":
    main()
