"""What is asked of a decoder: windows of one file, at one sample rate."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from gramcli.audio.windows import Window
from gramcli.settings.schema import Settings


@dataclass(frozen=True)
class Request:
    """Windows of one file."""

    path: str
    windows: tuple[Window | None, ...]
    """Sorted by their start; None for the whole file."""
    sample_rate: int
    channel: int | str = "mix"


class Span(Protocol):
    """A window of a file: a clip of the cache, or a part of a new recording."""

    @property
    def path(self) -> str:
        """The file."""

    @property
    def start(self) -> float | None:
        """Seconds, or None for the whole file."""

    @property
    def end(self) -> float | None:
        """Seconds, or None for the whole file."""


def requests(spans: Iterable[Span], settings: Settings) -> Iterator[Request]:
    """Yields what to decode, neighbouring windows of one file together."""
    for path, group in itertools.groupby(spans, key=lambda span: span.path):
        windows = tuple(None if span.start is None or span.end is None else (span.start, span.end) for span in group)
        yield Request(path, windows, settings.frontend.sample_rate, settings.segment.channel)
