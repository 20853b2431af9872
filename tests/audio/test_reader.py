from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

from gramcli.audio import reader as decode
from gramcli.audio.reader import Reader, fit, probe
from gramcli.audio.windows import windows
from gramcli.errors import AudioError
from tests.support.sounds import noise, patched, write


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    time = np.arange(32000) / 16000
    sound = (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    path = write(tmp_path / f"x.{suffix}", sound)
    assert probe(path).frames == 32000
    assert probe(path).duration == 2.0
    with Reader(path, 16000, "mix") as reader:
        read = reader.read(None)
    assert read.dtype == np.float32
    assert read.shape == (32000,)
    tolerance = 1 / 32768 if suffix in ("wav", "flac", "aiff") else 0.05
    assert np.abs(read - sound)[1000:-1000].max() <= tolerance


def test_opus_and_a_wrong_suffix(tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", noise(1, 48000), 48000, format="OGG", subtype="OPUS")
    assert probe(path).sample_rate == 48000
    with Reader(path, 48000, "mix") as reader:
        assert len(reader.read(None)) == probe(path).frames


def test_probe_hashes_the_bytes(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "x.flac", noise(1, channels=2), 16000))
    data = path.read_bytes()
    assert probe(str(path)) == decode.Probe(
        16000, 16000, 2, hashlib.sha256(data).hexdigest(), len(data), path.stat().st_mtime_ns
    )


def test_channels(tmp_path: Path) -> None:
    sound = noise(0.5, channels=3)
    path = write(tmp_path / "x.wav", sound)
    for channel in range(3):
        with Reader(path, 16000, channel) as reader:
            assert np.array_equal(reader.read(None), sound[:, channel])
    with Reader(path, 16000, "mix") as reader:
        np.testing.assert_allclose(reader.read(None), sound.mean(axis=1), atol=1e-7)
    with pytest.raises(AudioError, match="there is no channel 3: the file has 3, counted from 0"):
        Reader(path, 16000, 3)


@pytest.mark.parametrize(("suffix", "rate"), [("wav", 44099), ("flac", 22050), ("ogg", 22050), ("mp3", 22050)])
def test_each_window_is_resampled_by_itself(tmp_path: Path, suffix: str, rate: int) -> None:
    path = write(tmp_path / f"x.{suffix}", noise(12.5, rate), rate)
    whole, _ = soundfile.read(path, dtype="float32")
    cut = windows(len(whole) / rate, None, None, 3.0)
    assert len(cut) == 5
    assert cut[-1][0] < cut[-2][1]  # the last overlaps the one before
    with Reader(path, 16000, "mix") as reader:
        for window in cut:
            source = whole[round(window[0] * rate) : round(window[1] * rate)]
            expected = soxr.resample(source, rate, 16000, quality="HQ")
            np.testing.assert_allclose(reader.read(window), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "ogg", "mp3"])
def test_blocks_and_gaps_are_exact_to_the_sample(tmp_path: Path, suffix: str) -> None:
    sine = 0.3 * np.sin(2 * np.pi * 440 * np.arange(320000) / 16000)
    path = write(tmp_path / f"x.{suffix}", sine + noise(20)[:, 0] / 10)
    with Reader(path, 16000, "mix") as reader:
        whole = reader.read(None)
    np.testing.assert_allclose(whole, soundfile.read(path, dtype="float32")[0], rtol=0, atol=1e-6)
    with Reader(path, 16000, "mix") as reader:
        for start in (0.5, 0.505, 13.017, 19.99):
            expected = whole[round(start * 16000) : round(start * 16000) + 160]
            assert np.array_equal(reader.read((start, start + 0.01)), expected)


def test_going_back_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", noise(2))
    with Reader(path, 16000, "mix") as reader:
        reader.read((1.0, 1.5))
        assert reader.reaches((1.2, 1.4))
        assert not reader.reaches((0.9, 1.4))
        assert not reader.reaches(None)
        with pytest.raises(ValueError, match="begins before the one read last"):
            reader.read((0.9, 1.4))


def test_the_end_of_a_window_is_the_end_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", noise(1))
    with Reader(path, 16000, "mix") as reader:
        assert len(reader.read((0.75, 1.5))) == 4000
        with pytest.raises(AudioError, match="0 samples from 1 to 1 s of 1 s"):
            reader.read((1.0, 2.0))


def bad_files(folder: Path) -> dict[str, str]:
    """Makes one file of every kind that must be refused; what is said of it by its path."""
    folder.mkdir(exist_ok=True)

    def made(name: str, data: bytes) -> str:
        (folder / name).write_bytes(data)
        return str(folder / name)

    def wav(name: str, samples: np.ndarray | None = None, **about: str) -> Path:
        return Path(write(folder / name, noise(1) if samples is None else samples, **about))

    os.mkfifo(folder / "pipe.wav")
    (folder / "loop.wav").symlink_to(folder / "loop.wav")
    (folder / "folder.wav").mkdir()
    whole = {suffix: Path(write(folder / f"whole.{suffix}", noise(1))).read_bytes() for suffix in ("wav", "aiff")}
    flac = Path(write(folder / "whole.flac", noise(2))).read_bytes()
    forged = bytearray(flac)
    forged[21] |= 0x0F  # 36 bits of sample count, all ones
    forged[22:26] = b"\xff" * 4
    sounding = noise(1)
    cases = {
        made("empty.wav", b""): "empty file",
        made("text.wav", b"not a sound at all\n" * 99): "not audio that can be read",
        made("page.mp3", b"<!DOCTYPE html><html></html>"): "not audio that can be read",
        str(folder / "pipe.wav"): "is not a regular file",
        "/dev/zero": "is not a regular file",
        str(folder / "folder.wav"): "is a folder",
        str(folder / "loop.wav"): "symbolic links lead in a circle",
        str(folder / "missing.wav"): "no such file",
        str(folder / "nul\0.wav"): "holds a NUL character",
        str(wav("header.wav", sounding[:0])): "0 samples",
        made("half.wav", whole["wav"][: len(whole["wav"]) // 2]): "truncated: 15978 of 32000 bytes",
        made("half.aiff", whole["aiff"][: len(whole["aiff"]) // 2]): "truncated",
        made("half.flac", flac[: len(flac) // 2]): "cannot be decoded",
        patched(wav("huge.wav"), b"data", 4, 0xF0000000): "truncated: 32000 of 4026531840 bytes",
        patched(wav("rate0.wav"), b"fmt ", 12, 0): "impossible sample rate or number of channels",
        patched(wav("rate1.wav"), b"fmt ", 12, 1): "sample rate 1 Hz is not within 1000 to 768000 Hz",
        patched(wav("fast.wav"), b"fmt ", 12, 2**31 - 1): "sample rate 2147483647 Hz",
        str(wav("many.wav", noise(0.1, channels=65))): "65 channels are more than 64",
        made("forged.flac", bytes(forged)): "the header claims 68719476735 samples",
    }
    for name, value in (("nan", np.nan), ("inf", -np.inf), ("loud", 3e38)):
        samples = sounding.copy()
        samples[77] = value
        cases[str(wav(f"{name}.wav", samples, subtype="FLOAT"))] = "sample 77 is"
    return cases


def use(path: str) -> None:
    probe(path)
    with Reader(path, 16000, "mix") as reader:
        reader.read(None)


def test_what_cannot_be_used_is_refused_in_words(tmp_path: Path) -> None:
    for path, reason in bad_files(tmp_path).items():
        with pytest.raises(AudioError, match=reason) as caught:
            use(path)
        assert "\n" not in str(caught.value)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    bad_files(tmp_path)
    before = len(list(Path("/dev/fd").iterdir()))
    test_what_cannot_be_used_is_refused_in_words(tmp_path / "again")
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_stream_of_unknown_length_is_read(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "x.wav", noise(1)))
    assert probe(patched(path, b"data", 4, 0xFFFFFFFF)).frames == 16000


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n\x1b[31m.wav")
    Path(write(tmp_path / "x.wav", noise(1))).rename(path)
    assert probe(path).frames == 16000
    with Reader(path, 16000, "mix") as reader:
        assert len(reader.read(None)) == 16000


def test_one_bad_sample_fails_only_its_window(tmp_path: Path) -> None:
    sound = noise(4)
    sound[16000 + 5] = np.nan
    path = write(tmp_path / "x.wav", sound, subtype="FLOAT")
    with Reader(path, 16000, "mix") as reader:
        assert np.array_equal(reader.read((0, 1)), sound[:16000, 0])
        with pytest.raises(AudioError, match="sample 16005 is nan"):
            reader.read((1, 2))
        assert np.array_equal(reader.read((2, 3)), sound[32000:48000, 0])
        with pytest.raises(ValueError, match="before"):
            reader.read((1, 2))


def test_infinities_that_cancel_are_seen(tmp_path: Path) -> None:
    sound = noise(1, channels=2)
    sound[9] = [np.inf, -np.inf]
    with Reader(write(tmp_path / "x.wav", sound, subtype="FLOAT"), 16000, "mix") as reader, pytest.raises(AudioError):
        reader.read(None)


def test_nothing_is_decoded_past_damage(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "x.flac", noise(30)))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 5000] = bytes(5000)
    path.write_bytes(data)
    with Reader(str(path), 16000, "mix") as reader:
        assert len(reader.read((0, 1))) == 16000
        reasons = set()
        for start in (10, 20, 28):
            with pytest.raises(AudioError, match="cannot be decoded") as caught:
                reader.read((float(start), start + 2.0)) if start > 10 else reader.read((10.0, 20.0))
            reasons.add(str(caught.value))
    assert len(reasons) == 1


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Windows here and there in two hours of silence."""
    path = tmp_path / "silence.flac"
    with soundfile.SoundFile(path, "w", 16000, 1, format="FLAC") as sound:
        for _ in range(2 * 60):
            sound.write(np.zeros(16000 * 60, np.int16))
    script = (
        "import resource, sys; from gramcli.audio.reader import Reader; r = Reader(sys.argv[1], 8000, 'mix');"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "r.read((0, 10)); before = peak(); [r.read((m * 600., m * 600. + 10)) for m in range(1, 12)];"
        "print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20_000  # KiB; the whole is 460 MB


def test_torch_is_not_imported() -> None:
    modules = "gramcli.audio.decoder_main, gramcli.audio.decoder_pool, gramcli.dataset.manifest"
    script = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@given(st.integers(1, 50), st.integers(1, 200), st.sampled_from(["zero", "repeat"]))
def test_fit(count: int, length: int, pad: str) -> None:
    samples = np.arange(1, count + 1, dtype=np.float32)
    fitted = fit(samples, length, pad)
    assert fitted.shape == (length,)
    assert fitted.dtype == np.float32
    for i, value in enumerate(fitted):
        expected = samples[i % count] if pad == "repeat" or i < count else 0
        assert value == expected


def test_nothing_cannot_be_repeated() -> None:
    with pytest.raises(ValueError, match="cannot pad 0 samples by 'repeat'"):
        fit(np.empty(0, np.float32), 4, "repeat")
