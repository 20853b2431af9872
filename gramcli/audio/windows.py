"""Cuts a recording into windows of equal length. The last one may overlap the one before.

What is left at the end is dropped if it is shorter than a tenth of a window.
"""

from __future__ import annotations

from gramcli.errors import AudioError

Window = tuple[float, float]
"""Start and end in seconds."""
MOST = 1_000_000
"""Most windows of a file; 90,000 s, the longest file by default, have 900,000 windows of 0.1 s."""


def windows(duration: float, start: float | None, end: float | None, seconds: float) -> list[Window | None]:
    """Cuts a recording, or a stretch of it, into windows.

    Windows of `seconds` follow each other without gaps. If a rest of at least a tenth of `seconds` is left, one more
    window ends where the audio ends. It overlaps the one before, so that it needs no padding. A shorter rest is left
    out::

        duration 25, seconds 10     0──────────10─────────20
                                                   15─────────25

    Args:
        duration: Length of the file in seconds.
        start: Where the stretch begins; None for the start of the file.
        end: Where it ends; None for the end of the file. An end behind the file's is the file's.
        seconds: Length of a window.

    Returns:
        Windows in order of time. ``[None]`` stands for the whole file: no stretch is given, and the file is shorter
        than `seconds`, or longer by less than a tenth of it. A stretch shorter than `seconds` is one window of its own
        length. What is shorter than `seconds` has to be padded.

    Raises:
        AudioError: The stretch begins at or after the end of the file, as any does in an empty one, or there would be
            more than `MOST` windows.
        ValueError: `seconds` is not positive, `start` is negative, or `end` is not behind `start`.
    """
    if not seconds > 0:
        raise ValueError(f"seconds must be above 0, not {seconds}")
    first = 0.0 if start is None else start
    last = duration if end is None else min(end, duration)
    if first >= duration:
        raise AudioError(f"the stretch begins at {first:g} s, the audio ends at {duration:g} s")
    if not 0 <= first < last:
        raise ValueError(f"a stretch must begin at 0 or later and end after it begins, not {start} to {end}")
    if (last - first) / seconds > MOST:
        raise AudioError(
            f"would be cut into {(last - first) / seconds:.0f} windows of {seconds:g} s, and a file has at most "
            f"{MOST}; give more --seconds"
        )
    count = int((last - first) / seconds)
    rest = (last - first) - count * seconds
    has_rest = rest >= seconds / 10
    if start is None and end is None and count + has_rest <= 1:
        return [None]
    if count == 0:
        return [(first, last)]
    cut: list[Window | None] = [(first + i * seconds, first + (i + 1) * seconds) for i in range(count)]
    if has_rest:
        cut.append((last - seconds, last))
    return cut
