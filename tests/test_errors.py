"""Every failure has its exit code, and every name fits on one line."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli import errors
from gramcli.errors import Exit, GramcliError
from gramcli.text import shown

CODES = {
    "GramcliError": 1,
    "UsageError": 2,
    "NoInputError": 3,
    "AudioError": 3,
    "ArtefactError": 4,
    "NewerError": 4,
    "DamagedError": 6,
    "ResourceError": 7,
    "UnsafeError": 8,
    "LockedError": 9,
}


def test_exit_codes_are_those_of_the_table():
    classes = {name: one for name, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, GramcliError)}
    assert {name: int(one.exit_code) for name, one in classes.items()} == CODES
    assert {int(code) for code in Exit} == {0, *range(1, 10), 130, 143}


@given(st.text(st.characters()))
def test_any_name_is_shown_printable_and_can_be_written(name):
    line = shown(name)
    assert line.isprintable()
    line.encode()
    if name.isprintable():
        assert line == name


@given(st.binary())
def test_any_bytes_of_a_file_name_are_shown(name):
    assert shown(name.decode("utf-8", "surrogateescape")).isprintable()


@pytest.mark.parametrize("separator", ["\n", "\r", "\x85", "\u2028", "\u2029", "\v", "\0", "\x1b", "\u202e", "\ue000"])
def test_what_could_break_or_turn_a_line_is_escaped(separator):
    assert separator not in shown(f"a{separator}b")
    assert len(shown(f"a{separator}b").splitlines()) == 1
