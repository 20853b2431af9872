"""Cells of CSV and TSV: no spreadsheet runs them, and every text comes back."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.cells import harmless, line, original
from gramcli.dataset import tables

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


@given(st.lists(st.lists(texts, min_size=1, max_size=4), max_size=3), st.sampled_from(",\t"))
def test_rows_come_back_from_a_file(rows, delimiter):
    file = io.StringIO("".join(line(row, delimiter) for row in rows), newline="")
    assert [[*map(original, cells)] for cells in csv.reader(file, delimiter=delimiter)] == rows


@given(st.text("a\r\n\t\"'=,", min_size=1, max_size=6), st.sampled_from(",\t"))
def test_the_manifest_reader_gets_the_texts_without_blanks_around_them(text, delimiter):
    rows = [["file", "label", "x"], ["a.wav", f"b{text}b", "1"], [f"c{text}", "dog", "2"]]
    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        file.write("".join(line(row, delimiter) for row in rows).encode())
        file.flush()
        entries, _ = tables.read(Path(file.name))
    assert [entry.label for entry in entries] == [f"b{text}b", "dog"]
    assert entries[1].file == f"c{text}".strip()


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
