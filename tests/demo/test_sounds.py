from __future__ import annotations

import csv
import hashlib
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gramcli.demo import sounds, waveforms
from gramcli.errors import DamagedError


def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sounds, "SOURCES", {"train": 1, "test": 1})
    monkeypatch.setattr(sounds, "CLIPS", 2)


def _digests(folder: Path) -> dict[str, str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _spectrum(samples: np.ndarray) -> np.ndarray:
    """Returns the shape of the spectrum in 24 bands of a third of an octave, whatever length and level."""
    power = np.abs(np.fft.rfft(samples, 2 * waveforms.RATE)) ** 2
    edges = 2 * np.geomspace(31.25, 8000, 25).astype(int)  # two bins a hertz
    bands = np.log([power[low:high].sum() + 1e-9 for low, high in pairwise(edges)])
    return bands - bands.mean()


def test_the_manifest_lists_every_file_and_no_source_is_in_two_splits(tmp_path: Path) -> None:
    manifest = sounds.write(tmp_path / "new" / "sounds")
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "label", "split", "source"]
    assert {row["file"] for row in rows} == _digests(manifest.parent).keys() - {"manifest.csv"}
    assert {row["label"] for row in rows} == set(sounds.CLASSES)
    assert len({(row["source"], row["split"]) for row in rows}) == len({row["source"] for row in rows})
    assert len({(row["source"], row["label"]) for row in rows}) == len({row["source"] for row in rows})
    assert set(Counter(row["source"] for row in rows).values()) == {sounds.CLIPS}
    clips = Counter((row["label"], row["split"]) for row in rows)
    assert clips == {
        (label, split): count * sounds.CLIPS for label in sounds.CLASSES for split, count in sounds.SOURCES.items()
    }
    assert len(set(_digests(manifest.parent).values())) == len(rows) + 1, "two clips are the same"


def test_files_are_short_mono_wav_that_neither_clip_nor_vanish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _few(monkeypatch)
    lengths, levels = set(), []
    for path in sounds.write(tmp_path).parent.rglob("*.wav"):
        about = soundfile.info(path)
        assert (about.format, about.subtype, about.samplerate, about.channels) == ("WAV", "PCM_16", 16_000, 1)
        assert sounds.LONGEST / 2 <= about.duration <= sounds.LONGEST
        peak = np.abs(soundfile.read(path)[0]).max()
        assert 0.03 < peak < 0.99
        lengths.add(about.frames)
        levels.append(peak)
    assert len(lengths) > 20
    assert max(levels) / min(levels) > 4


def test_a_seed_decides_every_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _few(monkeypatch)
    first, again, other = (
        _digests(sounds.write(tmp_path / name, seed).parent) for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert first == again
    assert first.keys() == other.keys()
    assert [name for name in first if first[name] == other[name]] == ["manifest.csv"]


@pytest.mark.parametrize("label", sounds.CLASSES)
def test_clips_of_one_source_are_more_alike_than_clips_of_two(label: str) -> None:
    shapes = np.array([[_spectrum(sounds.synthesise(label, n, clip)) for clip in range(3)] for n in range(6)])
    within = np.mean([np.abs(one[a] - one[b]).mean() for one in shapes for a, b in ((0, 1), (0, 2), (1, 2))])
    between = np.mean([np.abs(shapes[a, 0] - shapes[b, 1]).mean() for a in range(6) for b in range(6) if a != b])
    assert within < 0.4 * between


@pytest.mark.parametrize(("steady", "broken"), [("rain", "knocking"), ("engine", "clock"), ("siren", "dripping")])
def test_strokes_have_silences_and_steady_sounds_have_none(steady: str, broken: str) -> None:
    def unrest(label: str) -> float:
        def one(number: int) -> float:
            samples = sounds.synthesise(label, number, 0)
            frames = samples[: len(samples) // 320 * 320].reshape(-1, 320)
            power = (frames**2).mean(axis=1)
            return float(power.max() / np.median(power))

        return float(np.median([one(number) for number in range(8)]))

    assert unrest(broken) > 2 * unrest(steady)


def test_a_folder_that_is_a_file_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "alarm").touch()
    with pytest.raises(DamagedError, match="a file stands in its place"):
        sounds.write(tmp_path)
