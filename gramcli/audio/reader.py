"""Decodes windows of an audio file to mono float32 samples at one sample rate, with soundfile and soxr.

The message of an `AudioError` raised here gives the reason only; the caller adds the name of the file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from gramcli.audio.container import AudioFile, truncated, unreadable
from gramcli.audio.limits import LIMITS, LOUDEST, Limits
from gramcli.audio.requests import HashedFile
from gramcli.audio.truncation import MAX_MISSING
from gramcli.audio.windows import Window
from gramcli.errors import AudioError

Samples = npt.NDArray[np.float32]

BLOCK = 1 << 16
"""Frames read at once. No buffer is ever as large as a header says, as headers can be forged."""

# Others are read from their start: a seek in Ogg or MP3 is not exact to the sample.
_EXACT_SEEK = ("WAV", "WAVEX", "W64", "RF64", "AIFF", "FLAC")


@dataclass(frozen=True)
class Probe:
    """Header and digest of an audio file."""

    frames: int
    sample_rate: int
    """In Hz."""
    channels: int
    digest: str
    """SHA-256 of the file's bytes; empty if only the header was read."""
    bytes: int
    """Size of the file."""
    mtime_ns: int
    """When it was last changed, in nanoseconds since 1970."""

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate


def _nothing() -> None:
    """Reports to nobody that work goes on."""


def probe(path: str, alive: Callable[[], None] = _nothing, *, limits: Limits = LIMITS, hashed: bool = True) -> Probe:
    """Checks the header of a file and hashes its bytes.

    Args:
        path: The file; its name need not be UTF-8.
        alive: Called every now and then, to report that work goes on.
        limits: Longest file, and whether a truncated one may be used.
        hashed: Whether to hash the file; otherwise only its header is read.

    Raises:
        AudioError: It is no audio file, exceeds a limit, or cannot be read.
    """
    file = AudioFile(path, limits, alive=alive)
    try:
        sound, changed = file.sound, os.fstat(file.descriptor).st_mtime_ns
        digest = file.digest() if hashed else ""
        file.require_unchanged()
        return Probe(sound.frames, sound.samplerate, sound.channels, digest, file.size, changed)
    except OSError as error:
        raise AudioError(f"cannot be read: {error.strerror}") from None
    finally:
        file.close()


class Reader:
    """Reads windows of one file in order of time, in memory bounded by a window.

    Windows are decoded one after another; a window may begin before the end of the one before, but not before its
    start. Each is resampled by itself, so what it holds depends on no other window.

    Args:
        path: The file.
        sample_rate: Rate of the samples returned, in Hz.
        channel: Channel counted from 0, or "mix" for the mean of all.
        alive: Called every now and then while samples are skipped, to report that work goes on.
        limits: Longest file, and whether a truncated one may be used.
        expected: The file that it must be; None for any.

    Raises:
        AudioError: It is no audio file, exceeds a limit, cannot be read, has another content, or lacks the channel.
    """

    def __init__(
        self,
        path: str,
        sample_rate: int,
        channel: int | str,
        alive: Callable[[], None] = _nothing,
        *,
        limits: Limits = LIMITS,
        expected: HashedFile | None = None,
    ) -> None:
        self._file = AudioFile(path, limits, expected, alive)
        self._limits = limits
        self._sound = self._file.sound
        self._rate = sample_rate
        self._channel = channel
        self._alive = alive
        self._kept: Samples = np.empty(0, np.float32)
        """Mono source samples from frame `_start` up to where the file has been read."""
        self._start = 0
        self._end: int | None = None
        """Frames of a file that ends before its header says, once that is known, and where that is no fault."""
        self._broken: AudioError | None = None
        """Why nothing more can be decoded."""
        self.resampling_s = 0.0
        """Seconds that resampling has taken so far."""
        if isinstance(channel, int) and channel >= self._sound.channels:
            channels = self._sound.channels
            self.close()
            raise AudioError(
                f"there is no channel {channel}: the file has {channels}, counted from 0 (segment.channel)"
            )

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def reaches(self, window: Window | None) -> bool:
        """Tells whether a window can be read without opening the file again: it begins where samples are still kept."""
        return self._frames(window)[0] >= self._start

    def read(self, window: Window | None) -> Samples:
        """Returns one window, (samples,) float32 at the sample rate asked for.

        Args:
            window: Start and end in seconds; None for the whole file. It has the source's samples from
                ``round(start·rate)`` up to, not including, ``round(end·rate)``.

        Raises:
            AudioError: The samples are missing, cannot be decoded, are not finite or far beyond full scale; or the file
                was written to since it was opened.
            ValueError: The window begins before the one read last.
        """
        try:
            return self._read(window)
        finally:
            self._file.require_unchanged()  # which explains any other fault

    def _read(self, window: Window | None) -> Samples:
        start, stop = self._frames(window)
        if start < self._start:
            raise ValueError(f"window {window} begins before the one read last")
        self._require(start, stop)
        if self._broken is None:
            try:
                self._advance(start, stop)
            except soundfile.LibsndfileError as error:
                self._broken = unreadable(error)
            except AudioError as error:
                self._broken = error
        if self._broken is not None:
            raise self._broken from None
        self._require(start, start + min(stop - start, len(self._kept)))
        source = _plausible(self._kept[: stop - start], start)
        if self._sound.samplerate == self._rate:
            return source.copy()
        began = time.perf_counter()
        samples = np.asarray(soxr.resample(source, self._sound.samplerate, self._rate, quality="HQ"), np.float32)
        self.resampling_s += time.perf_counter() - began
        return samples

    def _require(self, start: int, stop: int) -> None:
        frames, rate = self._sound.frames if self._end is None else self._end, self._sound.samplerate
        if not 0 <= start < stop <= self._sound.frames or start >= frames:
            raise AudioError(f"0 samples from {start / rate:g} to {stop / rate:g} s of {frames / rate:g} s")

    def _frames(self, window: Window | None) -> tuple[int, int]:
        if window is None:
            return 0, self._sound.frames
        rate = self._sound.samplerate
        return round(window[0] * rate), min(round(window[1] * rate), self._sound.frames)

    def _advance(self, start: int, stop: int) -> None:
        """Drops the samples before `start` and reads up to `stop`."""
        position = self._start + len(self._kept)
        self._kept = self._kept[start - self._start :]
        self._start = start
        if position < start and self._sound.format in _EXACT_SEEK:
            self._sound.seek(start)
            position = start
        while position < start and (skipped := self._block(min(BLOCK, start - position), position)) is not None:
            position += len(skipped)
            self._alive()
        blocks = [self._kept]
        while position < stop and (block := self._block(min(BLOCK, stop - position), position)) is not None:
            blocks.append(self._mono(block))
            position += len(block)
            self._alive()
        self._kept = np.concatenate(blocks)

    def _block(self, frames: int, position: int) -> Samples | None:
        """Reads the next frames; None where the file ends early and that is allowed."""
        if self._end is not None:
            return None
        try:
            block: Samples = self._sound.read(frames, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            if not self._limits.allow_truncated:
                raise
            block = np.empty((0, 1), np.float32)
        if len(block):
            return block
        # an MP3 file may claim more than it has: encoders do not agree on what they count
        nearly = self._sound.format == "MP3" and position >= (1 - MAX_MISSING) * self._sound.frames
        if not (nearly or self._limits.allow_truncated):
            raise truncated(f"{position} of {self._sound.frames} samples are there")
        self._end = position
        return None

    def _mono(self, block: Samples) -> Samples:
        if isinstance(self._channel, int):
            return np.ascontiguousarray(block[:, self._channel])
        if block.shape[1] == 1:
            return block[:, 0]
        with np.errstate(over="ignore", invalid="ignore"):  # of infinities, which are refused later
            return np.asarray(block.mean(axis=1), np.float32)


def _plausible(samples: Samples, position: int) -> Samples:
    """Returns the samples if all are finite and within `LOUDEST`; raises an AudioError otherwise."""
    if not np.abs(samples).max() <= LOUDEST:  # also where the maximum is NaN
        first = int(np.argmax(~(np.abs(samples) <= LOUDEST)))
        raise AudioError(f"sample {position + first} is {samples[first]:g}: not finite, or beyond ±{LOUDEST:g}")
    return samples


def fit(samples: Samples, length: int, pad: str) -> Samples:
    """Cuts or pads a window to a fixed length.

    Args:
        samples: (n,) float32.
        length: Number of samples wanted.
        pad: "zero" puts zeros at the end, "repeat" plays the samples again and again.

    Returns:
        (length,) float32.

    Raises:
        ValueError: Nothing to repeat, or an unknown `pad`.
    """
    if len(samples) >= length:
        return samples[:length]
    if pad == "zero":
        return np.pad(samples, (0, length - len(samples)))
    if pad != "repeat" or not len(samples):
        raise ValueError(f"cannot pad {len(samples)} samples by {pad!r}")
    return np.resize(samples, length)


def stack(windows: Sequence[Samples], samples: int, pad: str) -> Samples:
    """Cuts or pads decoded windows to one length and stacks them, (N, samples) float32."""
    return np.stack([fit(window, samples, pad) for window in windows])
