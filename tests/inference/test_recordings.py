"""Which files are the audio of clips: known by content, hashed only where the table cannot tell."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from gramcli.dataset.clip import Clip, window_key
from gramcli.inference import recordings
from gramcli.inference.recordings import same_audio


@pytest.fixture
def hashed(monkeypatch):
    """Lists the files that are hashed."""
    paths: list[str] = []
    plain = recordings.file_digest
    monkeypatch.setattr(recordings, "file_digest", lambda path: paths.append(path) or plain(path))
    return paths


def made(path: Path, part: tuple[float, float] | None = None, *, recorded: bool = True) -> Clip:
    """Returns the clip that extract would make of a file, or of a part of it."""
    about, digest = path.stat(), hashlib.sha256(path.read_bytes()).hexdigest()
    start, end = part or (None, None)
    known = digest if part and recorded else ""
    return Clip(
        path.name, window_key(digest, part), path.name, str(path), about.st_size, about.st_mtime_ns, start, end,
        "dog", "train", "g", 0, 0, "", known,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for name, content in (("a", b"aaaa"), ("copy", b"aaaa"), ("b", b"bbbb"), ("longer", b"aaaaa")):
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.mark.parametrize("part", [None, (0.0, 5.0)])
def test_a_file_of_the_table_is_not_hashed_and_others_are(folder, hashed, part, monkeypatch):
    clip = made(folder / "a", part)
    paths = [str(folder / name) for name in ("a", "copy", "b", "longer", "gone")]
    assert same_audio(paths, [clip]) == {paths[0]: clip, paths[1]: clip}
    assert hashed == [paths[1], paths[2]]
    monkeypatch.chdir(folder)
    assert same_audio(["a"], [clip]) == {"a": clip}
    assert len(hashed) == 2


def test_a_file_that_was_changed_since_is_hashed(folder, hashed):
    clip = made(folder / "a")
    (folder / "a").write_bytes(b"AAAA")
    os.utime(folder / "a", ns=(0, clip.mtime_ns + 1))
    assert same_audio([str(folder / "a")], [clip]) == {}
    assert hashed == [str(folder / "a")]


def test_windows_without_the_digest_of_their_file_are_found_by_their_keys(folder, hashed):
    clips = [made(folder / "b"), made(folder / "a", (0.0, 5.0), recorded=False)]
    assert same_audio([str(folder / "a")], clips) == {str(folder / "a"): clips[1]}
    assert hashed == [str(folder / "a")]
