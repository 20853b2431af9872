"""What is believed of an audio file."""

from __future__ import annotations

from dataclasses import dataclass

from gramcli.settings.schema import DataSettings

RATES = (1_000, 768_000)
"""Sample rates that are believed, in Hz. libsndfile reads any: at 1 Hz, a second would become 16,000 samples."""
MOST_CHANNELS = 64
LOUDEST = 1e4
"""Largest magnitude that is believed; full scale is 1."""
MOST_FRAMES_PER_BYTE = 10_000
"""Silence in FLAC needs about one byte for 6,000 samples; a header that claims more is forged."""
FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC", "OGG", "MP3")
"""Containers that are read: those of which a truncated file can be told from a whole one."""


@dataclass(frozen=True)
class Limits:
    """Limits that a user may move."""

    max_seconds: float = DataSettings.max_seconds
    """Longest file, in seconds."""
    allow_truncated: bool = DataSettings.allow_truncated
    """Whether a file that ends early is used as far as it goes."""

    @classmethod
    def of(cls, data: DataSettings) -> Limits:
        """Returns the limits of a run."""
        return cls(data.max_seconds, data.allow_truncated)


LIMITS = Limits()
