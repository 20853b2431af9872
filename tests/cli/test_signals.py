"""Ctrl-C and SIGTERM: in order where that is quick, and in time whatever the command is at."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gramcli.cli.signals import GRACE_S
from tests.support.processes import started
from tests.support.sets import ROOT

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
WORDS = {130: "error: interrupted; complete files", 143: "error: terminated; complete files"}

DEAF = '''
"""A network that hears no signal, as a long step of a library does not."""
import ctypes, pathlib, signal
from torch import nn
from tests.support.toys import ResNet

C = ctypes.CDLL(None)

def sleep():
    signal.pthread_sigmask(signal.SIG_BLOCK, CODES)
    pathlib.Path("deaf").touch()
    C.sleep(60)

CODES = {signal.SIGINT, signal.SIGTERM}

def build(num_classes):
    sleep()

class Forward(ResNet):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.times = 0

    def forward(self, x):
        self.times += 1
        if self.times > 1:
            sleep()
        return super().forward(x)
'''


def ended(process: subprocess.Popen[str], code: int, within_s: float) -> None:
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - began < within_s
    assert process.returncode == code, err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert line.startswith(WORDS[code])
    assert "Traceback" not in err


def until(there: Path, process: subprocess.Popen[str]) -> None:
    while process.poll() is None and not there.exists():
        time.sleep(0.005)
    assert process.poll() is None


@pytest.mark.parametrize(
    ("factory", "number", "again"),
    [
        ("deaf:Forward", signal.SIGTERM, True),
        pytest.param("deaf:build", signal.SIGINT, False, marks=pytest.mark.slow),
        pytest.param("deaf:build", signal.SIGTERM, True, marks=pytest.mark.slow),
        pytest.param("deaf:Forward", signal.SIGINT, False, marks=pytest.mark.slow),
        pytest.param("deaf:Forward", signal.SIGINT, True, marks=pytest.mark.slow),
    ],
)
def test_a_command_that_hears_nothing_ends_in_time_and_at_once_after_a_second_signal(project, factory, number, again):
    (project / "deaf.py").write_text(DEAF)
    with started(["extract", "--network", factory]) as process:
        until(project / "deaf", process)
        process.send_signal(number)
        if again:
            time.sleep(0.2)
            process.send_signal(number)
        ended(process, CODES[number], 1 if again else GRACE_S + 1)


COMMANDS = {
    "extract": ["extract", "--cache", "new", "--clips-per-shard", "1", "--batch", "1"],
    "calibrate": ["calibrate"],
    "select-layers": ["select-layers"],
    "classify": ["classify", "sounds"],
    "evaluate": ["evaluate"],
    "train": ["train", "--network", "tests.support.toys:ResNet", "--out", "w.safetensors", "--epochs", "500"],
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("number", CODES)
def test_a_signal_at_any_moment_ends_every_command_in_order(calibrated, command, number):
    """Moments spread over the whole run; in the first of them, Python itself or the system may answer."""
    arguments = COMMANDS[command]
    began, moments, seen = time.monotonic(), 12, []
    with started(arguments) as process:
        if command == "train":
            time.sleep(8)
        else:
            process.wait(60)
    whole = time.monotonic() - began
    for n in range(moments):
        with started(arguments) as process:
            time.sleep(whole * (n + 0.5) / moments)
            process.send_signal(number)
            at = time.monotonic()
            _, err = process.communicate(timeout=60)
            assert time.monotonic() - at < 5
            seen.append(process.returncode)
            assert process.returncode in (CODES[number], -number, 0), err
            assert process.returncode != -number or "error: " not in err
            if process.returncode == CODES[number] and err:
                assert sum(line.startswith(WORDS[CODES[number]]) for line in err.splitlines()) == 1, err
                assert "Traceback" not in err
                assert "Exception ignored" not in err
    assert seen.count(CODES[number]) >= moments / 4
    assert not list(Path().rglob("*.tmp"))


def test_the_first_signal_has_its_time_and_no_more(tmp_path):
    code = (
        "import ctypes, pathlib, signal; from gramcli.cli import signals\n"
        "signals.GRACE_S = 0.5; signals.install()\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})\n"
        "c = ctypes.CDLL(None); pathlib.Path('deaf').touch(); c.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until(tmp_path / "deaf", process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    assert process.poll() is None
    ended(process, 130, 3)


def test_a_second_signal_while_python_ends_changes_nothing(project):
    """The first thing that Python does is to forget how signals are handled; large libraries then take their time."""
    (project / "slow.py").write_text(
        "import os, signal\n"
        "class Last:\n    def __del__(self, kill=os.kill, me=os.getpid(), term=signal.SIGTERM):\n"
        "        kill(me, term)\n"
        "last = Last()\n"
        "def build(num_classes):\n    signal.raise_signal(signal.SIGTERM)\n"
    )
    with started(["extract", "--network", "slow:build"]) as process:
        ended(process, 143, 60)


@pytest.mark.parametrize(("number", "code"), CODES.items())
def test_a_signal_while_the_program_is_being_read_ends_it_without_a_word(tmp_path, number, code):
    (tmp_path / "typer.py").write_text(f"import signal; signal.raise_signal({int(number)})")
    done = subprocess.run(
        [sys.executable, "-m", "gramcli", "--help"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_a_signal_that_a_library_makes_an_error_of_is_still_told_as_one(project):
    """As the C code of some does where it comes while they are imported."""
    (project / "rude.py").write_text(
        "import signal\ndef build(num_classes):\n    try:\n        signal.raise_signal(signal.SIGINT)\n"
        "    except BaseException:\n        raise ImportError('initialization failed')"
    )
    with started(["extract", "--network", "rude:build"]) as process:
        ended(process, 130, 60)


def test_ctrl_c_that_was_to_be_ignored_is_ignored():
    """As in ``gramcli extract &`` of a script."""
    code = (
        "import signal; from gramcli.cli import signals\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN); signals.install()\n"
        "signal.raise_signal(signal.SIGINT); print('on')\n"
        "try:\n    signal.raise_signal(signal.SIGTERM)\n"
        "except signals.Terminated:\n    print('ended')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["on", "ended"], done.stderr


def test_an_end_by_ctrl_c_has_its_exit_code_wherever_it_came(tmp_path):
    """With ``-m``, Python ends by the signal if a plain KeyboardInterrupt left code given as text, caught or not."""
    (tmp_path / "module.py").write_text(
        "import sys; from gramcli.cli import signals\n"
        "signals.install()\n"
        "try:\n    exec('import signal; signal.raise_signal(signal.SIGINT)')\n"
        "except KeyboardInterrupt:\n    sys.exit(130)"
    )
    done = subprocess.run(
        [sys.executable, "-m", "module"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert done.returncode == 130, done.stderr
