"""A signal whose exception Python would only print, as in a destructor, and one that comes when the command ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from gramcli.cli.signals import GRACE_S
from tests.support.sets import ROOT

CODES = {"SIGINT": 130, "SIGTERM": 143}
PLACES = {
    "destructor": """
class D:
    def __del__(self):
        kill()
def lose():
    d = D(); del d
""",
    "destructor that goes on": """
class D:
    def __del__(self):
        try:
            kill()
        finally:
            end = time.monotonic() + 0.1
            while time.monotonic() < end: pass
def lose():
    d = D(); del d
""",
    "callback": """
import ctypes
@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
def compare(a, b):
    kill()
    return 0
def lose():
    two = (ctypes.c_int * 2)(2, 1)
    ctypes.CDLL(None).qsort(two, 2, 4, compare)
""",
    "destructors, one after another": """
class D:
    def __init__(self, kills): self.kills = kills
    def __del__(self):
        if self.kills: kill()
        end = time.monotonic() + 0.1
        while time.monotonic() < end: pass
def lose():
    d = D(True); del d
    for _ in range(5):
        d = D(False); del d
""",
}


def run(code: str, *arguments: str, redirections: str = "") -> tuple[int, str, float]:
    """Returns exit code, stderr and seconds of a Python process that hears Ctrl-C."""
    began = time.monotonic()
    done = subprocess.run(
        ["bash", "-c", f'exec "$@" {redirections}', "bash", sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done.returncode, done.stderr, time.monotonic() - began


COMMAND = """
import os, signal, sys, time
from gramcli.cli import app
def kill():
    os.kill(os.getpid(), signal.{name})
    for _ in range(1000): pass
{place}
def command(*_, **__):
    lose()
    {then}
app.app = command
app.main()
"""
"""The program, with another command in it."""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", CODES)
def test_a_signal_that_was_lost_comes_again(name, place):
    code, err, seconds = run(COMMAND.format(name=name, place=PLACES[place], then="time.sleep(30)"))
    assert code == CODES[name]
    assert err == {130: "error: interrupted", 143: "error: terminated"}[code] + (
        "; complete files are kept, run the same command again\n"
    )
    assert seconds < GRACE_S


def test_a_second_signal_after_a_lost_one_ends_the_command_at_once():
    then = "\n    try: time.sleep(30)\n    finally:\n        kill(); time.sleep(30)"
    code, _, seconds = run(COMMAND.format(name="SIGINT", place=PLACES["destructor"], then=then))
    assert code == 130
    assert seconds < GRACE_S


@pytest.mark.parametrize("redirections", ["2>&-", "2>/dev/full"])
def test_the_end_of_the_grace_period_needs_no_stderr(redirections):
    code = (
        "import ctypes, os, signal, threading; from gramcli.cli import signals, streams\n"
        "streams.open_missing(); signals.GRACE_S = 0.2; signals.install()\n"
        "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})\n"  # for this thread alone
        "ctypes.CDLL(None).sleep(30)"
    )
    assert run(code, redirections=redirections)[0] == 130


@pytest.mark.parametrize("name", CODES)
def test_a_signal_while_arguments_are_read(name):
    code, err, _ = run(COMMAND.format(name=name, place="def lose(): kill()", then=""))
    assert code == CODES[name]
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize(
    "place",
    [
        "import atexit\natexit.register(kill)\ndef lose(): pass",
        "class Last:\n    def __del__(self): kill()\nlast = Last()\ndef lose(): pass",
        "import threading\ndef late():\n    time.sleep(0.3); kill()\ndef lose(): threading.Thread(target=late).start()",
    ],
    ids=["handler", "destructor", "thread"],
)
def test_a_signal_when_the_command_has_ended_changes_nothing(name, place):
    assert run(COMMAND.format(name=name, place=place, then=""))[:2] == (0, "")


def test_other_exceptions_in_destructors_are_shown_with_debug_only():
    place = "class D:\n    def __del__(self): raise ValueError('who\\nknows')\ndef lose():\n    d = D(); del d"
    assert run(COMMAND.format(name="SIGINT", place=place, then=""))[:2] == (0, "")
    code, err, _ = run(
        COMMAND.format(name="SIGINT", place=place.replace("    d =", "    app._DEBUG[0] = True; d ="), then="")
    )
    assert code == 0
    assert err.startswith("debug: ignored in <function D.__del__")
    assert err.endswith(": ValueError: who knows\n")
