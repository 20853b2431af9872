"""Commands under limits of the machine: little memory, few open files, no temporary folder, long names."""

from __future__ import annotations

import os
import subprocess
import sys
from unittest.mock import ANY

import pytest

from gramcli.audio import decoder_process
from gramcli.errors import Exit
from tests.support.commands import TOY
from tests.support.sets import ROOT


def limited(limit: str, *arguments: str, **more: str) -> tuple[int, str]:
    """Returns exit code and stderr of a command that runs under a limit of the shell."""
    done = subprocess.run(
        ["bash", "-c", f'{limit}; exec "$@"', "bash", sys.executable, "-m", "gramcli", *arguments],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "GRAMCLI_NETWORK_NAME": TOY,  # the user's own word: gramcli.toml of the project names code
            **more,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("kilobytes", [100_000, 400_000, 700_000])
@pytest.mark.parametrize("command", ["classify sounds/hum-3-0.wav", "layers"])
def test_too_little_memory_for_the_network(calibrated_once, kilobytes, command):
    code, err = limited(f"ulimit -v {kilobytes}", *command.split())
    assert code == Exit.RESOURCE
    assert err.startswith("error: out of memory")
    assert err.count("\n") == 1


@pytest.mark.parametrize("kilobytes", [200_000, 450_000, 1_000_000])
@pytest.mark.parametrize("command", ["cache info", "calibrate", "select-layers", "evaluate"])
def test_little_memory_without_a_network(calibrated_once, kilobytes, command):
    assert limited(f"ulimit -v {kilobytes}", *command.split())[0] in (Exit.OK, Exit.RESOURCE)


@pytest.mark.parametrize("command", ["calibrate", "select-layers"])
def test_commands_without_a_network_do_with_less_than_torch_needs(calibrated_once, command):
    assert limited("ulimit -v 800000", command) == (Exit.OK, ANY)


@pytest.mark.parametrize("count", [6, 8, 12, 16])  # with fewer, Python itself cannot start
@pytest.mark.parametrize("command", ["classify sounds/hum-3-0.wav", "cache info"])
def test_few_open_files(calibrated_once, count, command):
    code, err = limited(f"ulimit -n {count}", *command.split())
    assert (code == Exit.RESOURCE and "Too many open files" in err) or code == Exit.OK, err


def test_no_temporary_folder(calibrated_once, gramcli, monkeypatch):
    def nowhere(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp', '/var/tmp']")

    monkeypatch.setattr("tempfile.TemporaryFile", nowhere)
    decoder_process._end_spare()
    for command in (["classify", "sounds/hum-3-0.wav"], ["extract", "--cache", "new"]):
        outcome = gramcli(*command)
        assert outcome.code == Exit.RESOURCE
        assert outcome.error.endswith("no folder for temporary files can be written; set TMPDIR to a folder that can")


LONG = "n" * 300
EVERYWHERE = {
    "file": ["classify", LONG],
    "folder": ["check", LONG],
    "model": ["classify", "sounds/hum-3-0.wav", "--model", LONG],
    "submission": ["classify", "sounds/hum-3-0.wav", "--submission", LONG],
    "manifest": ["extract", LONG],
    "cache": ["cache", "info", "--cache", LONG],
    "new cache": ["extract", "--cache", LONG],
    "settings": ["calibrate", "--config", LONG],
    "weights": ["extract", "--weights", LONG],
    "audio root": ["extract", "--audio-root", LONG],
    "export": ["export", LONG],
    "train": ["train", "--out", LONG],
    "unknown": ["evaluate", "--unknown", LONG],
    "background": ["evaluate", "--condition", f"background:{LONG}:10"],
    "folds": ["evaluate", "sounds/manifest.csv", "--folds", LONG],
    "demo": ["demo", LONG],
    "page": ["guide", LONG],
    "format": ["classify", "sounds", "--format", LONG],
}


@pytest.mark.parametrize(
    ("where", "length"),
    [(where, 300) for where in EVERYWHERE] + [(where, 90_000) for where in ("file", "cache", "format")],
)
def test_a_name_that_is_too_long(calibrated_once, gramcli, where, length):
    outcome = gramcli(*(one.replace(LONG, "n" * length) for one in EVERYWHERE[where]))
    assert outcome.code in (Exit.USAGE, Exit.NO_INPUT, Exit.ARTEFACT, Exit.RESOURCE), outcome.err
    assert len(outcome.error) <= 2000
    assert not [path for path in calibrated_once.iterdir() if path.name.startswith("nnn")]
