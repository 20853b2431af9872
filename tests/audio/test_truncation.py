"""Files that end early, in every container: told from whole ones, and used as far as they go on demand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from gramcli.audio import truncation
from gramcli.audio.limits import FORMATS, LIMITS, Limits
from gramcli.audio.reader import Reader, probe
from gramcli.errors import AudioError
from tests.conftest import shared
from tests.support.sounds import noise, patched

KINDS = [
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "DOUBLE"), ("WAV", "PCM_U8"), ("WAV", "ULAW"),
    ("WAV", "MS_ADPCM"), ("WAV", "IMA_ADPCM"), ("WAVEX", "PCM_16"), ("RF64", "PCM_16"), ("W64", "PCM_24"),
    ("AIFF", "PCM_16"), ("AIFF", "FLOAT"), ("AIFF", "ULAW"), ("AU", "PCM_16"), ("AU", "FLOAT"), ("CAF", "PCM_16"),
    ("NIST", "PCM_16"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]  # fmt: skip
ANYHOW = Limits(allow_truncated=True)


def made(folder: Path, container: str, subtype: str, seconds: float = 4, channels: int = 1) -> Path:
    path = folder / f"{container}-{subtype}-{channels}"
    soundfile.write(path, noise(seconds, 16000, channels), 16000, format=container, subtype=subtype)
    return path


def cut(path: Path, missing: int) -> str:
    content = path.read_bytes()
    short = path.with_name(f"{path.name} less {missing}")
    short.write_bytes(content[: len(content) - missing])
    return str(short)


def read(path: str, limits: Limits = LIMITS) -> np.ndarray:
    with Reader(path, 16000, "mix", limits=limits) as reader:
        return reader.read(None)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("container", "subtype"), KINDS)
def test_a_whole_file_of_every_kind_is_whole_and_a_cut_one_is_not(tmp_path, container, subtype, channels):
    path = made(tmp_path, container, subtype, channels=channels)
    assert probe(str(path)).frames >= 64000
    assert len(read(str(path))) >= 64000
    size = path.stat().st_size
    for missing in (size // 10, size // 2, int(0.9 * size)):
        with pytest.raises(AudioError, match=r"truncated: .*; --allow-truncated uses what is there|cannot be decoded"):
            read(cut(path, missing))


@pytest.mark.parametrize(("container", "subtype"), [kind for kind in KINDS if kind[0] not in ("CAF", "FLAC")])
def test_what_is_there_is_used_when_it_is_asked_for(tmp_path, container, subtype):
    path = made(tmp_path, container, subtype)
    before = read(str(path))
    short = cut(path, path.stat().st_size // 2)
    after = read(short, ANYHOW)
    assert 0.15 < len(after) / len(before) < 0.6
    np.testing.assert_allclose(after[:8000], before[:8000], atol=1e-6)


def test_windows_of_a_file_that_ends_early_end_with_it(tmp_path):
    path = made(tmp_path, "FLAC", "PCM_16", seconds=20)
    before = read(str(path))
    short = cut(path, path.stat().st_size // 4)
    with Reader(short, 16000, "mix", limits=ANYHOW) as reader:
        np.testing.assert_array_equal(reader.read((2, 3)), before[32000:48000])
        last = reader.read((10, 18))
        np.testing.assert_array_equal(last, before[160000 : 160000 + len(last)])
        assert 16000 < len(last) < 5.5 * 16000
        with pytest.raises(AudioError, match=r"0 samples from 19 to 20 s of 1[0-9.]* s"):
            reader.read((19, 20))
    with Reader(short, 16000, "mix") as reader:
        np.testing.assert_array_equal(reader.read((2, 3)), before[32000:48000])
        with pytest.raises(AudioError, match="cannot be decoded"):
            reader.read((10, 18))


def test_an_mp3_may_lack_what_encoders_do_not_agree_on(tmp_path):
    path = made(tmp_path, "MP3", "MPEG_LAYER_III")
    few = cut(path, path.stat().st_size // 50)
    assert 0.95 * 64000 < len(read(few)) < 64000
    with Reader(few, 16000, "mix") as reader:
        assert len(reader.read((3.5, 4.0))) < 8000


def xing(payload: bytes, claimed: int, tag: bytes = b"Xing", id3: int = 0) -> bytes:
    """An MP3 file as far as its first frame says."""
    sizes = bytes((id3 >> shift) & 0x7F for shift in (21, 14, 7, 0))
    head = b"ID3\x04\x00\x00" + sizes + bytes(id3) if id3 else b""
    frame = b"\xff\xfb\x90\x64" + bytes(32)
    if tag == b"VBRI":
        frame += tag + bytes(6) + claimed.to_bytes(4, "big") + bytes(60)
    else:
        frame += tag + (3).to_bytes(4, "big") + (100).to_bytes(4, "big") + claimed.to_bytes(4, "big") + bytes(60)
    return head + frame + payload


@pytest.mark.parametrize("tag", [b"Xing", b"Info", b"VBRI"])
@pytest.mark.parametrize("id3", [0, 300])
def test_an_mp3_frame_that_counts_bytes_is_believed(tmp_path, tag, id3):
    path = tmp_path / "x.mp3"
    for claimed, missing in ((5000, ""), (5200, ""), (6000, "bytes of samples are there"), (0, "")):
        content = xing(bytes(5000), claimed, tag, id3)
        path.write_bytes(content[: (10 + id3) * bool(id3) + 5000])
        descriptor = os.open(path, os.O_RDONLY)
        found = truncation.truncation(descriptor, path.stat().st_size, "MP3", 0, "")
        os.close(descriptor)
        assert (missing in found) if missing else not found, (claimed, found)


def test_streams_do_not_know_their_length(tmp_path):
    wav = made(tmp_path, "WAV", "PCM_16")
    assert len(read(patched(wav, b"data", 4, 0xFFFFFFFF))) == 64000
    au = made(tmp_path, "AU", "PCM_16")
    content = bytearray(au.read_bytes())
    content[8:12] = b"\xff" * 4
    au.write_bytes(content)
    assert len(read(str(au))) == 64000


def test_an_ogg_file_with_something_behind_it_is_whole(tmp_path):
    path = made(tmp_path, "OGG", "VORBIS")
    content = path.read_bytes()
    path.write_bytes(content + b"TAG" + bytes(125))
    assert probe(str(path)).frames == 64000
    last = content.rindex(b"OggS")
    path.write_bytes(content[:last] + content[last : last + 5] + bytes([content[last + 5] & ~4]) + content[last + 6 :])
    with pytest.raises(AudioError, match="truncated: the page that is marked as the last is missing"):
        probe(str(path))
    path.write_bytes(content + bytes(70000))
    with pytest.raises(AudioError, match="truncated: the page that is marked as the last is missing"):
        probe(str(path))


@given(
    st.binary(max_size=300),
    st.sampled_from(FORMATS),
    st.sampled_from([b"", b"RIFF", b".snd", b"OggS", b"ID3", b"caff"]),
)
def test_nothing_that_bytes_can_say_is_an_error(tmp_path_factory, content, container, magic):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(magic + content)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert isinstance(truncation.truncation(descriptor, len(magic + content), container, 100, ""), str)
    finally:
        os.close(descriptor)


def test_a_longer_file_than_believed_is_refused(tmp_path):
    path = str(made(tmp_path, "WAV", "PCM_16"))
    assert probe(path, limits=Limits(max_seconds=4)).frames == 64000
    with pytest.raises(AudioError, match=r"4 s are more than 3\.5 s; --max-seconds allows more"):
        probe(path, limits=Limits(max_seconds=3.5))


def test_other_containers_are_named(tmp_path):
    path = made(tmp_path, "VOC", "PCM_16")
    with pytest.raises(AudioError, match=r"is VOC \(Creative Labs\); WAV, FLAC, .*, CAF, NIST are read"):
        probe(str(path))


def test_no_recording_is_taken_for_truncated():
    files = sorted(shared("data", "esc10", "audio").iterdir())
    assert len(files) == 400
    for path in files:
        probe(str(path), hashed=False)
