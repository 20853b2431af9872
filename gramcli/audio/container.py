"""Opens an audio file and checks its header against `gramcli.audio.limits` before anything is decoded.

The message of an `AudioError` raised here gives the reason only; the caller adds the name of the file.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from typing import Any

import soundfile

from gramcli.audio.limits import FORMATS, MAX_CHANNELS, MAX_FRAMES_PER_BYTE, RATES, Limits
from gramcli.audio.requests import HashedFile
from gramcli.audio.truncation import truncation
from gramcli.errors import AudioError
from gramcli.text import shown

CHANGED = (
    "changed while it was read; another program was writing to it, such as a recorder: wait until it has finished, and "
    "run the same command again"
)
"""Why a file cannot be used whose content is not, or no longer, the one that was hashed."""
_READ = "WAV, FLAC, OGG, MP3, AIFF, AU, CAF, NIST"
_REASONS = {
    errno.ENOENT: "no such file",
    errno.EACCES: "no permission to read it",
    errno.ELOOP: "symbolic links lead in a circle",
}


class _Sequential(soundfile.SoundFile):  # type: ignore[misc]
    """Reads straight on.

    soundfile seeks to where it is after every read of a seekable file. In MP3 that lands elsewhere: a sine read in
    blocks was wrong by as much as its amplitude.
    """

    def seekable(self) -> bool:
        return False


class AudioFile:
    """An open audio file whose header has been checked, and which is the file that was hashed before.

    Args:
        path: The file; its name need not be UTF-8.
        limits: Longest file, and whether a truncated one may be used.
        expected: The file that it must be; None for any.
        alive: Called every now and then while it is hashed, to report that work goes on.

    Raises:
        AudioError: It is no audio file, exceeds a limit, cannot be read, or has another content.
    """

    def __init__(
        self, path: str, limits: Limits, expected: HashedFile | None = None, alive: Callable[[], None] = lambda: None
    ) -> None:
        self.descriptor, self.size = _open(path)
        self._expected, self._alive = expected, alive
        self._state = self._now()
        """Size and times of the content that was opened."""
        try:
            about = os.fstat(self.descriptor)
            if expected is not None and not expected.is_unchanged(about):
                self._require_digest(expected)
            self.sound = _sound(self.descriptor)
            _check(self.sound, self.descriptor, self.size, limits)
        except OSError as error:
            os.close(self.descriptor)
            raise AudioError(f"cannot be read: {error.strerror}") from None
        except BaseException as error:
            changed = isinstance(error, AudioError) and self._changed()
            os.close(self.descriptor)
            if changed:  # which explains any other fault
                raise AudioError(CHANGED) from None
            raise

    def digest(self) -> str:
        """Returns the SHA-256 of the open file, read from its start.

        Raises:
            OSError: It cannot be read.
        """
        found, offset = hashlib.sha256(), 0
        # not more than there was: a recording may grow as fast as it is read
        while block := os.pread(self.descriptor, min(1 << 20, self.size - offset), offset):
            found.update(block)
            offset += len(block)
            self._alive()
        return found.hexdigest()

    def require_unchanged(self) -> None:
        """Checks that the open file still has the content that was opened.

        Where the digest is known, a file that was only touched, moved or linked counts as unchanged.

        Raises:
            AudioError: It was written to.
        """
        if self._changed():
            raise AudioError(CHANGED)

    def _changed(self) -> bool:
        now = self._now()
        if now == self._state:
            return False
        if self._expected is None:
            return now[:2] != self._state[:2]  # a link or a new name changes the last time alone
        try:
            self._require_digest(self._expected)
        except (AudioError, OSError):
            return True
        self._state = now
        return False

    def _require_digest(self, expected: HashedFile) -> None:
        if self.digest() != expected.digest:
            raise AudioError(CHANGED)

    def _now(self) -> tuple[int, int, int]:
        about = os.fstat(self.descriptor)
        return about.st_size, about.st_mtime_ns, about.st_ctime_ns

    def close(self) -> None:
        """Closes the file."""
        self.sound.close()
        os.close(self.descriptor)


def _open(path: str) -> tuple[int, int]:
    """Opens a regular file; a FIFO would hang for ever, and libsndfile would report any fault as "System error"."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except ValueError:
        raise AudioError("the name of the file holds a NUL character") from None
    except OSError as error:
        raise AudioError(_REASONS.get(error.errno or 0) or f"cannot be opened: {error.strerror}") from None
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size:
        return descriptor, status.st_size
    os.close(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise AudioError("is a folder")
    raise AudioError("empty file" if stat.S_ISREG(status.st_mode) else "is not a regular file")


def _sound(descriptor: int) -> Any:
    try:
        # by descriptor: soundfile cannot encode a name that is not UTF-8
        return _Sequential(descriptor, closefd=False)
    except soundfile.LibsndfileError as error:
        text = error.error_string.rstrip(".")
        if "Format not recognised" in text:
            raise AudioError(f"not audio that can be read ({_READ})") from None
        if "SF_INFO struct incomplete" in text:
            raise AudioError("the header has an impossible sample rate or number of channels") from None
        raise unreadable(error) from None


def _check(sound: Any, descriptor: int, size: int, limits: Limits) -> None:
    if sound.format not in FORMATS:
        raise AudioError(f"is {shown(sound.format_info)}; {_READ} are read")
    if not RATES[0] <= sound.samplerate <= RATES[1]:
        raise AudioError(f"sample rate {sound.samplerate} Hz is not within {RATES[0]} to {RATES[1]} Hz")
    if sound.channels > MAX_CHANNELS:
        raise AudioError(f"{sound.channels} channels are more than {MAX_CHANNELS}")
    if sound.frames <= 0:
        raise AudioError("0 samples")
    if sound.frames > size * MAX_FRAMES_PER_BYTE:
        raise AudioError(f"the header claims {sound.frames} samples in {size} bytes")
    if sound.frames > limits.max_seconds * sound.samplerate:
        raise AudioError(
            f"{sound.frames / sound.samplerate:.6g} s are more than {limits.max_seconds:g} s; --max-seconds allows more"
        )
    if not limits.allow_truncated:
        try:
            missing = truncation(descriptor, size, sound.format, sound.frames, sound.extra_info)
        except OSError as error:
            raise AudioError(f"cannot be read: {error.strerror}") from None
        if missing:
            raise truncated(missing)


def truncated(missing: str) -> AudioError:
    """Returns the error for a file that ends before its header says.

    Args:
        missing: What is there and what should be.
    """
    return AudioError(f"truncated: {missing}; --allow-truncated uses what is there")


def unreadable(error: Exception) -> AudioError:
    """Returns the error for a file that libsndfile or soxr could not decode."""
    text = getattr(error, "error_string", None) or str(error)
    return AudioError(f"cannot be decoded: {shown(text.strip().rstrip('.'))}")
