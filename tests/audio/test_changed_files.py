"""A file that is not, or no longer, the one that was hashed is no clip; one that was only touched is."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gramcli.audio.decoder_pool import Decoders
from gramcli.audio.limits import Limits
from gramcli.audio.reader import Reader, probe
from gramcli.audio.requests import HashedFile, Request
from gramcli.errors import AudioError
from tests.support.sounds import noise, write

CHANGED = "changed while it was read"


def state(path: str) -> HashedFile:
    about = probe(path)
    return HashedFile(about.digest, about.bytes, about.mtime_ns)


def replaced(path: str, other: bytes) -> None:
    Path(f"{path}.new").write_bytes(other)
    Path(f"{path}.new").replace(path)


def replaced_in_disguise(path: str, other: bytes) -> None:
    """With the size and the times of the file that was there."""
    before = Path(path).stat()
    replaced(path, other)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def overwritten(path: str, other: bytes) -> None:
    Path(path).write_bytes(other)


@pytest.mark.parametrize("change", [replaced, replaced_in_disguise, overwritten])
def test_a_file_replaced_between_its_hashing_and_its_decoding(tmp_path: Path, change: Callable[..., None]) -> None:
    path = write(tmp_path / "x.wav", noise(1))
    other = Path(write(tmp_path / "other.wav", noise(1, seed=1))).read_bytes()
    with Decoders(1) as decoders:
        (about,) = decoders.probe([path])
        expected = HashedFile(about.digest, about.bytes, about.mtime_ns)
        change(path, other)
        found = list(decoders.decode([Request(path, ((0.0, 0.5), (0.5, 1.0)), 16000, "mix", expected)]))
        assert [one.error.partition(";")[0] for one in found] == [CHANGED, CHANGED]
        (anyone,) = decoders.decode([Request(path, (None,), 16000)])
        assert anyone.samples is not None


def touched(path: str) -> None:
    os.utime(path, (1, 1))


def copied(path: str) -> None:
    shutil.copy(path, f"{path}.new")
    Path(f"{path}.new").replace(path)


def linked(path: str) -> None:
    Path(f"{path}.link").hardlink_to(path)
    Path(path).chmod(0o400)


@pytest.mark.parametrize("change", [touched, copied, linked])
def test_a_file_of_the_same_content_is_decoded(tmp_path: Path, change: Callable[[str], None]) -> None:
    path = write(tmp_path / "x.wav", noise(1))
    with Decoders(1) as decoders:
        (about,) = decoders.probe([path])
        expected = HashedFile(about.digest, about.bytes, about.mtime_ns)
        change(path)
        (found,) = decoders.decode([Request(path, (None,), 16000, "mix", expected)])
        assert not found.error
    with Reader(path, 16000, "mix", expected=expected) as reader:
        first = reader.read((0.0, 0.5))
        os.utime(path, (2, 2))
        np.testing.assert_array_equal(np.concatenate([first, reader.read((0.5, 1.0))]), noise(1)[:, 0])


def test_a_file_whose_size_and_times_are_known_is_not_hashed_again(tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", noise(1))
    about = Path(path).stat()
    trusted = HashedFile("0" * 64, about.st_size, about.st_mtime_ns, since_ns=about.st_ctime_ns + 1)
    with Reader(path, 16000, "mix", expected=trusted) as reader:
        assert len(reader.read(None)) == 16000
    with pytest.raises(AudioError, match=CHANGED):
        Reader(path, 16000, "mix", expected=dataclasses.replace(trusted, since_ns=about.st_ctime_ns))
    with pytest.raises(AudioError, match=CHANGED):
        Reader(path, 16000, "mix", expected=dataclasses.replace(trusted, hash_again=True))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("truncated", [True, False])
def test_a_long_file_written_to_between_two_windows(tmp_path: Path, known: bool, truncated: bool) -> None:
    path = write(tmp_path / "x.wav", noise(20))
    expected = state(path) if known else None
    limits = Limits(allow_truncated=truncated)
    for change in (lambda: os.truncate(path, 70_000), lambda: overwritten(path, bytes(640_044))):
        write(tmp_path / "x.wav", noise(20))
        with Reader(path, 16000, "mix", limits=limits, expected=expected) as reader:
            assert len(reader.read((0.0, 1.0))) == 16000
            change()
            for start in (1.0, 12.0):
                with pytest.raises(AudioError, match=CHANGED):
                    reader.read((start, start + 1))


def test_a_long_file_replaced_between_two_windows(tmp_path: Path) -> None:
    """The open file is still the one that was hashed; the new one is not taken for it."""
    path, sound = write(tmp_path / "x.wav", noise(4)), noise(4)
    other = Path(write(tmp_path / "other.wav", noise(4, seed=1))).read_bytes()
    expected = state(path)
    with Reader(path, 16000, "mix", expected=expected) as reader:
        reader.read((0.0, 1.0))
        replaced(path, other)
        np.testing.assert_array_equal(reader.read((1.0, 2.0)), sound[16000:32000, 0])
    with pytest.raises(AudioError, match=CHANGED):
        Reader(path, 16000, "mix", expected=expected)


def test_a_file_that_grows_while_it_is_hashed(tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", noise(60))

    def grow() -> None:
        with Path(path).open("ab") as file:
            file.write(b"\0" * (1 << 20))

    with pytest.raises(AudioError, match=CHANGED):
        probe(path, grow)
    digest = probe(path).digest
    assert digest == hashlib.sha256(Path(path).read_bytes()).hexdigest()
