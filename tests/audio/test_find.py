from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gramcli.audio.find import audio_files
from gramcli.errors import NoInputError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_folders_are_searched_deep_sorted_and_in_any_case(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.WAV", "b/1.flac", "a/deep/er/x.Mp3", "a/notes.txt", ".git/x.wav", "a/._x.wav")
    found = [os.path.relpath(file, tmp_path) for file in audio_files([tmp_path])]
    assert found == ["a/deep/er/x.Mp3", "b/1.flac", "b/2.WAV"]


def test_each_file_once_in_the_order_asked_for(tmp_path: Path) -> None:
    touch(tmp_path, "x.wav", "y.wav")
    y = str(tmp_path / "y.wav")
    assert audio_files([y, tmp_path, str(tmp_path / "*.wav")]) == [y, str(tmp_path / "x.wav")]


def test_a_named_file_is_taken_as_it_is(tmp_path: Path) -> None:
    touch(tmp_path, "sound.dat", "take[1].wav")
    names = [str(tmp_path / name) for name in ("sound.dat", "missing.wav", "take[1].wav")]
    assert audio_files(names) == names


def test_globs_keep_audio_and_enter_folders(tmp_path: Path) -> None:
    touch(tmp_path, "s1/a.ogg", "s1/a.csv", "s2.aif", "s3.txt", "t.wav")
    found = audio_files([str(tmp_path / "s*")])
    assert [os.path.relpath(file, tmp_path) for file in found] == ["s1/a.ogg", "s2.aif"]
    assert audio_files([str(tmp_path / "**" / "*.ogg")]) == [str(tmp_path / "s1" / "a.ogg")]


def test_nothing_found_says_what_there_is(tmp_path: Path) -> None:
    touch(tmp_path, "a.m4a", "b.m4a", "c.txt")
    with pytest.raises(NoInputError, match=r"no audio, but 2 \.m4a, 1 \.txt; gramcli reads \.wav"):
        audio_files([tmp_path])
    with pytest.raises(NoInputError, match=r"q\*: no audio, nor any other file; gramcli reads"):
        audio_files([str(tmp_path / "q*")])


def test_linked_folders_are_followed_and_circles_left(tmp_path: Path) -> None:
    touch(tmp_path, "far/x.wav", "here/y.wav")
    (tmp_path / "here" / "far").symlink_to(tmp_path / "far")
    (tmp_path / "here" / "up").symlink_to(tmp_path / "here")
    found = audio_files([tmp_path / "here"])
    assert [os.path.relpath(file, tmp_path) for file in found] == ["here/far/x.wav", "here/y.wav"]


def test_a_link_that_cannot_be_followed_is_reported_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root a test cannot make a folder that it may not enter."""
    touch(tmp_path, "x.wav")
    scandir = os.scandir

    class Entry:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.name, self.path = entry.name, entry.path

        def is_dir(self) -> bool:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("os.scandir", lambda folder: [Entry(entry) for entry in scandir(folder)])
    assert audio_files([tmp_path]) == [str(tmp_path / "x.wav")]


def test_a_name_that_is_not_utf8_is_found(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff.wav"
    Path(os.fsdecode(name)).touch()
    assert [os.fsencode(file) for file in audio_files([tmp_path])] == [name]


def deep(top: Path, levels: int, name: str) -> None:
    """Makes folders in one another with a file in the last one, whose path may be longer than the system takes."""
    folder = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=folder)
        above, folder = folder, os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(above)
    os.close(os.open("x.wav", os.O_CREAT, dir_fd=folder))
    os.close(folder)


@pytest.fixture
def removed(tmp_path: Path) -> Iterator[Path]:
    """A folder that is emptied in a way that works for deep folders, which pytest's does not."""
    yield tmp_path
    subprocess.run(["rm", "-rf", str(tmp_path / "deep")], check=True)


def test_folders_deeper_than_functions_may_call_themselves(removed: Path) -> None:
    (removed / "deep").mkdir()
    deep(removed / "deep", 1500, "d")
    (file,) = audio_files([removed / "deep"])
    assert Path(file) == removed.joinpath("deep", *["d"] * 1500, "x.wav")
    with pytest.raises(NoInputError, match="folders lie too deep for a pattern; name the folder"):
        audio_files([str(removed / "deep" / "**" / "*.wav")])


def test_a_path_that_is_too_long_is_named(removed: Path) -> None:
    (removed / "deep").mkdir()
    deep(removed / "deep", 30, "d" * 200)
    with pytest.raises(NoInputError, match=r"deep/ddd.*: cannot be read: File name too long"):
        audio_files([removed / "deep"])
    assert audio_files(["n" * 300]) == ["n" * 300]
