"""The decoding process's own code, in this process."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gramcli.audio import decoder_main
from gramcli.audio.decoder_main import Worker
from tests.support.sounds import noise, write

LIMITS = [90_000, False]


def answers(asked: Worker, replies: io.BytesIO, **request: Any) -> list[tuple[dict[str, Any], np.ndarray | None]]:
    """What is said to a request, line by line, with the samples that follow."""
    place = replies.tell()
    asked.answer({"limits": LIMITS, **request})
    replies.seek(place)
    found = []
    while line := replies.readline():
        said = json.loads(line)
        found.append(
            (said, np.frombuffer(replies.read(4 * said["samples"]), np.float32) if "samples" in said else None)
        )
    return found


@pytest.fixture
def asked() -> tuple[Worker, io.BytesIO]:
    replies = io.BytesIO()
    return Worker(replies), replies


def test_windows_are_answered_one_by_one_whatever_becomes_of_them(asked, tmp_path: Path) -> None:
    sound = noise(3)
    sound[16000] = np.nan
    path = write(tmp_path / "x.wav", sound, subtype="FLOAT")
    about = {"path": path, "sample_rate": 16000, "channel": "mix"}
    first, second, third = answers(*asked, windows=[[0, 1], [1, 2], [2, 3]], **about)
    np.testing.assert_array_equal(first[1], sound[:16000, 0])
    assert second == ({"error": "sample 16000 is nan: not finite, or beyond ±10000"}, None)
    np.testing.assert_array_equal(third[1], sound[32000:, 0])
    assert set(first[0]["seconds"]) == {"decode", "resample"}
    ((again, samples),) = answers(*asked, windows=[[0, 1]], **about)  # back to the start, which opens it anew
    np.testing.assert_array_equal(samples, first[1])
    ((other, _),) = answers(*asked, windows=[None], **{**about, "path": str(tmp_path / "none.wav")})
    assert (again["samples"], other) == (16000, {"error": "no such file"})


def test_a_probe_is_answered_with_or_without_the_digest(asked, tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", noise(1))
    ((whole, _),) = answers(*asked, probe=path, hashed=True)
    ((header, _),) = answers(*asked, probe=path, hashed=False)
    assert whole["probe"][:3] == header["probe"][:3] == [16000, 16000, 1]
    assert (len(whole["probe"][3]), header["probe"][3]) == (64, "")
    assert answers(*asked, probe=str(tmp_path), hashed=True) == [({"error": "is a folder"}, None)]


def test_what_nobody_expects_is_an_answer_too(asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object, **named: object) -> None:
        raise MemoryError("no more\nof it")

    monkeypatch.setattr(decoder_main, "Reader", fails)
    about = {"path": "x", "sample_rate": 16000, "channel": "mix"}
    assert answers(*asked, windows=[None], **about) == [({"error": "MemoryError: no more\\nof it"}, None)]


def test_a_sign_of_life_is_given_once_a_second(asked, monkeypatch: pytest.MonkeyPatch) -> None:
    one, replies = asked
    now = [0.0]
    monkeypatch.setattr(decoder_main.time, "monotonic", lambda: now[0])
    one.ready()
    for now[0] in (0.5, 1.5, 1.6, 3.0):
        one._keep_alive()
    assert replies.getvalue() == b'{"ready": true}\n{}\n{}\n'
