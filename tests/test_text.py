"""Text for people: nothing in a name changes what a terminal shows beside it."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from gramcli.text import natural_sorted, shortened, shown

anything = st.text(st.characters())  # with surrogates


@given(anything)
def test_what_is_shown_is_printable_utf_8_and_escaped_once(text):
    seen = shown(text)
    assert seen.isprintable()
    seen.encode()
    assert shown(seen) == seen


def test_controls_of_terminals_and_of_writing_direction():
    assert shown("\x1b]0;x\x07\x9b\x7f") == r"\x1b]0;x\x07\x9b\x7f"
    assert shown("\u202egnp.wav\u2066\u200b\u2028") == r"\u202egnp.wav\u2066\u200b\u2028"
    assert shown("bad\udcff") == r"bad\udcff"


@given(st.text(max_size=60), st.integers(10, 60))
def test_a_long_text_keeps_its_ends(text, most):
    short = shortened(text, most)
    assert len(short) == min(len(text), most)
    assert short[:6] == text[:6]
    assert short == text or (short[-1] == text[-1] and " … " in short)


def test_numbers_in_labels_are_compared_by_value_however_long_they_are():
    long = "9" * 5000
    assert natural_sorted([f"a1{long}", f"a{long}", "a10", f"a0{long}", "a2"]) == [
        "a2",
        "a10",
        f"a0{long}",
        f"a{long}",
        f"a1{long}",
    ]


@given(st.lists(st.text("a01", max_size=4)))
def test_labels_are_sorted_as_by_their_numbers(labels):
    def key(label):
        return [int(part) if part.isdigit() else part for part in re.split("([0-9]+)", label)], label

    assert natural_sorted(labels) == sorted(labels, key=key)
