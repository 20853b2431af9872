"""A lane of the decoders: a queue of jobs, the thread that works them off, and the child process that decodes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gramcli.audio.decoder_process import COMMAND, Child, Ended, Reply, spare
from gramcli.errors import ResourceError

STRIKES = 2
"""Crashes or timeouts of one file after which its remaining windows are given up."""


@dataclass
class Job:
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


class Lane:
    """A queue of jobs, the thread that works it off, and the child process that decodes."""

    def __init__(self, timeout_s: float, command: Sequence[str]) -> None:
        self._timeout_s = timeout_s
        self._command = command
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
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

    def submit(self, job: Job) -> None:
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

    def _serve(self, job: Job) -> None:
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
        self._child = (spare() if tuple(self._command) == COMMAND else None) or Child(self._command)
        if self._stopped:  # stop() may have come before the child
            self._child.kill()
        self._child.greet()
        return self._child

    def _drop(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None
