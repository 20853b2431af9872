"""Closed, full and broken stdout, stderr and stdin: the work is done, the exit code has a meaning, nothing is raw."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from gramcli.errors import Exit
from tests.support.commands import TOY
from tests.support.sets import ROOT

BROKEN_OUT = "| true"
LOST_OUT = (">&-", ">/dev/full", "1</dev/null")
LOST_ERR = ("2>&-", "2>/dev/full")


@dataclass(frozen=True)
class Left:
    """What a command left behind."""

    code: int
    out: bytes
    err: str


def left(redirections: str, *arguments: str, **more: str) -> Left:
    """Runs a command in a shell, with its streams redirected there."""
    # the name of the network, as the user's own word: gramcli.toml of the project names code
    own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GRAMCLI_NETWORK_NAME": TOY}
    environment = {**os.environ, **own, **more}
    pipe = redirections == BROKEN_OUT
    if pipe:  # the reader is gone before anything is written
        reader, writer = os.pipe()
        os.close(reader)
        redirections = f">&{writer}"
    done = subprocess.run(
        ["bash", "-c", f'exec "$@" {redirections}', "bash", sys.executable, "-m", "gramcli", *arguments],
        env=environment,
        capture_output=True,
        timeout=120,
        check=False,
        pass_fds=[writer] if pipe else (),
    )
    if pipe:
        os.close(writer)
    err = done.stderr.decode()
    for raw in ("Traceback", "Exception ignored", "internal error", "\x1b"):
        assert raw not in err
    return Left(done.returncode, done.stdout, err)


def one_error(err: str) -> str:
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    return line


PRINT = {
    "version": ["--version"],
    "help": ["classify", "--help"],
    "page": ["guide", "start"],
    "table": ["cache", "info"],
    "json": ["cache", "info", "--json"],
}
"""Commands whose only purpose is to print, and that take no time."""


@pytest.mark.parametrize("command", PRINT)
@pytest.mark.parametrize("redirections", LOST_OUT)
def test_a_lost_result_is_exit_7_in_one_line(calibrated_once, command, redirections):
    got = left(redirections, *PRINT[command])
    assert got.code == Exit.RESOURCE
    assert one_error(got.err).startswith("error: stdout cannot be written: ")


@pytest.mark.parametrize("command", PRINT)
def test_a_reader_that_has_gone_is_no_error(calibrated_once, command):
    got = left(BROKEN_OUT, *PRINT[command])
    assert (got.code, got.err) == (0, "")


@pytest.mark.parametrize("redirections", [*LOST_ERR, "<&-"])
def test_stderr_and_stdin_change_nothing(calibrated_once, redirections):
    assert left(redirections, "cache", "info") == left("", "cache", "info")


@pytest.mark.parametrize("redirections", [">&- 2>&-", ">/dev/full 2>/dev/full", "<&- >&- 2>&-"])
def test_all_streams_at_once(calibrated_once, redirections):
    assert left(redirections, "cache", "info").code == Exit.RESOURCE
    assert left(redirections, "cache", "info", "--cache", "none").code == Exit.ARTEFACT
    assert left(redirections, "calibrate").code == Exit.OK


@pytest.mark.parametrize("redirections", [">&-", "2>&-", "2>/dev/full", BROKEN_OUT])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["cache"], Exit.USAGE),
        (["guide", "nothing"], Exit.USAGE),
        (["extract", "none"], Exit.NO_INPUT),
        (["cache", "info", "--cache", "none"], Exit.ARTEFACT),
    ],
)
def test_a_command_that_fails_keeps_its_exit_code(calibrated_once, redirections, arguments, code):
    assert left(redirections, *arguments).code == code


@pytest.mark.parametrize("redirections", [">&-", ">/dev/full"])
def test_commands_that_write_finish_their_work_first(calibrated_once, redirections):
    Path("new.tsv").unlink(missing_ok=True)
    got = left(redirections, "classify", "sounds", "--submission", "new.tsv")
    assert got.code == Exit.RESOURCE
    assert "redirect it to another file and run the command again" in one_error(got.err)
    assert len(Path("new.tsv").read_text().splitlines()) == 25
    decision = Path(".gramcli/decision.safetensors")
    decision.unlink()
    got = left(redirections, "select-layers")
    assert got.code == Exit.RESOURCE
    assert decision.is_file()


def test_commands_that_write_and_print_nothing_are_in_order(calibrated_once):
    assert left(">/dev/full", "extract", "--cache", "another").code == 0
    assert left(">&-", "export", "m.safetensors").code == 0
    assert Path("m.safetensors").is_file()


@pytest.mark.parametrize("command", ["classify", "check"])
def test_classify_and_check_stop_at_once(calibrated_once, command):
    """Before they see that there is no such model."""
    got = left(">&-", command, "sounds", "--model", "none.safetensors")
    assert got.code == Exit.RESOURCE
    assert one_error(got.err).startswith("error: stdout cannot be written: it is closed; ")


@pytest.mark.parametrize("format", ["csv", "json"])
def test_classify_ends_when_its_reader_has_gone_or_its_disk_is_full(calibrated_once, format):
    assert left(BROKEN_OUT, "classify", "sounds", "--format", format).code == 0
    assert left(">/dev/full", "classify", "sounds", "--format", format).code == Exit.RESOURCE


@pytest.mark.parametrize("redirections", ["2>/dev/full", "<&- 2>&-"])
def test_the_work_is_done_without_stderr(calibrated_once, redirections):
    got = left(redirections, "classify", "sounds/hum-3-0.wav")
    assert (got.code, got.out.count(b"hum-3-0")) == (0, 1)
    assert left(redirections, "calibrate").code == 0


def test_no_file_of_the_cache_gets_the_number_of_a_stream(calibrated_once):
    """What a library prints to a stream that was closed would be written into it."""
    (calibrated_once / "loud.py").write_text(
        "import os\nfrom tests.support.toys import ResNet\n"
        "def build(num_classes):\n    os.write(1, b'loud')\n    os.write(2, b'loud')\n    return ResNet(num_classes)\n"
    )
    got = left("<&- >&- 2>&-", "extract", "--network", "loud:build", "--cache", "loud")
    assert got.code == 0
    assert left("", "cache", "verify", "--full", "--cache", "loud").code == 0


@pytest.mark.parametrize("redirections", [">&-", ">/dev/full", BROKEN_OUT, "2>&-"])
def test_the_completion_of_the_shell(calibrated_once, redirections):
    more = {"_GRAMCLI_COMPLETE": "complete_bash", "COMP_WORDS": "gramcli cal", "COMP_CWORD": "1"}
    assert left("", **more).out == b"calibrate\n"
    got = left(redirections, **more)
    assert got.code == (Exit.RESOURCE if redirections in LOST_OUT else Exit.OK)


@pytest.mark.slow
@pytest.mark.parametrize("redirections", [">&-", ">/dev/full", "2>&-"])
def test_demo_does_all_its_steps(tmp_path, monkeypatch, redirections):
    monkeypatch.chdir(tmp_path)
    assert left(redirections, "demo").code == (Exit.OK if "2" in redirections else Exit.RESOURCE)
    assert Path("gramcli-demo/.gramcli/decision.safetensors").is_file()


LOUD = """
import logging, sys, threading, warnings
from tests.support.toys import ResNet

class Broken:
    def __del__(self):
        raise ValueError("/secret/\\x1b[31mpath")

def fail():
    raise ValueError("/secret/path")

def build(num_classes):
    warnings.warn("/secret/\\x1b[31mpath")
    logging.getLogger("some.library").error("/secret/\\x1b[31mpath")
    broken = Broken()
    del broken
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    return ResNet(num_classes)
"""


def test_what_libraries_tell_is_kept_off_stderr(calibrated_once):
    (calibrated_once / "telling.py").write_text(LOUD)
    got = left("", "extract", "--network", "telling:build", "--cache", "telling")
    assert got.code == 0
    assert "secret" not in got.err
    debug = left("", "--debug", "extract", "--network", "telling:build", "--cache", "telling2")
    assert debug.err.count("secret") == 3
    assert "\x1b" not in debug.err


PRINTERS = {
    "print",
    "sys.stdout",
    "sys.stderr",
    "sys.stdout.write",
    "sys.stderr.write",
    "typer.echo",
    "traceback.print_exc",
}
ALLOWED = {("cli/streams.py", "sys.stderr"), ("demo/train.py", "print")}
"""The encoding of stderr is asked for; the program that trains the demo's network is no command."""


def test_only_one_module_prints():
    package = ROOT / "gramcli"
    found = {
        (path.relative_to(package).as_posix(), ast.unparse(node))
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute | ast.Name) and ast.unparse(node) in PRINTERS
    }
    assert found <= ALLOWED


@pytest.mark.parametrize(
    ("variable", "value"),
    [("TERMINAL_WIDTH", "abc"), ("COLUMNS", "99999999999"), ("COLUMNS", "-1"), ("LINES", "²")],
)
def test_odd_sizes_of_a_terminal_do_not_matter(variable, value):
    assert left("", "--help", **{variable: value}).code == Exit.OK


@pytest.mark.parametrize("more", [{}, {"COMP_WORDS": "gramcli ex", "COMP_CWORD": "x"}])
def test_a_shell_that_asks_oddly_for_completions_gets_none(more):
    ended = left("", _GRAMCLI_COMPLETE="complete_bash", **more)
    assert (ended.code, ended.err) == (Exit.USAGE, "")
