"""Conditions that change a recording, such as added noise, another gain or a codec.

A condition is written ``kind:value``, e.g. ``noise:20``. It is applied to the mono waveform after resampling, before
that is cut or padded to a window. The same clip under the same condition gives the same samples on every run: random
numbers are drawn from a generator seeded with the SHA-256 of the clip's key and the condition.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gramcli.audio.find import audio_files
from gramcli.errors import NoInputError, UsageError
from gramcli.identity import file_digest
from gramcli.text import shown

Samples = npt.NDArray[np.float32]

FORMS = "noise:DB, gain:DB, lowpass:HZ, reverb:SECONDS, background:FOLDER:DB, codec:mp3-KBPS"

_MPEG_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MP3 = {  # kbit/s that there are, by the sample rates of MPEG-2.5, MPEG-2 and MPEG-1
    **dict.fromkeys((8000, 11025, 12000), _MPEG_2[:8]),
    **dict.fromkeys((16000, 22050, 24000), _MPEG_2),
    **dict.fromkeys((32000, 44100, 48000), (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)),
}

_TAIL_PER_DECAY = 1.0
"""Length of the reverberation tail, as a multiple of the decay time."""


@dataclass(frozen=True)
class Condition:
    """One condition."""

    kind: str
    value: float
    """dB of signal to noise, dB of gain, Hz, seconds of decay by 60 dB, or kbit/s."""
    folder: str = ""
    """Of background recordings."""
    contents: tuple[str, ...] = ()
    """SHA-256 of each background recording, in the order of their paths."""
    recordings: tuple[str, ...] = field(default=(), compare=False)
    """Paths of the background recordings, in order; their names are no part of the condition."""

    @property
    def text(self) -> str:
        """The condition as it is written; equal conditions have the same text."""
        if self.kind == "codec":
            return f"codec:mp3-{self.value:.12g}"
        return ":".join([self.kind, *([self.folder] if self.folder else []), f"{self.value:.12g}"])

    @property
    def name(self) -> str:
        """Name of the view's folder, e.g. noise-20, gain--20."""
        if self.kind == "codec":
            return f"codec-mp3-{self.value:.12g}"
        digest = hashlib.sha256("".join(self.contents).encode()).hexdigest()[:8] if self.folder else ""
        return "-".join([self.kind, *([digest] if digest else []), f"{self.value:.12g}"])

    @property
    def identity(self) -> str | list[object]:
        """What the samples depend on besides the clip, as a JSON value; paths of background recordings do not count."""
        return [self.kind, self.value, list(self.contents)] if self.folder else self.text

    def seed(self, key: str) -> np.random.Generator:
        """Returns the random generator for one clip."""
        digest = hashlib.sha256(f"{key} {self.identity}".encode()).digest()
        return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


class BackgroundSource(Protocol):
    """Gives background sound; see `gramcli.audio.background`."""

    def excerpt(self, key: str, length: int) -> npt.NDArray[np.float64]:
        """Returns `length` samples to mix with the clip of this key."""


def parse(text: str) -> Condition:
    """Reads a condition; the folder of background recordings is listed here, once, and each file hashed.

    Raises:
        UsageError: It is no condition.
        NoInputError: A folder of background recordings has none, or one of them cannot be read.
    """
    kind, _, rest = text.partition(":")
    folder, _, number = rest.rpartition(":") if kind == "background" else ("", "", rest)
    if kind == "codec":
        found = re.fullmatch(r"mp3-(\d+)", rest)
        number = found[1] if found else ""
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    limits = {
        "noise": (-100, 100),
        "gain": (-200, 100),
        "lowpass": (1, 1e6),
        "reverb": (1e-3, 20),
        "background": (-100, 100),
        "codec": (8, 320),
    }
    if kind not in limits or not limits[kind][0] <= value <= limits[kind][1] or (kind == "background" and not folder):
        raise UsageError(f"condition {shown(text)}: give one of {FORMS}")
    if kind == "codec":
        _require_kbps(value, {kbps for rates in _MP3.values() for kbps in rates}, "")
    if kind == "background":
        if not Path(folder).is_dir():
            raise NoInputError(f"condition background:{shown(folder)}: there is no such folder")
        recordings = tuple(sorted(audio_files([folder])))
        return Condition(kind, value, folder, tuple(map(_digest, recordings)), recordings)
    return Condition(kind, value)


def apply(
    condition: Condition, samples: Samples, rate: int, key: str, background: BackgroundSource | None = None
) -> Samples:
    """Returns the waveform as it would sound under the condition.

    noise and background are scaled so that the power of the clip's own samples is the stated number of dB above
    theirs; a silent clip has no such ratio and stays as it is. gain multiplies, without clipping. lowpass is a
    Butterworth filter of order 8, run forwards and backwards, so that nothing moves in time. reverb convolves with the
    direct sound and white noise that decays by 60 dB in the stated time, of the energy of the direct sound; what rings
    on after the end is cut. codec writes and reads MP3 at the stated rate and takes its delay out.

    Args:
        condition: The condition.
        samples: Mono.
        rate: Sample rate in Hz.
        key: Key of the clip, which seeds the random generator.
        background: Sound to mix in; needed by the condition background alone.

    Raises:
        NoInputError: A background recording cannot be decoded.
        UsageError: The low-pass is not below half the sample rate, or MP3 has no such rates.

    Shape:
        - samples: (T,)
        - returns: (T,) float32
    """
    if not len(samples):
        return samples
    wide = samples.astype(np.float64)
    if condition.kind == "noise":
        noise = condition.seed(key).standard_normal(len(wide))
        changed = wide + _scaled(noise, wide, condition.value)
    elif condition.kind == "gain":
        changed = wide * 10 ** (condition.value / 20)
    elif condition.kind == "lowpass":
        changed = _lowpass(wide, condition.value, rate)
    elif condition.kind == "reverb":
        changed = _reverb(wide, condition, rate, key)
    elif condition.kind == "background":
        if background is None:
            raise ValueError("the condition background needs its recordings")
        changed = wide + _scaled(background.excerpt(key, len(wide)), wide, condition.value)
    else:
        changed = _codec(samples, condition.value, rate)
    return np.asarray(changed, np.float32)


def _scaled(added: npt.NDArray[np.float64], signal: npt.NDArray[np.float64], ratio_db: float) -> npt.NDArray[Any]:
    power, own = np.mean(added**2), np.mean(signal**2)
    if not (power > 0 and own > 0):
        return np.zeros_like(added)
    return np.asarray(added * np.sqrt(own / power / 10 ** (ratio_db / 10)))


def _lowpass(samples: npt.NDArray[np.float64], cutoff: float, rate: int) -> npt.NDArray[Any]:
    from scipy.signal import butter, sosfiltfilt

    if cutoff >= rate / 2:
        raise UsageError(f"condition lowpass:{cutoff:g}: must be below half the sample rate, {rate / 2:g} Hz")
    sections = butter(8, cutoff, fs=rate, output="sos")
    pad = min(len(samples) - 1, 3 * (2 * len(sections) + 1))
    return np.asarray(sosfiltfilt(sections, samples, padlen=pad))


def _reverb(samples: npt.NDArray[np.float64], condition: Condition, rate: int, key: str) -> npt.NDArray[Any]:
    from scipy.signal import fftconvolve

    length = max(2, round(_TAIL_PER_DECAY * condition.value * rate))
    time = np.arange(length) / (condition.value * rate)
    tail = condition.seed(key).standard_normal(length) * 10 ** (-3 * time)
    response = tail / np.sqrt(np.sum(tail**2))
    response[0] = 1.0
    return np.asarray(fftconvolve(samples, response)[: len(samples)])


def _digest(path: str) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise NoInputError(f"{shown(path)}: background recording cannot be read: {error.strerror}") from None


def _codec(samples: Samples, kbps: float, rate: int) -> npt.NDArray[Any]:
    import soundfile

    peak = max(1.0, float(np.abs(samples).max()))  # MP3 clips at full scale
    level = _level(kbps, rate)
    coded = io.BytesIO()
    with soundfile.SoundFile(
        coded, "w", rate, 1, format="MP3", subtype="MPEG_LAYER_III", compression_level=level, bitrate_mode="CONSTANT"
    ) as file:
        file.write(samples / peak)
    coded.seek(0)
    decoded = soundfile.read(coded, dtype="float32")[0] * peak
    return _aligned(decoded.astype(np.float64), samples.astype(np.float64))


def _level(kbps: float, rate: int) -> float:
    """Returns libsndfile's compression level, 0 to 1, that gives this constant bit rate."""
    if rate not in _MP3:
        raise UsageError(f"condition codec:mp3-{kbps:g}: MP3 has no sample rate of {rate} Hz")
    _require_kbps(kbps, _MP3[rate], f" at {rate} Hz")
    lowest, highest = min(_MP3[rate]), max(_MP3[rate])
    return min((highest - kbps) / (highest - lowest), 0.999)  # at 1 libsndfile fails


def _require_kbps(kbps: float, there: Collection[int], where: str) -> None:
    """Refuses a bit rate that MP3 does not have, which the encoder would silently replace by the nearest one."""
    if kbps not in there:
        raise UsageError(
            f"condition codec:mp3-{kbps:g}: MP3{where} has {', '.join(map(str, sorted(there)))} kbit/s, and no other"
        )


def _aligned(decoded: npt.NDArray[Any], samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Removes the delay that the codec added, found by cross-correlation, and keeps the length."""
    from scipy.signal import correlate

    reach = min(4096, len(samples))
    agreement = correlate(decoded[: 1 << 17], samples[: 1 << 17], mode="full", method="fft")
    zero = min(len(samples), 1 << 17) - 1
    window = agreement[zero : zero + reach]
    delay = int(np.argmax(window)) if len(window) and np.any(samples) else 0
    moved = decoded[delay : delay + len(samples)]
    return np.pad(moved, (0, len(samples) - len(moved)))
