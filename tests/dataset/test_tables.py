from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gramcli.dataset import tables
from gramcli.dataset.tables import Entry
from gramcli.errors import NoInputError, UsageError


def made(tmp_path: Path, text: str | bytes, name: str = "meta.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("file", ["filename", "file_name", "path", "file", "audio", "FileName"])
@pytest.mark.parametrize("label", ["label", "category", "class", "scene_label"])
def test_names_of_columns(tmp_path: Path, file: str, label: str) -> None:
    entries, notes = tables.read(made(tmp_path, f"{label},x,{file}\ndog,1,a.wav\n"))
    assert entries == [Entry("meta.csv:2", "a.wav", "dog")]
    assert notes == []


@pytest.mark.parametrize("group", ["group", "source", "identifier"])
@pytest.mark.parametrize("split", ["split", "subset", "fold"])
@pytest.mark.parametrize(("start", "end"), [("start", "end"), ("onset", "offset")])
def test_names_of_optional_columns(tmp_path: Path, group: str, split: str, start: str, end: str) -> None:
    header = f"file,label,{split},{group},{start},{end}"
    entries, notes = tables.read(made(tmp_path, f"{header}\na.wav,dog,val,g1,1.5,3\nb.wav,cat,Training,,,\n"))
    assert entries == [
        Entry("meta.csv:2", "a.wav", "dog", "validation", "g1", 1.5, 3.0),
        Entry("meta.csv:3", "b.wav", "cat", "train"),
    ]
    assert notes == []


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_delimiters_line_ends_and_byte_order_mark(tmp_path: Path, delimiter: str, end: str, mark: bytes) -> None:
    lines = [["filename", "label"], ['"a b.wav"', "Köter"], [], ["c.wav", '"two, words"'.replace(",", delimiter)]]
    text = end.join(delimiter.join(line) for line in lines)
    entries, _ = tables.read(made(tmp_path, mark + text.encode()))
    assert entries == [Entry("meta.csv:2", "a b.wav", "Köter"), Entry("meta.csv:4", "c.wav", f"two{delimiter} words")]


def test_a_table_of_one_column(tmp_path: Path) -> None:
    entries, _ = tables.read(made(tmp_path, "filename\naudio/a, b.wav\n"), labelled=False)
    assert [entry.file for entry in entries] == ["audio/a, b.wav"]


def test_a_quoted_line_end_counts_its_lines(tmp_path: Path) -> None:
    entries, _ = tables.read(made(tmp_path, '\n\nfile,label\n"a\nb.wav",dog\nc.wav,cat\n'))
    assert [entry.origin for entry in entries] == ["meta.csv:4", "meta.csv:6"]


def test_json_lines(tmp_path: Path) -> None:
    text = '{"file_name": "a.wav", "label": 3, "start": 1, "end": 2.5}\n\n{"label": null, "file_name": "b"}\n'
    entries, _ = tables.read(made(tmp_path, text, "metadata.jsonl"))
    assert entries == [Entry("metadata.jsonl:1", "a.wav", "3", "", "", 1.0, 2.5), Entry("metadata.jsonl:3", "b")]


def test_the_first_of_two_columns_counts(tmp_path: Path) -> None:
    entries, notes = tables.read(made(tmp_path, "class,file,label,path\n3,a.wav,dog,/tmp/a.wav\n"))
    assert entries == [Entry("meta.csv:2", "/tmp/a.wav", "dog")]
    assert notes == [
        "meta.csv: column 'path' is used as the file, 'file' is not used",
        "meta.csv: column 'label' is used as the label, 'class' is not used",
    ]


def test_an_end_without_start_begins_at_zero(tmp_path: Path) -> None:
    entries, _ = tables.read(made(tmp_path, "file,label,start,end\na,x,,2\nb,x,3,\n"))
    assert [(entry.start, entry.end) for entry in entries] == [(0.0, 2.0), (3.0, None)]


FOLDS = "file,label,fold\na,x,1\nb,x,2\nc,x,3\n"


@pytest.mark.parametrize(
    ("validation", "test", "expected"),
    [
        ("1", "3", ["validation", "train", "test"]),
        (None, "2", ["train", "test", "train"]),
        ("2", None, ["train", "validation", "train"]),
    ],
)
def test_folds(tmp_path: Path, validation: str | None, test: str | None, expected: list[str]) -> None:
    entries, notes = tables.read(made(tmp_path, FOLDS), validation, test)
    assert [entry.split for entry in entries] == expected
    assert notes == []


def test_folds_that_nobody_asks_for_are_ignored_with_a_word(tmp_path: Path) -> None:
    entries, notes = tables.read(made(tmp_path, FOLDS))
    assert {entry.split for entry in entries} == {""}
    assert notes == [
        "meta.csv: 'fold' is ignored (3 values); data.validation_fold and data.test_fold would make splits of it"
    ]


def test_folds_win_over_a_split_column_with_a_word(tmp_path: Path) -> None:
    text = "file,label,split,fold\na,x,train,1\nb,x,test,2\n"
    entries, notes = tables.read(made(tmp_path, text), test_fold="1")
    assert [entry.split for entry in entries] == ["test", "train"]
    assert notes == ["meta.csv: splits are made of 'fold', 'split' is not used"]


def test_folds_in_a_split_column(tmp_path: Path) -> None:
    entries, _ = tables.read(made(tmp_path, "file,label,split\na,x,1\nb,x,2\n"), test_fold="2")
    assert [entry.split for entry in entries] == ["train", "test"]


@pytest.mark.parametrize(
    ("text", "folds", "reason"),
    [
        ("file,label\na,x\n", ("1", "2"), "meta.csv: has no fold column"),
        (FOLDS, ("1", "1"), "both '1'; they must differ"),
        (FOLDS, ("1", "9"), r"'fold' has no value '9' \(data.test_fold\); its values are 1, 2, 3"),
        (FOLDS + "d,x,\n", ("1", "2"), "meta.csv:5: no value in 'fold'"),
        ("file,label,split\na,x,trian\n", (None, None), "meta.csv:2: split 'trian' is none of train, validation, test"),
        ("name,label\na,x\n", (None, None), r"no column of files \(filename, .*\) among 'name', 'label'"),
        ("file,kind\na,x\n", (None, None), r"no column of labels \(label, .*\) among 'file', 'kind'"),
        ("a.wav,dog\nb.wav,cat\n", (None, None), "no column of files .* among 'a.wav', 'dog'"),
        ("file,label\n,x\n", (None, None), "meta.csv:2: no file name"),
        ("file,label\na,x\nb\n", (None, None), "meta.csv:3: 1 fields where the header has 2"),
        ("file,label\na,x,y\n", (None, None), "meta.csv:2: 3 fields where the header has 2"),
        ("file,label,file\na,x,y\n", (None, None), "meta.csv:1: 2 columns are called 'file'; rename all but one"),
        ('file,label\na,"x\n', (None, None), "meta.csv:2: unexpected end of data"),
        (f"file,label\na,{'x' * 140000}\n", (None, None), "meta.csv:2: field larger than field limit"),
        ("file,label\na,x\nb,\0\n", (None, None), "meta.csv:3: holds a NUL character"),
        (b"file,label\na,x\nb,caf\xe9\n", (None, None), "meta.csv:3: is not UTF-8"),
        ("file,label,start\na,x,soon\n", (None, None), "meta.csv:2: 'soon' is no time in seconds"),
        ("file,label,start\na,x,-1\n", (None, None), "meta.csv:2: '-1' is no time"),
        ("file,label,start\na,x,nan\n", (None, None), "meta.csv:2: 'nan' is no time"),
        ("file,label,start,end\na,x,2,2\n", (None, None), "meta.csv:2: the stretch ends at 2 s, but begins at 2 s"),
        ("file,label,offset\na,x,2\n", (None, None), "'offset' needs a column 'start' or 'onset'"),
    ],
)
def test_what_cannot_be_understood(
    tmp_path: Path, text: str | bytes, folds: tuple[str | None, str | None], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        tables.read(made(tmp_path, text), *folds)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ["{", "[1]", "3", '{"file": }', '{"a": ' + "9" * 5000 + "}", "[" * 100_000], ids=len)
def test_lines_that_are_no_json_object(tmp_path: Path, line: str) -> None:
    with pytest.raises(UsageError, match=r"m\.jsonl:2: is not .*JSON object"):
        tables.read(made(tmp_path, '{"file": "a", "label": "x"}\n' + line + "\n", "m.jsonl"))


@pytest.mark.parametrize("text", ["", "file,label\n", "\n\n", "\ufeff"])
def test_a_table_without_rows(tmp_path: Path, text: str) -> None:
    with pytest.raises(NoInputError, match=r"meta\.csv: has no rows"):
        tables.read(made(tmp_path, text))


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NoInputError, match=r"x\.csv: cannot be read: No such file"):
        tables.read(tmp_path / "x.csv")


@pytest.mark.parametrize("text", ["\\ud800", "a\\u0000b"])
@pytest.mark.parametrize("line", ['{"file": "%s", "label": "a"}', '{"file": "x", "label": "%s"}', '{"%s": 1}'])
def test_escapes_that_are_no_characters(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "m.jsonl").write_text('{"file": "a.wav", "label": "a"}\n' + line % text + "\n")
    with pytest.raises(UsageError, match=r"m\.jsonl:2: holds a NUL character or an unpaired surrogate"):
        tables.read(tmp_path / "m.jsonl")


def test_a_table_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.csv")
    with pytest.raises(NoInputError, match=r"m\.csv: is not a regular file"):
        tables.read(tmp_path / "m.csv")


def test_cells_that_a_spreadsheet_would_run_are_read_as_gramcli_writes_them(tmp_path: Path) -> None:
    text = "file,label,'=split,group\n'=a.wav,'-5 dB,train,''@x\n'b.wav,-5,train,'\n"
    entries, _ = tables.read(made(tmp_path, text))
    assert [(one.file, one.label, one.group) for one in entries] == [("=a.wav", "-5 dB", "'@x"), ("'b.wav", "-5", "'")]
    as_json = made(tmp_path, '{"file": "\'=a.wav", "label": "\'-x"}\n', "meta.jsonl")
    assert [(one.file, one.label) for one in tables.read(as_json)[0]] == [("'=a.wav", "'-x")]


@pytest.mark.parametrize("role", ["file", "label", "group"])
def test_a_text_that_no_table_could_hold(tmp_path: Path, role: str) -> None:
    row = {"file": "a.wav", "label": "dog", "group": "g", "remark": "x" * 200_000}
    assert tables.read(made(tmp_path, json.dumps(row), "meta.jsonl"))[0][0].label == "dog"
    path = made(tmp_path, json.dumps({**row, role: "x" * 10_001}), "meta.jsonl")
    with pytest.raises(UsageError, match=rf"^meta.jsonl:1: a {role} of 10001 characters; at most 10000 are read$"):
        tables.read(path)


def test_a_table_larger_than_memory(tmp_path: Path) -> None:
    path = made(tmp_path, "file,label\n")
    os.truncate(path, 1 << 40)
    with pytest.raises(UsageError, match="a table has at most 1024; split it"):
        tables.read(path)
