"""Limits on audio files: formats, sample rates, channels, length and level beyond which a file is refused."""

from __future__ import annotations

from dataclasses import dataclass

from gramcli.settings.schema import DataSettings

RATES = (1_000, 768_000)
"""Lowest and highest sample rate, in Hz. libsndfile reads any; at 1 Hz, each sample would become 16,000."""
MAX_CHANNELS = 64
"""Largest number of channels."""
LOUDEST = 1e4
"""Largest magnitude of a sample; full scale is 1."""
MAX_FRAMES_PER_BYTE = 10_000
"""Silence in FLAC needs about one byte for 6,000 samples; a header that claims more is forged."""
FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC", "OGG", "MP3")
"""Containers that are read: those in which a truncated file can be distinguished from a complete one."""


@dataclass(frozen=True)
class Limits:
    """Limits that the user can change."""

    max_seconds: float = DataSettings.max_seconds
    """Longest file, in seconds."""
    allow_truncated: bool = DataSettings.allow_truncated
    """Whether the samples that are there of a truncated file are used."""

    @classmethod
    def of(cls, data: DataSettings) -> Limits:
        """Returns the limits that the settings give."""
        return cls(data.max_seconds, data.allow_truncated)


LIMITS = Limits()
"""Those without any setting."""
