"""Requests to the decoders: the windows of an audio file that are wanted, at which sample rate and of which channel.

Clips of the cache and parts of new recordings are both spans of files; `requests` turns either into requests.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from gramcli.audio.windows import Window
from gramcli.settings.schema import Settings


@dataclass(frozen=True)
class Request:
    """Windows of one file, decoded one after another by the same process."""

    path: str
    """The audio file."""
    windows: tuple[Window | None, ...]
    """Start and end in seconds, sorted by their start; None for the whole file."""
    sample_rate: int
    """Of the samples that come back, in Hz."""
    channel: int | str = "mix"
    """Channel counted from 0, or "mix" for the mean of all."""


class Span(Protocol):
    """A window of a file: a clip of the cache, or a part of a new recording."""

    @property
    def path(self) -> str:
        """The file."""

    @property
    def start(self) -> float | None:
        """Start in seconds, or None for the whole file."""

    @property
    def end(self) -> float | None:
        """End in seconds, or None for the whole file."""


def requests(spans: Iterable[Span], settings: Settings) -> Iterator[Request]:
    """Yields one request for each run of consecutive spans of the same file.

    Args:
        spans: In the order in which the decoders are to answer; those of one file by rising start.
        settings: Sample rate (``frontend.sample_rate``) and channel (``segment.channel``) count.
    """
    for path, group in itertools.groupby(spans, key=lambda span: span.path):
        windows = tuple(None if span.start is None or span.end is None else (span.start, span.end) for span in group)
        yield Request(path, windows, settings.frontend.sample_rate, settings.segment.channel)
