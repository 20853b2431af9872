"""The progress protocol: how a command's work reports its steps and notes, without printing."""

from __future__ import annotations

import logging
from typing import Protocol


class Progress(Protocol):
    """Receives the steps and notes of a piece of work. Its methods must not raise."""

    def start(self, task: str, total: int) -> None:
        """Called when a task of `total` steps begins; the task before is over."""

    def advance(self, steps: int, failed: int = 0) -> None:
        """Called when some steps are done, `failed` of them without a result."""

    def note(self, text: str) -> None:
        """Called with something that the user should know, in one line."""

    def warn(self, text: str) -> None:
        """Called with something that the user must be shown at once, even where no notes are wanted."""


class Silent:
    """Shows nothing but warnings, and keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def start(self, task: str, total: int) -> None:
        """Ignored."""

    def advance(self, steps: int, failed: int = 0) -> None:
        """Ignored."""

    def note(self, text: str) -> None:
        """Kept in `notes`."""
        self.notes.append(text)

    def warn(self, text: str) -> None:
        """Logged as a warning of the logger ``gramcli``, which Python prints to stderr unless logging is configured."""
        logging.getLogger("gramcli").warning("%s", text)
