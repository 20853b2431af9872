"""Requests to the decoders: the windows of an audio file that are wanted, at which sample rate and of which channel.

Clips of the cache and parts of new recordings are both spans of files; `requests` turns either into requests.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from gramcli.audio.windows import Window
from gramcli.settings.schema import Settings


@dataclass(frozen=True)
class HashedFile:
    """A file as it was when its content was hashed."""

    digest: str
    """SHA-256 of its content."""
    bytes: int
    mtime_ns: int
    """When it was last changed, in nanoseconds since 1970."""
    hash_again: bool = False
    """Whether to hash it again, whatever its size and times say."""
    since_ns: int = 0
    """What was changed from this time on, in nanoseconds since 1970, is hashed again, too; the decoders set it."""

    def is_unchanged(self, about: os.stat_result) -> bool:
        """Tells whether an open file is this one by its size and times; if not, only its digest can tell."""
        same = (about.st_size, about.st_mtime_ns) == (self.bytes, self.mtime_ns)
        return same and about.st_ctime_ns < self.since_ns and not self.hash_again


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
    expected: HashedFile | None = None
    """The file that it must be; None for any."""


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

    @property
    def file_digest(self) -> str:
        """SHA-256 of the file's content when the windows were cut; empty if it is not known."""

    @property
    def bytes(self) -> int:
        """Size of the file at that time."""

    @property
    def mtime_ns(self) -> int:
        """When the file had last been changed at that time, in nanoseconds since 1970."""


def requests(spans: Iterable[Span], settings: Settings, *, hash_again: bool = False) -> Iterator[Request]:
    """Yields one request for each run of consecutive spans of the same file.

    Args:
        spans: In the order in which the decoders are to answer; those of one file by rising start.
        settings: Sample rate (``frontend.sample_rate``) and channel (``segment.channel``) count.
        hash_again: See `HashedFile`.
    """
    for (path, expected), group in itertools.groupby(spans, key=lambda span: (span.path, _hashed(span, hash_again))):
        windows = tuple(None if span.start is None or span.end is None else (span.start, span.end) for span in group)
        yield Request(path, windows, settings.frontend.sample_rate, settings.segment.channel, expected)


def _hashed(span: Span, hash_again: bool) -> HashedFile | None:
    """Returns the file that a span was cut from; None where its digest is not known, as in tables of format 1."""
    return HashedFile(span.file_digest, span.bytes, span.mtime_ns, hash_again) if span.file_digest else None
