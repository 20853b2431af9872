"""``gramcli train`` as it is typed."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest

from gramcli.errors import Exit
from gramcli.network import checkpoint
from tests.support.processes import started
from tests.support.sets import read_manifest

COMMAND = ("train", "--epochs", "3", "--batch", "6", "--out", "w.safetensors")


@pytest.fixture
def project(project) -> Path:
    """The project with a network that training changes."""
    settings = project / "gramcli.toml"
    settings.write_text(settings.read_text().replace("tests.support.toys:ResNet", "tests.support.training_toys:Small"))
    return project


def test_from_recordings_to_decisions(project, gramcli):
    done = gramcli(*COMMAND)
    assert done.code == 0, done.err
    assert "done: w.safetensors: epoch " in done.err
    assert " of 3, validation accuracy 0." in done.err or " of 3, validation accuracy 1." in done.err
    assert "epoch 1 of 3: loss " in done.err
    assert done.out == ""
    about = checkpoint.metadata(Path("w.safetensors"))
    assert about["classes"] == ["click", "hiss", "hum"]
    for command in (
        ["extract", "--weights", "w.safetensors"],
        ["calibrate"],
        ["select-layers"],
        ["evaluate"],
        ["classify", "sounds/hum-3-0.wav"],
    ):
        # what gramcli.toml does not say comes from the checkpoint, mean and std among them
        outcome = gramcli(*command)
        assert outcome.code == 0, outcome.err


def test_a_second_time_nothing_is_trained(project, gramcli):
    assert gramcli(*COMMAND).code == 0
    before = Path("w.safetensors").read_bytes()
    again = gramcli(*COMMAND)
    assert again.code == 0
    assert "is there already" in again.err
    assert Path("w.safetensors").read_bytes() == before
    other = gramcli(*COMMAND, "--learning-rate", "0.5")
    assert other.code == Exit.USAGE
    assert "name another --out" in other.error


def test_a_quiet_run_says_nothing(project, gramcli):
    done = gramcli(*COMMAND, "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--augment", "mixup,pitch"], "there is no 'pitch'; there are specaugment, mixup, noise"),
        (["--optimiser", "lion"], "train.optimiser must be 'radam' or 'adam'"),
        (["--epochs", "0"], "train.epochs must be at least 1"),
        (["--precision", "fp16"], "run.precision must be 'fp32' or 'bf16'"),
        (["--out", "w.pt"], "name it w.safetensors"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_usage(project, gramcli, arguments, words):
    outcome = gramcli(*COMMAND, *arguments)
    assert outcome.code == Exit.USAGE
    assert words in outcome.error
    assert not list(Path().glob("w.*"))


def test_it_needs_out(project, gramcli):
    outcome = gramcli("train")
    assert outcome.code == Exit.USAGE
    assert "--out" in outcome.error


def test_a_clip_that_cannot_be_used(project, gramcli):
    line = next(one for one in read_manifest(Path("sounds/manifest.csv")) if one.split == "train")
    (Path("sounds") / line.file).write_text("no audio")
    for _ in range(2):  # the second time the checkpoint is there already
        outcome = gramcli(*COMMAND)
        assert outcome.code == Exit.PARTIAL
        assert "1 clips failed and were left out" in outcome.error
    assert Path("w.safetensors").exists()


def test_without_lightning(project, gramcli, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    monkeypatch.setitem(sys.modules, "lightning", None)
    outcome = gramcli(*COMMAND)
    assert outcome.code == Exit.RESOURCE
    assert "install it, or gramcli with its extra train" in outcome.error


def test_extract_refuses_what_was_trained_on(project, gramcli):
    assert gramcli(*COMMAND).code == 0
    manifest = Path("sounds/manifest.csv")
    text = manifest.read_text()
    manifest.write_text(text.replace(",train,", ",x,").replace(",test,", ",train,").replace(",x,", ",test,"))
    outcome = gramcli("extract", "--weights", "w.safetensors")
    assert outcome.code == Exit.USAGE
    assert "is in the test split, but w.safetensors was trained on it" in outcome.error


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_what_the_same_command_goes_on_from(project, number, code):
    resume = project / "w.safetensors.resume"
    with started([*COMMAND, "--network", "tests.support.training_toys:Small", "--epochs", "100000"]) as process:
        while process.poll() is None and not resume.exists():
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert line.startswith({130: "error: interrupted", 143: "error: terminated"}[code])
    assert line.endswith("run the same command again")
    assert "Traceback" not in err
    assert resume.exists()
    assert not (project / "w.safetensors").exists()
