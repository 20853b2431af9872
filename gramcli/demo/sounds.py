"""The demo's sounds: ten synthetic classes, each of several sources, each source recorded several times.

A *source* is one siren, one clock, one rainy roof: its pitch, timbre, room, microphone and background stay the same.
Its clips differ in length, level, timing and every noise. Splits are by source, so the sounds of the test split are
of sources that are not in the training split.

Each class is one function ``(source, clip, samples) -> (samples,)`` of two random generators. `source` starts in the
same state for all clips of a source, `clip` in another state for each clip. What makes a source is drawn from `source`,
always the same number of draws in the same order; what happens in one recording is drawn from `clip`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import soundfile

from gramcli.demo import waveforms
from gramcli.demo.waveforms import RATE, Random, Samples
from gramcli.system import durable_files

LONGEST = 2.0
"""Length of the longest clip, in seconds; the shortest has half of it."""
SOURCES: Mapping[str, int] = {"train": 8, "validation": 4, "test": 4}
"""Sources of each class in each split."""
CLIPS = 3
"""Clips of each source."""


def write(folder: Path, seed: int = 0) -> Path:
    """Writes the sounds as 16-bit WAV files, one folder per class, and the manifest that lists them.

    Args:
        folder: Folder to write them into; it is made if it does not exist.
        seed: The same seed gives the same sounds.

    Returns:
        Path of ``manifest.csv`` with the columns ``file,label,split,source``. It is written last, so if it is there,
        all sounds are.

    Raises:
        ResourceError: Something cannot be written.
    """
    for label in CLASSES:
        durable_files.make_folder(folder / label, below=folder)
        for number in range(sum(SOURCES.values())):
            for clip in range(CLIPS):
                content = io.BytesIO()
                soundfile.write(content, synthesise(label, number, clip, seed), RATE, subtype="PCM_16", format="WAV")
                durable_files.write(folder / _file(label, number, clip), content.getvalue(), below=folder)
    path = folder / "manifest.csv"
    durable_files.write(path, manifest(), below=folder)
    return path


def manifest() -> bytes:
    """Returns the content of the manifest, which is the same for every seed."""
    rows = ["file,label,split,source"]
    splits = [split for split, count in SOURCES.items() for _ in range(count)]
    for label in CLASSES:
        for number, split in enumerate(splits):
            rows += [f"{_file(label, number, clip)},{label},{split},{label}-{number:02}" for clip in range(CLIPS)]
    return ("\n".join(rows) + "\n").encode()


def _file(label: str, number: int, clip: int) -> str:
    return f"{label}/{number:02}-{clip}.wav"


def synthesise(label: str, number: int, clip: int, seed: int = 0) -> Samples:
    """Returns one clip of one source.

    Args:
        label: One of `CLASSES`.
        number: Which source of this class, from 0.
        clip: Which clip of this source, from 0.
        seed: Seed of the whole set.

    Shape:
        (samples,) at `RATE`, 1 to 2 s long, within ±1.
    """
    identity = [seed, list(CLASSES).index(label), number]
    # SeedSequence takes [a, b, c] and [a, b, c, 0] for the same, hence the 1 and 2.
    room, source = (np.random.default_rng([*identity, 1, which]) for which in range(2))
    take = np.random.default_rng([*identity, 2, clip])
    # Whole hundredths of a second: a prime number of samples would make every Fourier transform ten times slower.
    samples = round(take.uniform(LONGEST / 2, LONGEST) * 100) * RATE // 100
    dry = CLASSES[label](source, take, samples)
    return _recorded(dry / np.abs(dry).max(), room, take)


def _recorded(dry: Samples, source: Random, clip: Random) -> Samples:
    """Puts a sound into the room, before the background and the microphone of its source."""
    decay, wet, slope, noise, tilt, level = waveforms.draw(
        source, (0.05, 0.5), (0.0, 0.5), (-1.5, 0.0), (-35.0, -10.0), (-0.5, 0.5), (-24.0, -6.0)
    )
    tail = source.standard_normal(round(decay * RATE)) * waveforms.decay(round(decay * RATE), decay / 5)
    size = round(LONGEST * RATE) * 5 // 4  # with room for the longest tail, so that none comes round to the start
    echo = np.fft.irfft(np.fft.rfft(dry, size) * np.fft.rfft(tail, size), size)[: len(dry)]
    sound = (1 - wet) * dry / waveforms.rms(dry) + wet * echo / waveforms.rms(echo)
    sound += waveforms.gain(noise) * waveforms.noise(clip, len(dry), slope)
    sound = np.fft.irfft(np.fft.rfft(sound) * waveforms.spectral_gain(len(dry), tilt), len(dry))
    return np.asarray(sound / np.abs(sound).max() * waveforms.gain(level + clip.uniform(-4, 4)))


def _alarm(source: Random, clip: Random, samples: int) -> Samples:
    """An electronic alarm: beeps of one pitch or two in turn, on and off at a steady rate."""
    pitch, period, duty = waveforms.draw(source, (700, 2600), (0.15, 0.5), (0.4, 0.7))
    interval = source.choice([1.0, 1.0, 1.25, 1.5])
    harmonics = source.uniform(0.0, 0.8, 6) ** np.arange(6)
    beat, phase = np.divmod(np.arange(samples) / RATE / period + clip.uniform(), 1)
    frequency = pitch * np.where(beat % 2, interval, 1.0)
    edge = 0.005 / period
    return waveforms.tone(frequency, harmonics) * np.clip(np.minimum(phase, duty - phase) / edge, 0, 1)


def _bird(source: Random, clip: Random, samples: int) -> Samples:
    """A bird: phrases of short chirps, each a fast sweep."""
    pitch, sweep, length, gap = waveforms.draw(source, (2200, 5500), (-0.5, 0.5), (0.03, 0.12), (1.3, 2.2))
    number = source.integers(2, 7)
    overtone = np.array([1.0, source.uniform(0, 0.3)])
    sound = np.zeros(samples)
    second = clip.uniform(0, 0.25)
    while second < samples / RATE:
        for _ in range(number + clip.integers(-1, 2)):
            size = round(length * clip.uniform(0.85, 1.15) * RATE)
            course = np.linspace(-0.5, 0.5, size)
            chirp = waveforms.tone(pitch * clip.uniform(0.95, 1.05) * 2 ** (sweep * course * 2), overtone)
            waveforms.add(sound, chirp * np.hanning(size) * clip.uniform(0.6, 1), second)
            second += length * gap
        second += clip.uniform(0.2, 0.6)
    return sound


def _clock(source: Random, clip: Random, samples: int) -> Samples:
    """A clock: two short bright clicks in turn, as regular as can be."""
    period = source.uniform(0.2, 0.55)
    ticks = [_knock(source, 3, (1200, 6500), (0.002, 0.012)) * source.uniform(0.5, 1) for _ in range(2)]
    sound = np.zeros(samples)
    first = clip.uniform(0, period)
    for beat, second in enumerate(np.arange(first, samples / RATE, period)):
        waveforms.add(sound, ticks[beat % 2] * clip.uniform(0.8, 1), second)
    return sound


def _dripping(source: Random, clip: Random, samples: int) -> Samples:
    """A tap: drops at uneven times, each a bubble whose pitch rises as it dies."""
    pitch, rise, length, pause = waveforms.draw(source, (500, 2600), (1.1, 1.9), (0.015, 0.06), (0.12, 0.45))
    splash = source.uniform(0, 0.3)
    sound = np.zeros(samples)
    second = clip.uniform(0, 0.2)
    while second < samples / RATE:
        size = round(length * 5 * RATE)
        own = pitch * clip.uniform(0.8, 1.25)
        drop = waveforms.tone(own * rise ** np.linspace(0, 1, size), np.ones(1)) * waveforms.decay(size, length)
        drop += splash * clip.standard_normal(size) * waveforms.decay(size, 0.004)
        waveforms.add(sound, drop * clip.uniform(0.4, 1), second)
        second += pause * clip.uniform(0.4, 1.6)
    return sound


def _engine(source: Random, clip: Random, samples: int) -> Samples:
    """An engine: many harmonics of a low, slightly uneven speed, and noise in its rhythm."""
    speed, fall, rough, wander = waveforms.draw(source, (25, 110), (0.6, 1.4), (0.1, 0.7), (0.02, 0.15))
    harmonics = np.arange(1.0, 25) ** -fall * source.uniform(0.2, 1, 24)
    frequency = speed * (1 + wander * (waveforms.random_curve(clip, samples, 2) - 0.5)) * clip.uniform(0.9, 1.1)
    sound = waveforms.tone(frequency, harmonics)
    rhythm = 1 + np.cos(2 * np.pi * np.cumsum(frequency) / RATE)
    return sound / waveforms.rms(sound) + rough * rhythm * waveforms.noise(clip, samples, -0.5)


def _knocking(source: Random, clip: Random, samples: int) -> Samples:
    """Knuckles on wood: groups of a few low, dull knocks."""
    step = source.uniform(0.11, 0.3)
    number = source.integers(2, 6)
    knock = _knock(source, 4, (120, 1300), (0.008, 0.045))
    sound = np.zeros(samples)
    second = clip.uniform(0, 0.25)
    while second < samples / RATE:
        for _ in range(number):
            waveforms.add(sound, knock * clip.uniform(0.5, 1), second)
            second += step * clip.uniform(0.85, 1.15)
        second += clip.uniform(0.25, 0.6)
    return sound


def _knock(source: Random, modes: int, pitch: tuple[float, float], length: tuple[float, float]) -> Samples:
    """Returns one stroke: `modes` resonances of random pitch (Hz) that die within random lengths (s)."""
    size = round(6 * length[1] * RATE)
    stroke = np.zeros(size)
    for frequency, seconds in zip(source.uniform(*pitch, modes), source.uniform(*length, modes), strict=True):
        stroke += waveforms.tone(np.full(size, frequency), np.ones(1)) * waveforms.decay(size, seconds)
    return stroke


def _rain(source: Random, clip: Random, samples: int) -> Samples:
    """Rain: a steady hiss, and many single drops on what lies beneath."""
    slope, rate, drops, pitch = waveforms.draw(source, (-0.3, 0.5), (30, 300), (0.2, 1.5), (1500, 6000))
    sound = np.zeros(samples)
    grain = waveforms.band(source, 160, pitch, 0.7) * waveforms.decay(160, 0.002)
    for second in clip.uniform(0, samples / RATE, round(rate * samples / RATE)):
        waveforms.add(sound, grain * clip.exponential(), second)
    return drops * sound / waveforms.rms(sound) + waveforms.noise(clip, samples, slope)


def _siren(source: Random, clip: Random, samples: int) -> Samples:
    """A siren: a full tone that wails up and down without a break."""
    low, span, rate, skew = waveforms.draw(source, (350, 1000), (0.6, 1.3), (0.4, 3.5), (0.25, 0.75))
    harmonics = np.arange(1.0, 9) ** -source.uniform(0.7, 2.2)
    phase = (np.arange(samples) / RATE * rate + clip.uniform()) % 1
    course = np.minimum(phase / skew, (1 - phase) / (1 - skew))
    return waveforms.tone(low * 2 ** (span * course), harmonics)


def _whistle(source: Random, clip: Random, samples: int) -> Samples:
    """Someone whistling: a nearly pure tone that slides from note to note, with a little breath."""
    pitch, speed, vibrato, breath = waveforms.draw(source, (700, 2200), (2, 6), (0.0, 0.025), (0.02, 0.25))
    time = np.arange(samples) / RATE
    notes = clip.integers(-5, 8, 2 + round(speed * samples / RATE))
    phase = time * speed
    slide = np.clip((phase % 1) / 0.3, 0, 1)
    note = notes[phase.astype(int)] * (1 - slide) + notes[phase.astype(int) + 1] * slide
    frequency = pitch * 2 ** (note / 12) * (1 + vibrato * np.sin(2 * np.pi * 5.5 * time))
    tongue = 1 - 0.8 * np.exp(-(((phase % 1) - 0.02) ** 2) / 0.001)
    sound = waveforms.tone(frequency, np.array([1.0, 0.05])) * tongue
    ends = np.clip(np.minimum(time, time[::-1]) / 0.05, 0, 1)
    return (sound + breath * waveforms.band(clip, samples, pitch * 1.3, 0.6)) * ends


def _wind(source: Random, clip: Random, samples: int) -> Samples:
    """Wind: gusts of low noise with a band that howls up and down."""
    slope, pitch, howl, gusts = waveforms.draw(source, (-1.4, -0.7), (250, 900), (0.2, 1.2), (1.5, 4))
    strength = waveforms.random_curve(clip, samples, gusts)
    low, high = (waveforms.band(clip, samples, pitch * factor, 0.25) for factor in (0.8, 1.4))
    band = low * (1 - strength) + high * strength
    return (0.15 + strength**1.5) * (waveforms.noise(clip, samples, slope) + howl * band)


CLASSES: Mapping[str, Callable[[Random, Random, int], Samples]] = {
    "alarm": _alarm,
    "bird": _bird,
    "clock": _clock,
    "dripping": _dripping,
    "engine": _engine,
    "knocking": _knocking,
    "rain": _rain,
    "siren": _siren,
    "whistle": _whistle,
    "wind": _wind,
}
"""The synthesiser of each class by label, in the order of the network's outputs."""
