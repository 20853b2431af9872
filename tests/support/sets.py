"""Writes small labelled sets of sounds with their manifests, and gives settings that extract them fast."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from gramcli.settings.schema import Settings

ROOT = Path(__file__).parents[2]
RATE = 8000
SECONDS = 0.25
CLASSES = ("hum", "hiss", "click")
SPLIT_OF_SOURCE = ("train", "train", "validation", "test")


@dataclass(frozen=True)
class Line:
    """One line of a manifest."""

    file: str
    label: str
    split: str
    source: str


def sound(label: str, rng: np.random.Generator, seconds: float = SECONDS) -> np.ndarray:
    """Returns a sound of a class, no two alike."""
    n = round(seconds * RATE)
    time = np.arange(n) / RATE
    noise = rng.normal(size=n)
    if label == "hum":
        wave = np.sin(2 * np.pi * rng.uniform(150, 400) * time) + 0.1 * noise
    elif label == "hiss":
        wave = np.diff(noise, prepend=0.0) * rng.uniform(0.5, 1.0)
    else:
        wave = np.where(rng.random(n) < 0.01, 5.0, 0.05) * noise
    return (0.1 * rng.uniform(0.5, 1.0) * wave).astype(np.float32)


def write_set(folder: Path, clips: int = 3, seed: int = 0, classes: tuple[str, ...] = CLASSES) -> Path:
    """Writes 4 sources a class, `clips` clips each, and a manifest with given splits; returns the manifest."""
    rng = np.random.default_rng(seed)
    lines = []
    for label in classes:
        for source, split in enumerate(SPLIT_OF_SOURCE):
            for clip in range(clips):
                line = Line(f"{label}-{source}-{clip}.wav", label, split, f"{label}{source}")
                write_wav(folder / line.file, sound(label, rng))
                lines.append(line)
    return write_manifest(folder / "manifest.csv", lines)


def write_sources(folder: Path, sources: int = 20, seed: int = 0, tests: int = 3) -> Path:
    """Writes a set of one clip a source and many validation sources, which can set a threshold; returns the manifest.

    Each class has `sources` sources for training and as many for validation, and `tests` for test.
    """
    rng = np.random.default_rng(seed)
    lines = []
    for split, count in (("train", sources), ("validation", sources), ("test", tests)):
        for label in CLASSES:
            for source in range(count):
                line = Line(f"{label}-{split}-{source}.wav", label, split, f"{label} {split} {source}")
                write_wav(folder / line.file, sound(label, rng))
                lines.append(line)
    return write_manifest(folder / "manifest.csv", lines)


def write_site(folder: Path, files: int, seed: int = 1, seconds: float = SECONDS) -> Path:
    """Writes new recordings of the classes in turn, without labels; returns the folder."""
    rng = np.random.default_rng(seed)
    for n in range(files):
        write_wav(folder / f"{n:03}.wav", sound(CLASSES[n % len(CLASSES)], rng, seconds))
    return folder


def write_strange(folder: Path, files: int, seed: int = 2, seconds: float = SECONDS) -> Path:
    """Writes recordings that are like none of the classes: a chord, chopped on and off; see `write_site`."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    for n in range(files):
        chord = sum(np.sign(np.sin(2 * np.pi * pitch * time)) for pitch in rng.uniform(900, 3800, 4))
        chopped = chord * (np.sin(2 * np.pi * rng.uniform(20, 40) * time) > 0)
        write_wav(folder / f"{n:03}.wav", (0.2 * chopped).astype(np.float32))
    return folder


def write_wav(path: Path, samples: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE, subtype="FLOAT", format="WAV")
    return path


def write_manifest(path: Path, lines: list[Line]) -> Path:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "label", "split", "source"])
        table.writerows([line.file, line.label, line.split, line.source] for line in lines)
    return path


def read_manifest(path: Path) -> list[Line]:
    with path.open(newline="") as file:
        return [Line(**row) for row in csv.DictReader(file)]


def quick(manifest: Path, cache: Path, network: str = "tests.support.toys:ResNet", **run: object) -> Settings:
    """Settings for a toy network on 0.25 s at 8 kHz, on the processor, where results are the same to the bit."""
    base = Settings()
    return replace(
        base,
        data=replace(base.data, manifest=str(manifest)),
        segment=replace(base.segment, seconds=SECONDS),
        frontend=replace(base.frontend, sample_rate=RATE, n_fft=256, window_ms=32.0, hop_ms=16.0, n_mels=16),
        network=replace(base.network, name=network, classes=tuple(sorted(CLASSES))),
        run=replace(base.run, decoders=1, **{"device": "cpu", "batch": 8, **run}),
        cache=replace(base.cache, dir=str(cache), clips_per_shard=5),
    )


def headless(chosen: Settings) -> Settings:
    """The same without a meaning of the outputs: classes are the manifest's."""
    network = replace(chosen.network, head="none", classes=(), args={"num_classes": 4})
    return replace(chosen, network=network)
