from __future__ import annotations

import csv
import io

import pytest

from gramcli.dataset import tables
from gramcli.errors import UsageError
from gramcli.inference.classifier import Prediction
from gramcli.inference.dcase_submission import submission

CLASSES = ("bus", "park", "tram")


def window(path: str, label: str | None, *chances: float) -> Prediction:
    return Prediction(path, label=label, probabilities=dict(zip(CLASSES, chances, strict=True)) if chances else None)


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text), delimiter="\t"))


def test_a_line_a_recording_with_probabilities():
    text = submission(
        [window("/x/audio/0.wav", "bus", 0.5, 0.3, 0.2), window("/x/audio/1.wav", "tram", 0, 0, 1)], CLASSES
    )
    assert rows(text) == [
        ["filename", "scene_label", "bus", "park", "tram"],
        ["audio/0.wav", "bus", "0.500000", "0.300000", "0.200000"],
        ["audio/1.wav", "tram", "0.000000", "0.000000", "1.000000"],
    ]
    assert text.endswith("\n")


def test_without_probabilities_the_first_two_columns():
    text = submission([window("audio/0.wav", "bus"), window("0.wav", "park")], CLASSES)
    assert rows(text) == [["filename", "scene_label"], ["audio/0.wav", "bus"], ["0.wav", "park"]]


def test_windows_of_one_recording_are_joined():
    chances = [window("a/0.wav", "bus", 0.5, 0.4, 0.1), window("a/0.wav", "park", 0.1, 0.8, 0.1)]
    assert rows(submission(chances, CLASSES))[1] == ["a/0.wav", "park", "0.300000", "0.600000", "0.100000"]
    most = [window("a/0.wav", label) for label in ("tram", "bus", "bus")]
    assert rows(submission(most, CLASSES))[1] == ["a/0.wav", "bus"]


def test_one_window_keeps_the_label_of_the_rule():
    """A rule may decide otherwise than by the largest probability."""
    assert rows(submission([window("a/0.wav", "tram", 0.5, 0.4, 0.1)], CLASSES))[1][1] == "tram"


def test_what_failed_has_no_line():
    assert rows(submission([window("a/0.wav", None), window("a/1.wav", "bus")], CLASSES))[1:] == [["a/1.wav", "bus"]]
    assert rows(submission([], CLASSES)) == [["filename", "scene_label"]]


def test_what_the_format_cannot_hold_is_refused():
    with pytest.raises(UsageError, match=r"a/x\\ty\.wav: a tab"):
        submission([window("a/x\ty.wav", "bus")], CLASSES)
    with pytest.raises(UsageError, match=r"1/a/0\.wav and 2/a/0\.wav would both be a/0\.wav"):
        submission([window("1/a/0.wav", "bus"), window("2/a/0.wav", "bus")], CLASSES)


def test_names_and_labels_that_a_spreadsheet_would_run_are_read_back_by_the_manifest_reader(tmp_path):
    labels = ("=1+1", "'@x", '"quoted"')
    names = ["=a.wav", "-b/c.wav", "'=d.wav", 'e"f.wav']
    predictions = [
        Prediction(name, label=label, probabilities={one: 0.5 for one in labels})
        for name, label in zip(names, (*labels, labels[0]), strict=True)
    ]
    text = submission(predictions, labels)
    assert text.splitlines()[:2] == [
        'filename\tscene_label\t\'=1+1\t\'\'@x\t"""quoted"""',
        "'=a.wav\t'=1+1\t0.500000\t0.500000\t0.500000",
    ]
    path = tmp_path / "submission.tsv"
    path.write_text(text)
    entries, _ = tables.read(path)
    assert [(one.file, one.label) for one in entries] == [*zip(names, (*labels, labels[0]), strict=True)]
