"""Lines and tables for people, and what becomes of them in a pipe."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import math
import os
import pty
import struct
import subprocess
import sys
import termios
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.cells import original
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


@pytest.mark.parametrize("columns", ["0", "1"])
def test_a_terminal_without_width(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    assert render._wrapped("a sentence of words that are longer than that").splitlines()[0] == "a sentence of words"


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


EVIL = "\x1b]0;x\x07\x9b31m\u202e\r\n\x7f"


def escapes(text: str) -> set[str]:
    return {c for c in text if not c.isprintable()} - {"\n"}


def test_nothing_for_people_is_printed_raw(capfd):
    render.print_stderr("error", f"a{EVIL}b")
    render.print_text(f"a{EVIL}b")
    render.table(["name"], [{"name": f"a{EVIL}b"}], title=f"a{EVIL}b")
    with render.Bar() as bar:
        bar.note(f"a{EVIL}b")
    out, err = capfd.readouterr()
    assert not escapes(out + err)
    assert out.count(r"\x1b]0;x\x07\x9b31m\u202e") == 3
    assert (out.count("\n"), err.count("\n")) == (4, 2)


def test_a_message_is_cut_in_its_middle(capfd):
    render.print_stderr("error", f"{'n' * 100_000}: not there")
    err = capfd.readouterr().err
    assert len(err) == 2001
    assert err.startswith("error: nnn")
    assert err.endswith("n: not there\n")


@pytest.mark.parametrize("name", [EVIL, "bad\udcff", "odd\ud800", "caf\u00e9 \U0001f426", "\U000e0041"])
def test_json_is_utf_8_and_gives_the_text_back(capfd, name):
    render.print_json({"name": name})
    render.rows(["name"], [{"name": name}], render.Format.jsonl)
    *document, line = capfd.readouterr().out.splitlines()
    assert not escapes("".join([*document, line]))
    assert json.loads("".join(document)) == json.loads(line) == {"name": name}
    assert ("\u00e9" in line) == ("\u00e9" in name)


def test_csv_holds_no_formula_and_numbers_as_they_are(capfd):
    values = {"a": "=1+1", "b": "'@x", "c": -0.5, "d": "-0.5", "e": None, "f": True, "g": math.inf, "h": 3}
    render.rows(list(values), [values], render.Format.csv)
    assert capfd.readouterr().out.splitlines() == ["a,b,c,d,e,f,g,h", "'=1+1,''@x,-0.5,-0.5,,true,,3"]


@given(st.text("a\r\n\t\"'=,\x85", max_size=6), st.text("a\r\n=", max_size=3))
def test_whatever_text_goes_into_csv_comes_back(text, other):
    records = [{"file": text, "n": 0.1}, {"file": other, "n": None}]
    with mock.patch.object(render.streams, "write") as write:
        render.rows(["file", "n"], records, render.Format.csv)
    written = io.StringIO("".join(call.args[0] for call in write.call_args_list), newline="")
    assert [[*map(original, row)] for row in csv.reader(written)] == [["file", "n"], [text, "0.1"], [other, ""]]


def test_csv_holds_bytes_as_they_were_read(capfdbinary):
    render.rows(["a"], [{"a": "bad\udcff"}, {"a": "odd\ud800"}], render.Format.csv)
    assert capfdbinary.readouterr().out == b"a\nbad\xff\nodd\\ud800\n"


def test_no_name_reaches_a_terminal_raw(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "\x1b]0;pwn\x07").mkdir()
    for arguments in (["classify", "\x1b]0;pwn\x07"], ["guide", "\x1b[31m"], ["cache", "info", "--cache", "\x1b[31m"]):
        assert not {c for line in typed(*arguments, columns=80) for c in line if not c.isprintable()}


def test_csv_on_a_terminal_sends_no_escapes_of_strangers(capfd, monkeypatch):
    monkeypatch.setattr("gramcli.cli.streams.stdout_is_terminal", lambda: True)
    render.rows(["a"], [{"a": f"={EVIL}"}], render.Format.csv)
    out = capfd.readouterr().out
    assert not escapes(out)
    assert out.splitlines()[1].startswith("'=\\x1b]0;x")
