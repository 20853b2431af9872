"""How a stage tells what it is doing, without printing."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Listens to a stage. Implementations must not raise."""

    def start(self, task: str, total: int) -> None:
        """A task of `total` steps begins; the one before is over."""

    def advance(self, steps: int, failed: int = 0) -> None:
        """Steps are done, `failed` of them without result."""

    def note(self, text: str) -> None:
        """Something the user should know, in one line."""


class Silent:
    """Keeps the notes and shows nothing."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def start(self, task: str, total: int) -> None:
        """Ignored."""

    def advance(self, steps: int, failed: int = 0) -> None:
        """Ignored."""

    def note(self, text: str) -> None:
        """Kept in `notes`."""
        self.notes.append(text)
