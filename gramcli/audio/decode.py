"""Audio files to mono float32 windows at one sample rate; soundfile and soxr, never torch.

An `AudioError` from here is the reason alone: the caller knows which file it asked for.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from gramcli.audio.windows import Window
from gramcli.errors import AudioError, shown

Samples = npt.NDArray[np.float32]

RATES = (1_000, 768_000)
"""Sample rates that are believed, in Hz. libsndfile reads any: at 1 Hz, a second would become 16,000 samples."""
MOST_CHANNELS = 64
LOUDEST = 1e4
"""Largest magnitude that is believed; full scale is 1."""
MOST_FRAMES_PER_BYTE = 10_000
"""Silence in FLAC needs about one byte for 6,000 samples; a header that claims more is forged."""
BLOCK = 1 << 16
"""Frames read at once; nothing is ever allocated by what a header says."""
STREAMED = 0xFFFFFFFF
"""Length in the header of a WAV file that was written to a pipe."""

# Others are read from their start: a seek in Ogg or MP3 is not exact to the sample.
_EXACT_SEEK = ("WAV", "WAVEX", "W64", "RF64", "AIFF", "FLAC")
# Reading stops short in a truncated file without a word, but the log tells the claimed length from the real one.
_SHORTENED = re.compile(r"^ ?(?:data|SSND) : (\d+) \(should be (\d+)\)", re.MULTILINE)
_REASONS = {
    errno.ENOENT: "no such file",
    errno.EACCES: "no permission to read it",
    errno.ELOOP: "symbolic links lead in a circle",
}


@dataclass(frozen=True)
class Probe:
    """What the header and the bytes of a file say."""

    frames: int
    sample_rate: int
    """In Hz."""
    channels: int
    digest: str
    """SHA-256 of the file's bytes; empty if it was not asked for."""
    bytes: int
    """Size of the file."""

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate


class _Sequential(soundfile.SoundFile):  # type: ignore[misc]
    """Reads straight on.

    soundfile seeks to where it is after every read of a seekable file. In MP3 that lands elsewhere: a sine read in
    blocks was wrong by as much as its amplitude.
    """

    def seekable(self) -> bool:
        return False


class _File:
    """An open audio file whose header has been checked."""

    def __init__(self, path: str) -> None:
        self.descriptor, self.size = _open(path)
        try:
            self.sound = _sound(self.descriptor)
            _check(self.sound, self.size)
        except BaseException:
            os.close(self.descriptor)
            raise

    def close(self) -> None:
        self.sound.close()
        os.close(self.descriptor)


def _open(path: str) -> tuple[int, int]:
    """Opens a regular file: a FIFO would hang for ever, and libsndfile calls all that may go wrong "System error"."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except ValueError:
        raise AudioError("the name of the file holds a NUL character") from None
    except OSError as error:
        raise AudioError(_REASONS.get(error.errno or 0) or f"cannot be opened: {error.strerror}") from None
    about = os.fstat(descriptor)
    if stat.S_ISREG(about.st_mode) and about.st_size:
        return descriptor, about.st_size
    os.close(descriptor)
    if stat.S_ISDIR(about.st_mode):
        raise AudioError("is a folder")
    raise AudioError("empty file" if stat.S_ISREG(about.st_mode) else "is not a regular file")


def _sound(descriptor: int) -> Any:
    try:
        # by descriptor: soundfile cannot encode a name that is not UTF-8
        return _Sequential(descriptor, closefd=False)
    except soundfile.LibsndfileError as error:
        text = error.error_string.rstrip(".")
        if "Format not recognised" in text:
            raise AudioError("not audio that can be read (WAV, FLAC, OGG, MP3, AIFF)") from None
        if "SF_INFO struct incomplete" in text:
            raise AudioError("the header's sample rate or channel count makes no sense") from None
        raise _unreadable(error) from None


def _check(sound: Any, size: int) -> None:
    if not RATES[0] <= sound.samplerate <= RATES[1]:
        raise AudioError(f"sample rate {sound.samplerate} Hz is not within {RATES[0]} to {RATES[1]} Hz")
    if sound.channels > MOST_CHANNELS:
        raise AudioError(f"{sound.channels} channels are more than {MOST_CHANNELS}")
    if sound.frames <= 0:
        raise AudioError("0 samples")
    if sound.frames > size * MOST_FRAMES_PER_BYTE:
        raise AudioError(f"the header claims {sound.frames} samples in {size} bytes")
    short = _SHORTENED.search(sound.extra_info)
    if short and int(short[2]) < int(short[1]) != STREAMED:
        raise AudioError(f"truncated: {short[2]} of {short[1]} bytes of samples are there")


def _unreadable(error: Exception) -> AudioError:
    text = getattr(error, "error_string", None) or str(error)
    return AudioError(f"cannot be decoded: {shown(text.strip().rstrip('.'))}")


def _nothing() -> None:
    """Nobody wants to know that work goes on."""


def probe(path: str, alive: Callable[[], None] = _nothing, hashed: bool = True) -> Probe:
    """Checks the header of a file and hashes its bytes.

    Args:
        path: The file; its name need not be UTF-8.
        alive: Called every now and then.
        hashed: Whether to read more than the header.

    Raises:
        AudioError: It is no audio file that can be used.
    """
    file = _File(path)
    try:
        sound = file.sound
        if not hashed:
            return Probe(sound.frames, sound.samplerate, sound.channels, "", file.size)
        digest = hashlib.sha256()
        os.lseek(file.descriptor, 0, os.SEEK_SET)  # libsndfile is done with the header
        while block := os.read(file.descriptor, 1 << 20):
            digest.update(block)
            alive()
        return Probe(sound.frames, sound.samplerate, sound.channels, digest.hexdigest(), file.size)
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
        sample_rate: Rate of what is returned, in Hz.
        channel: Channel counted from 0, or "mix" for the mean of all.
        alive: Called every now and then while samples are skipped.

    Raises:
        AudioError: It is no audio file that can be used.
    """

    def __init__(self, path: str, sample_rate: int, channel: int | str, alive: Callable[[], None] = _nothing) -> None:
        self._file = _File(path)
        self._sound = self._file.sound
        self._rate = sample_rate
        self._channel = channel
        self._alive = alive
        self._kept: Samples = np.empty(0, np.float32)
        """Mono source samples from frame `_start` up to where the file has been read."""
        self._start = 0
        self._broken: AudioError | None = None
        """Why nothing more can be decoded."""
        self.resampling_s = 0.0
        """Seconds that resampling has taken so far."""
        if isinstance(channel, int) and channel >= self._sound.channels:
            channels = self._sound.channels
            self.close()
            raise AudioError(f"channel {channel} is asked for, and there are {channels} (counted from 0)")

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
        """Tells whether a window can still be read without starting anew."""
        return self._frames(window)[0] >= self._start

    def read(self, window: Window | None) -> Samples:
        """Returns one window, (samples,) float32 at the sample rate asked for.

        Args:
            window: Start and end in seconds; None for the whole file. It has the source's samples from
                ``round(start·rate)`` up to, not including, ``round(end·rate)``.

        Raises:
            AudioError: The samples are not there, cannot be decoded, or are no sound.
            ValueError: The window begins before the one read last.
        """
        start, stop = self._frames(window)
        if start < self._start:
            raise ValueError(f"window {window} begins before the one read last")
        if not 0 <= start < stop <= self._sound.frames:
            rate = self._sound.samplerate
            raise AudioError(f"0 samples from {start / rate:g} to {stop / rate:g} s of {self._sound.frames / rate:g} s")
        if self._broken is None:
            try:
                self._advance(start, stop)
            except soundfile.LibsndfileError as error:
                self._broken = _unreadable(error)
            except AudioError as error:
                self._broken = error
        if self._broken is not None:
            raise self._broken from None
        source = _believed(self._kept[: stop - start], start)
        if self._sound.samplerate == self._rate:
            return source.copy()
        began = time.perf_counter()
        samples = np.asarray(soxr.resample(source, self._sound.samplerate, self._rate, quality="HQ"), np.float32)
        self.resampling_s += time.perf_counter() - began
        return samples

    def _frames(self, window: Window | None) -> tuple[int, int]:
        if window is None:
            return 0, self._sound.frames
        rate = self._sound.samplerate
        return round(window[0] * rate), min(round(window[1] * rate), self._sound.frames)

    def _advance(self, start: int, stop: int) -> None:
        """Forgets what is before `start` and reads up to `stop`."""
        position = self._start + len(self._kept)
        self._kept = self._kept[start - self._start :]
        self._start = start
        if position < start and self._sound.format in _EXACT_SEEK:
            self._sound.seek(start)
            position = start
        while position < start:
            position += len(self._block(min(BLOCK, start - position), position))
            self._alive()
        blocks = [self._kept]
        while position < stop:
            block = self._block(min(BLOCK, stop - position), position)
            blocks.append(self._mono(block))
            position += len(block)
        self._kept = np.concatenate(blocks)

    def _block(self, frames: int, position: int) -> Samples:
        block: Samples = self._sound.read(frames, dtype="float32", always_2d=True)
        if not len(block):
            raise AudioError(f"truncated: {position} of {self._sound.frames} samples are there")
        return block

    def _mono(self, block: Samples) -> Samples:
        if isinstance(self._channel, int):
            return np.ascontiguousarray(block[:, self._channel])
        if block.shape[1] == 1:
            return block[:, 0]
        with np.errstate(over="ignore", invalid="ignore"):  # of infinities, which are refused later
            return np.asarray(block.mean(axis=1), np.float32)


def _believed(samples: Samples, position: int) -> Samples:
    """Returns samples that are finite and within `LOUDEST`."""
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
