"""Folders in which the pages' console blocks run."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from gramcli.demo import WEIGHTS, sounds, waveforms
from tests.guide.terminal import terminal
from tests.support.sets import sound, write_wav

SMALL = {
    "GRAMCLI_SEGMENT_SECONDS": "0.25",
    "GRAMCLI_FRONTEND_SAMPLE_RATE": "8000",
    "GRAMCLI_FRONTEND_N_FFT": "256",
    "GRAMCLI_FRONTEND_WINDOW_MS": "32",
    "GRAMCLI_FRONTEND_HOP_MS": "16",
    "GRAMCLI_FRONTEND_N_MELS": "32",
    "GRAMCLI_TRAIN_EPOCHS": "1",
    "GRAMCLI_RUN_DECODERS": "1",
}
"""Settings that make quick work of training; the commands stay as they are."""


@dataclass
class Folders:
    """Makes the folders, each prepared at most once and copied for each page.

    Args:
        root: Folder to work in.
    """

    root: Path
    _ready: dict[str, Path] = field(default_factory=dict)
    _copies: int = 0

    def __post_init__(self) -> None:
        self._makers: Mapping[str, Callable[[Path], None]] = {
            "empty": lambda folder: None,
            "sounds": _sounds,
            "demo": _demo,
            "scenes": _scenes,
            "folds": _folds,
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Names that a mark may give."""
        return tuple(self._makers)

    def copy(self, name: str) -> Path:
        """Returns a new copy of a folder."""
        if name not in self._ready:
            folder = self.root / "ready" / name
            folder.mkdir(parents=True)
            self._makers[name](folder)
            self._ready[name] = folder
        self._copies += 1
        copy = self.root / f"{name}-{self._copies}"
        shutil.copytree(self._ready[name], copy, symlinks=True)
        return copy


@contextmanager
def environment(name: str) -> Iterator[None]:
    """Sets the environment in which the commands of a folder run."""
    values = SMALL if name in ("scenes", "folds") else {}
    os.environ.update(values)
    try:
        yield
    finally:
        for variable in values:
            del os.environ[variable]


def quietly(folder: Path, *commands: str) -> None:
    """Runs commands in a folder, which must succeed."""
    for command in commands:
        code, lines = terminal(command.split(), folder)
        if code:
            raise RuntimeError(f"gramcli {command}: exit {code}\n" + "\n".join(lines))


def _sounds(folder: Path) -> None:
    """The sounds and the network of the demo."""
    sounds.write(folder / "sounds")
    shutil.copy(WEIGHTS, folder / WEIGHTS.name)


def _demo(folder: Path) -> None:
    """The folder that the demo leaves, and recordings of the same classes from another place, 12 dB quieter."""
    _sounds(folder)
    (folder / "new-place").mkdir()
    for number in range(30):
        label = list(sounds.CLASSES)[number % 10]
        samples = 0.25 * sounds.synthesise(label, number, 0, seed=9)
        soundfile.write(folder / "new-place" / f"{number:02}.wav", samples, waveforms.RATE)
    quietly(folder, f"extract sounds/manifest.csv --weights {WEIGHTS.name}", "calibrate", "select-layers")


def _scenes(folder: Path) -> None:
    """A miniature of a DCASE folder of acoustic scenes."""
    rng = np.random.default_rng(5)
    root = folder / "TAU-urban-acoustic-scenes-2020-3class-development"
    (root / "evaluation_setup").mkdir(parents=True)
    rows = []
    for scene, kind in (("indoor", "hum"), ("outdoor", "hiss"), ("transportation", "click")):
        for city in ("lisbon", "lyon", "paris", "vienna"):
            for place in range(2):
                for segment in range(2):
                    name = f"audio/{scene}-{city}-{place}-{segment}-a.wav"
                    write_wav(root / name, sound(kind, rng))
                    rows.append([name, scene, f"{city}-{place}", "a"])

    def write(name: str, header: list[str], lines: list[list[str]]) -> None:
        with (root / name).open("w", newline="") as file:
            csv.writer(file, delimiter="\t").writerows([header, *lines])

    write("meta.csv", ["filename", "scene_label", "identifier", "source_label"], rows)
    for split, held in (("train", False), ("evaluate", True)):
        lines = [row[:2] for row in rows if ("paris" in row[0]) == held]
        write(f"evaluation_setup/fold1_{split}.csv", ["filename", "scene_label"], lines)


def _folds(folder: Path) -> None:
    """A miniature of ESC-10 in three folds, and the checkpoints of all folds but the first."""
    rng = np.random.default_rng(6)
    rows = []
    for label in ("dog", "rain"):
        for fold in "123":
            for source in range(4):
                name = f"{fold}-{label}-{source}.wav"
                write_wav(folder / "esc10" / "audio" / name, sound("hum" if label == "dog" else "hiss", rng))
                rows.append([name, fold, label, f"{label}{fold}{source}"])
    with (folder / "esc10" / "meta.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["filename", "fold", "category", "source"], *rows])
    with environment("folds"):
        for fold, validation in ((2, 3), (3, 1)):
            quietly(
                folder,
                f"train esc10/meta.csv --network resnet18 --test-fold {fold} --validation-fold {validation} "
                f"--out resnet18-{fold}.safetensors",
            )
