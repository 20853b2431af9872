"""``gramcli evaluate --unknown`` as typed, what it prints, and how it ends."""

from __future__ import annotations

import csv
import io
import json
import shutil

import pytest

from gramcli.cli.app import run
from gramcli.errors import Exit
from tests.support.commands import TOML
from tests.support.sets import ROOT, write_sources, write_strange


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A calibrated project with 30 test clips, and other sounds."""
    folder = tmp_path_factory.mktemp("sources")
    write_sources(folder / "sounds", tests=10)
    (folder / "gramcli.toml").write_text(TOML)
    write_strange(folder / "odd", 12)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        patch.chdir(folder)
        for command in ("extract", "calibrate", "select-layers"):
            assert run([command, "--quiet"]) == 0
    return folder


@pytest.fixture
def project(sources, tmp_path, monkeypatch):
    """A copy of it, as the working folder."""
    shutil.copytree(sources, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def test_a_second_table_fits_a_terminal(project, gramcli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    before = gramcli("evaluate", "--format", "table")
    done = gramcli("evaluate", "--unknown", "odd", "--format", "table")
    assert done.code == Exit.OK
    assert done.out.startswith(before.out)
    lines = done.out[len(before.out) :].splitlines()
    head = next(n for n, line in enumerate(lines) if line.startswith("score "))
    title = " ".join(" ".join(lines[:head]).split())
    assert title == "odd: 12 unknown windows of 12 files; 30 known clips of 30 groups"
    assert lines[head].split() == ["score", "AUROC", "AUPR", "FPR95", "AUROC*", "AUPR*", "FPR95*"]
    rows = lines[head + 1 : head + 12]
    assert [row[:25].strip() for row in rows] == [
        "strangeness", "max-softmax", "energy", "max-logit", "Mahalanobis, all layers", "5th neighbour, all layers",
        "Mahalanobis, mean log-mel", "length", "level", "bandwidth", "share of zero samples",
    ]  # fmt: skip
    assert max(len(line) for line in lines[: head + 12]) <= 80
    *_, beyond, sentence = lines
    assert beyond == "100.0% of these unknown sounds are called unknown"
    # a chord that is chopped on and off is digital silence half of the time, and louder than all else
    assert "explains this result" in sentence


def test_json_has_all_and_the_other_formats_the_sentence(project, gramcli):
    document = json.loads(gramcli("evaluate", "--unknown", "odd", "--json").out)
    (found,) = document["unknown"]
    assert (found["folder"], found["files"], found["unknown"], found["known"]) == ("odd", 12, 12, 30)
    assert found["scores"]["deviation"]["all"]["auroc"] > 0.9
    assert len(found["interval"]) == 2
    assert json.loads(gramcli("evaluate", "--json").out)["unknown"] is None
    for format in ("csv", "jsonl"):
        done = gramcli("evaluate", "--unknown", "odd", "--format", format)
        assert done.out == gramcli("evaluate", "--format", format).out
        assert f"verdict: {found['verdict']}" in done.err
    rows = csv.DictReader(io.StringIO(gramcli("evaluate", "--unknown", "odd").out))
    assert next(rows)["decision"] == "map"
    assert gramcli("evaluate", "--unknown", "odd", "-q").err == ""


def test_labels_held_out(project, gramcli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = (project / "gramcli.toml").read_text().replace('["click", "hiss", "hum"]', '["hiss", "hum"]')
    (project / "gramcli.toml").write_text(text)
    for command in (["extract", "--hold-out", "click"], ["calibrate"], ["select-layers"]):
        assert gramcli(*command, "--cache", "held").code == 0
    done = gramcli("evaluate", "--cache", "held", "--format", "table")
    assert "click, held out: 10 unknown clips of 10 groups; 20 known clips of 20 groups" in " ".join(done.out.split())
    assert done.code == Exit.OK


def test_some_files_failed(project, gramcli):
    (project / "odd" / "bad.wav").write_text("no audio")
    for format in ("table", "csv", "json"):
        done = gramcli("evaluate", "--unknown", "odd", "--format", format)
        assert done.code == Exit.PARTIAL
        assert done.error.startswith("error: 1 of 13 files failed; the first, odd/bad.wav: not audio")
        assert done.out
    assert "not audio" in json.loads(done.out)["unknown"][0]["failed"]["odd/bad.wav"]


def test_what_is_refused(project, gramcli):
    missing = gramcli("evaluate", "--unknown", "missing")
    assert (missing.code, "missing: there is no such folder" in missing.error) == (Exit.NO_INPUT, True)
    split = gramcli("evaluate", "--unknown", "odd", "--split", "train")
    assert (split.code, "--unknown compares sounds with the test split" in split.error) == (Exit.USAGE, True)
    known = gramcli("evaluate", "--unknown", "sounds")
    assert (known.code, "150 of 150 files are clips of the cache" in known.error) == (Exit.USAGE, True)
    assert (missing.out, split.out, known.out) == ("", "", "")
