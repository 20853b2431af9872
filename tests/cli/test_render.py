"""Lines and tables for people, and what becomes of them in a pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from gramcli.cli import render
from tests.support.sets import ROOT


def typed(*arguments: str, columns: int) -> list[str]:
    """Returns what a command writes on a terminal of so many columns."""
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    environment |= {"PYTHONPATH": str(ROOT), "TERM": "xterm"}
    command = [sys.executable, "-m", "gramcli", *arguments]
    subprocess.run(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment, check=False)
    os.close(terminal)
    text = b""
    try:
        while block := os.read(reader, 4096):
            text += block
    except OSError:  # how Linux tells that the other end is closed
        pass
    os.close(reader)
    return text.decode().splitlines()


def test_sentences_end_between_words_on_a_terminal():
    name = "nowhere/a-long-folder/a-long-name-that-stays-whole.toml"
    lines = typed("calibrate", "--config", name, columns=40)
    assert lines == ["error:", f"{name}:", "cannot be read: No such file or", "directory"]


def test_sentences_are_one_line_in_a_pipe(capfd):
    render.print_stderr("note", "word " * 40)
    render.print_text("word " * 40)
    out, err = capfd.readouterr()
    assert (out.count("\n"), err.count("\n")) == (1, 1)


def test_a_table_in_a_pipe_has_a_whole_caption_and_no_blanks_at_the_end(capfd):
    title = "a caption that is far wider than the two narrow columns of its table"
    render.table(["name", "n"], [{"name": "a", "n": 1}, {"name": "long name", "n": None}], title=title)
    assert capfd.readouterr().out == f"{title}\nname       n\na          1\nlong name\n"


@pytest.mark.parametrize(("file", "seen"), [("short.wav", "short.wav"), ("folders/in/the end.wav", "…the end.wav")])
def test_a_column_is_cut_at_its_left_to_fit(capfd, monkeypatch, file, seen):
    monkeypatch.setenv("COLUMNS", "30")
    render.table(["file", "label"], [{"file": file, "label": "person_sneeze 42"}], shrink="file")
    assert capfd.readouterr().out.splitlines()[1] == f"{seen}  person_sneeze 42"
