"""Caches that `gramcli.cache.write` made: what needs no network works, and what needs one says why it does not."""

from __future__ import annotations

import json

import numpy as np
import pytest

import gramcli.cache
from gramcli.errors import Exit
from tests.support.sets import write_set

CLASSES = ["a", "b"]
ELSEWHERE = (
    "error: .gramcli: its descriptors were computed elsewhere (by gramcli.cache.write), so there is no network to run "
    "or to export"
)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch, rng, gramcli):
    """A calibrated cache of descriptors from elsewhere, as .gramcli of the working folder; sounds lie beside it."""
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path / "sounds", clips=1)
    n = 120
    labels = [CLASSES[i % 2] for i in range(n)]
    tilt = np.array([[3.0, 1.0] if label == "a" else [1.0, 3.0] for label in labels])
    layers = {name: np.hstack([tilt, np.ones((n, 3))]) * rng.uniform(0.9, 1.1, (n, 5)) for name in ("l1", "l2")}
    splits = [("train", "train", "validation", "test")[i // 2 % 4] for i in range(n)]
    logits = 2 * tilt - 4 + rng.normal(size=(n, 2))
    keys = [f"clip {i}" for i in range(n)]
    gramcli_write(keys, layers, logits, labels, splits)
    for command in ("calibrate", "select-layers"):
        done = gramcli(command)
        assert done.code == 0, done.err
    return tmp_path


def gramcli_write(keys, layers, logits, labels, splits):
    gramcli.cache.write(keys, layers, logits, labels=labels, splits=splits, classes=CLASSES, network="other net")


def test_info_says_what_is_known(elsewhere, gramcli):
    found = json.loads(gramcli("cache", "info", "--json").out)
    assert (found["network"], found["weights"], found["layers"]) == ("other net", "not known", 2)
    assert (found["calibrated"], found["classes"], found["conditions"]) == ("yes", 2, "none")
    assert found["clips"] == {"train": 60, "validation": 30, "test": 30}
    table = gramcli("cache", "info")
    assert table.code == 0
    assert "other net" in table.out


@pytest.mark.parametrize(
    "command",
    [
        "extract",
        "extract --dry-run",
        "extract --condition noise:10",
        "export model.safetensors",
        "classify sounds/hum-0-0.wav",
        "check sounds",
        "evaluate --condition noise:10",
        "evaluate --unknown sounds",
        "select-layers --threshold-from sounds",
        "cache verify --replay 3",
    ],
)
def test_what_needs_the_network_says_in_one_line_that_there_is_none(elsewhere, gramcli, command):
    done = gramcli(*command.split())
    assert done.code == Exit.ARTEFACT, done.err
    assert done.error == ELSEWHERE


@pytest.mark.parametrize("command", ["calibrate", "select-layers", "evaluate", "cache verify", "cache clean"])
def test_what_needs_no_network_works(elsewhere, gramcli, command):
    done = gramcli(*command.split())
    assert done.code == 0, done.err


def test_verify_full_reads_no_audio_that_there_never_was(elsewhere, gramcli):
    done = gramcli("cache", "verify", "--full")
    assert done.code == 0, done.err
    assert "audio" not in done.out
    assert json.loads(gramcli("cache", "verify", "--full", "--json").out)["audio"] == 0


def test_a_repair_moves_what_is_damaged_and_says_that_there_is_no_network(elsewhere, gramcli):
    assert gramcli("cache", "verify", "--repair").code == 0
    shard = next((elsewhere / ".gramcli" / "views" / "clean" / "shards").glob("*.h5"))
    shard.write_bytes(shard.read_bytes()[:-1])
    done = gramcli("cache", "verify", "--repair")
    assert (done.code, done.error) == (Exit.ARTEFACT, ELSEWHERE)
    assert list((elsewhere / ".gramcli" / "quarantine").rglob("*.h5"))


def test_another_network_is_refused_with_what_differs(elsewhere, gramcli):
    done = gramcli(
        "extract", "sounds/manifest.csv", "--network", "tests.support.toys:ResNet", "--classes", "click,hiss,hum",
        "--seconds", "0.25", "--sample-rate", "8000", "--n-fft", "256", "--window-ms", "32", "--hop-ms", "16",
        "--n-mels", "16",
    )  # fmt: skip
    assert done.code == Exit.ARTEFACT
    assert "architecture: other net → tests.support.toys:ResNet" in done.error
