"""Cells of CSV and TSV: no spreadsheet runs them, and every text comes back."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.cells import harmless, original

STARTS = "=+-@\t\r\n＝＋－＠"
texts = st.text() | st.text(f"'{STARTS}1.e", max_size=6)


@given(texts)
def test_every_text_comes_back(text):
    assert original(harmless(text)) == text


@given(texts)
def test_no_cell_but_a_number_begins_as_a_formula(text):
    cell = harmless(text)
    if cell[:1] and cell[0] in STARTS:
        assert cell == text
        assert abs(float(cell)) < float("inf")


@given(st.lists(texts, min_size=1, max_size=4), st.sampled_from(",\t"))
def test_a_row_comes_back_from_a_file(row, delimiter):
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter).writerow(map(harmless, row))
    assert [
        [*map(original, cells)] for cells in csv.reader(io.StringIO(file.getvalue(), newline=""), delimiter=delimiter)
    ] == [row]


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=HYPERLINK(1).wav", "'=HYPERLINK(1).wav"),
        ("'=1", "''=1"),
        ("''＝1", "'''＝1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-1+cmd|'/c calc'!A0", "'-1+cmd|'/c calc'!A0"),
        ("-", "'-"),
        ("-inf", "'-inf"),
        ("-1e999", "'-1e999"),
        ("-1_000", "'-1_000"),
        ("-١", "'-١"),
    ],
)
def test_what_gets_an_apostrophe(text, cell):
    assert harmless(text) == cell
    assert original(cell) == text


@pytest.mark.parametrize("text", ["", "dog", "'", "'dog'", "a=1", "-0.5", "+3", "-1e-05", "-.5", "-5.", "1e999", " =1"])
def test_what_stays_as_it_is(text):
    assert harmless(text) == text
    assert original(text) == text
