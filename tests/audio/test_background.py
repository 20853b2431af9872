"""Background recordings: decoded in child processes, each once, to the same bits as ever."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from gramcli.audio import background, condition, find
from gramcli.audio.background import Backgrounds
from gramcli.audio.condition import apply, parse
from gramcli.audio.decoder_pool import Decoders
from gramcli.audio.reader import Reader
from gramcli.errors import NoInputError

RATE = 8000


@pytest.fixture
def street(tmp_path):
    rng = np.random.default_rng(1)
    for n, (seconds, rate) in enumerate(((0.4, 8000), (3.0, 11025), (0.1, 8000))):
        samples = rng.normal(size=(int(seconds * rate), 2)) * 0.1
        soundfile.write(tmp_path / f"{n}.wav", samples, rate, subtype="FLOAT")
    return tmp_path


@pytest.fixture
def decoders():
    with Decoders(2) as decoders:
        yield decoders


class Counted:
    """Decoders that note which files are asked for."""

    def __init__(self, decoders):
        self.paths, self._decoders = [], decoders

    def decode(self, requests):
        requests = list(requests)
        self.paths += [request.path for request in requests]
        return self._decoders.decode(requests)


def in_this_process(about, length, key):
    """The piece as it was made before decoding moved into child processes."""
    rng = about.seed(key)
    paths = sorted(find.audio_files([about.folder]))
    with Reader(paths[int(rng.integers(len(paths)))], RATE, "mix") as reader:
        piece = reader.read(None).astype(np.float64)
    return np.resize(np.roll(piece, -int(rng.integers(len(piece)))), length)


@pytest.mark.parametrize("length", [1, 700, 8000, 40_000])
def test_pieces_are_the_same_to_the_bit(street, decoders, length):
    about = parse(f"background:{street}:10")
    sounds = Backgrounds(about, decoders, RATE)
    for n in range(12):
        np.testing.assert_array_equal(sounds.excerpt(f"clip {n}", length), in_this_process(about, length, f"clip {n}"))


def test_the_folder_is_listed_once_and_each_recording_decoded_once(street, decoders, monkeypatch):
    listed, counted = [], Counted(decoders)

    def listing(folders):
        listed.extend(folders)
        return find.audio_files(folders)

    monkeypatch.setattr(condition, "audio_files", listing)
    about = parse(f"background:{street}:10")
    sounds = Backgrounds(about, counted, RATE)
    clip = np.ones(500, np.float32)
    for n in range(30):
        apply(about, clip, RATE, f"clip {n}", sounds)
    assert listed == [str(street)]
    assert sorted(counted.paths) == [str(street / f"{n}.wav") for n in range(3)]


def test_memory_is_bounded(street, decoders):
    about, counted = parse(f"background:{street}:10"), Counted(decoders)
    sounds = Backgrounds(about, counted, RATE, cache_bytes=1)
    for n in range(12):
        np.testing.assert_array_equal(sounds.excerpt(f"clip {n}", 99), in_this_process(about, 99, f"clip {n}"))
        assert len(sounds._kept) == 1
    assert background.CACHE_BYTES >= 1 << 28


def test_a_recording_that_cannot_be_decoded_is_named(street, decoders):
    for path in street.glob("*.wav"):
        path.write_bytes(b"RIFF" + bytes(100))
    sounds = Backgrounds(parse(f"background:{street}:10"), decoders, RATE)
    with pytest.raises(NoInputError, match=rf"^{street}/\d\.wav: background recording cannot be decoded: .*; rem"):
        sounds.excerpt("clip", 10)


def test_a_recording_that_cannot_be_read_is_named(street):
    (street / "3.wav").symlink_to(street / "gone.wav")
    with pytest.raises(NoInputError, match=r"3\.wav: background recording cannot be read: No such file"):
        parse(f"background:{street}:10")
