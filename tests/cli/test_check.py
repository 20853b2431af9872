"""``gramcli check`` and ``select-layers --threshold-from`` as typed, what they print, and how they end."""

from __future__ import annotations

import csv
import io
import json
import shutil

import pytest

from gramcli.cli.app import run
from gramcli.errors import Exit
from gramcli.inference.shift_check import COLUMNS
from tests.support.commands import TOML
from tests.support.sets import ROOT, write_site, write_sources, write_strange


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A project whose 60 validation groups set a threshold, and recordings of two kinds."""
    folder = tmp_path_factory.mktemp("sources")
    write_sources(folder / "sounds")
    (folder / "gramcli.toml").write_text(TOML)
    write_site(folder / "place" / "same", 12)
    write_strange(folder / "place" / "odd", 12)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        patch.chdir(folder)
        for command in ("extract", "calibrate"):
            assert run([command, "--quiet"]) == 0
        assert run(["select-layers", "--quiet", "--false-reject", "0.1"]) == 0
    return folder


@pytest.fixture
def limited(sources, tmp_path, monkeypatch):
    """A copy of it, as the working folder."""
    shutil.copytree(sources, tmp_path / "limited")
    monkeypatch.chdir(tmp_path / "limited")
    return tmp_path / "limited"


@pytest.mark.parametrize("format", ["table", "csv", "json", "jsonl"])
def test_formats(limited, gramcli, format):
    done = gramcli("check", "place", "--format", format)
    assert done.code == Exit.OK
    if format == "table":
        title, head, whole, odd, same, *_ = done.out.splitlines()
        assert title.strip() == "windows called unknown; the threshold was set to reject 10%"
        assert head.split() == ["folder", "clips", "windows", "unknown", "95", "%", "interval", "failed", "finding"]
        assert [line.split()[:3] for line in (whole, odd, same)] == [
            ["place", "24", "24"], ["odd", "12", "12"], ["same", "12", "12"],
        ]  # fmt: skip
        assert odd.split()[3:] == ["100.0%", "73.5%", "-", "100.0%", "0", "stranger"]
        assert "sub-folders have more unknown windows" in done.out.replace("\n", " ")
        assert "warning" not in done.err
        return
    if format == "json":
        document = json.loads(done.out)
        assert list(document) == ["format", "threshold", "warnings", "verdict", "failed", "rows"]
        assert (document["threshold"]["groups"], document["threshold"]["folder"]) == (60, None)
        assert document["warnings"]
        assert (document["verdict"], document["failed"]) == ("", {})
        assert set(done.err.splitlines()) <= {line for line in done.err.splitlines() if "ran the code of" in line}
        rows = document["rows"]
    else:
        rows = [json.loads(line) for line in done.out.splitlines()] if format == "jsonl" else list(read(done.out))
        assert "warning: 1 of 2 sub-folders have more unknown windows than the stated 10%: place/odd" in done.err
    assert [tuple(row) for row in rows] == [COLUMNS] * 3
    assert [row["folder"] for row in rows] == ["place", "place/odd", "place/same"]
    assert [int(row["windows"]) for row in rows] == [24, 12, 12]
    assert rows[1]["finding"] == "stranger"
    assert {float(row["false_reject"]) for row in rows} == {0.1}


def read(text):
    return csv.DictReader(io.StringIO(text))


def test_json_for_short_and_quiet(limited, gramcli):
    assert gramcli("check", "place", "--json").out == gramcli("check", "place", "--format", "json").out
    quiet = gramcli("check", "place", "-q")
    assert (quiet.code, quiet.err) == (Exit.OK, "")


def test_a_verdict_where_nothing_is_strange(limited, gramcli):
    done = gramcli("check", "place/same")
    assert "verdict: place/same: " in done.err
    assert "nothing indicates that the statistics do not carry over" in done.err
    assert "warning" not in done.err


def test_from_elsewhere_and_with_an_exported_model(limited, gramcli, tmp_path, monkeypatch):
    here = gramcli("check", limited / "place")
    assert gramcli("export", tmp_path / "model.safetensors").code == 0
    monkeypatch.chdir(tmp_path)
    assert gramcli("check", "--cache", limited / ".gramcli", limited / "place").out == here.out
    assert gramcli("check", "--model", "model.safetensors", limited / "place").out == here.out


def test_the_threshold_of_a_place_and_back(limited, gramcli):
    before = gramcli("check", "place/odd", "--json")
    reset = gramcli("select-layers", "--threshold-from", "place/odd", "--false-reject", "0.25")
    assert reset.code == Exit.OK
    assert "which rejects 25% of recordings like those it was set on (90 % range" in reset.err
    assert "from 12 files of place/odd)" in reset.err
    after = json.loads(gramcli("check", "place/odd", "--json").out)
    assert (after["threshold"]["folder"], after["threshold"]["groups"]) == ("place/odd", 12)
    # the 10th smallest of 12: two lie beyond
    assert (after["rows"][0]["unknown"], after["rows"][0]["finding"]) == (2, "as usual")
    rows = json.loads(gramcli("classify", "place/odd", "--json").out)["rows"]
    assert sum(row["unknown"] for row in rows) == 2
    assert "place/odd" in json.loads(gramcli("cache", "info", "--json").out)["threshold"]
    back = gramcli("select-layers", "--false-reject", "0.1", "--json")
    assert json.loads(back.out)["threshold"]["folder"] is None
    assert "from 60 validation groups)" in back.err
    assert gramcli("check", "place/odd", "--json").out == before.out


def test_the_json_of_select_layers_says_where_the_threshold_is_from(limited, gramcli):
    done = gramcli("select-layers", "--threshold-from", "place/odd", "--false-reject", "0.1", "--json")
    told = json.loads(done.out)["threshold"]
    assert (told["folder"], told["groups"], told["false_reject"]) == ("place/odd", 12, 0.1)


def test_some_files_failed(limited, gramcli):
    (limited / "place" / "same" / "bad.wav").write_text("no audio")
    done = gramcli("check", "place")
    assert done.code == Exit.PARTIAL
    assert done.error.startswith("error: 1 of 25 files failed; the first, place/same/bad.wav: ")
    assert [row["failed"] for row in read(done.out)] == ["1", "0", "1"]
    assert "not audio" in json.loads(gramcli("check", "place", "--json").out)["failed"]["place/same/bad.wav"]
    reset = gramcli("select-layers", "--threshold-from", "place/same", "--false-reject", "0.25")
    assert reset.code == Exit.PARTIAL
    assert reset.error.startswith("error: 1 of 13 files failed; the first, place/same/bad.wav: ")
    assert "from 12 files of place/same)" in reset.err


def test_nothing_to_hear(limited, gramcli):
    (limited / "empty").mkdir()
    (limited / "bad").mkdir()
    (limited / "bad" / "bad.wav").write_text("no audio")
    for command in (["check"], ["select-layers", "--false-reject", "0.25", "--threshold-from"]):
        assert gramcli(*command, "empty").code == Exit.NO_INPUT
        missing = gramcli(*command, "missing")
        assert (missing.code, "missing: there is no such folder" in missing.error) == (Exit.NO_INPUT, True)
    bad = gramcli("check", "bad")
    assert (bad.code, "1 of 1 files failed" in bad.error) == (Exit.NO_INPUT, True)


def test_no_threshold(calibrated, gramcli):
    done = gramcli("check", "sounds")
    assert done.code == Exit.ARTEFACT
    assert done.out == ""
    assert ".gramcli: no threshold for unknown sounds is set" in done.error
    assert "--threshold-from" in done.error


def test_stages_that_have_not_run(project, gramcli):
    for command in (["check", "sounds"], ["select-layers", "--threshold-from", "sounds"]):
        done = gramcli(*command)
        assert (done.code, "run gramcli extract first" in done.error) == (Exit.ARTEFACT, True)


def test_too_few_files_and_clips_of_the_cache(limited, gramcli):
    few = gramcli("select-layers", "--threshold-from", "place/same")
    assert few.code == Exit.USAGE
    assert "place/same: holds 12 files, but a false-reject rate of 0.05 needs at least 19" in few.error
    shutil.copy("sounds/hum-train-0.wav", "place/same")
    seen = gramcli("select-layers", "--threshold-from", "place/same", "--false-reject", "0.25")
    assert seen.code == Exit.USAGE
    assert "1 of 13 files are clips of the training or test split" in seen.error


def test_every_format_tells_how_many_known_clips_are_called_unknown(limited, gramcli):
    (line,) = [line for line in gramcli("evaluate", "--format", "table").out.splitlines()
               if "called unknown" in line]  # fmt: skip
    evaluated = gramcli("evaluate", "--format", "csv")
    shares = {row["decision"]: row["called_unknown"] for row in csv.DictReader(io.StringIO(evaluated.out))}
    assert line.startswith(f"clean: {float(shares.pop('fused')):.1%} of these")
    assert set(shares.values()) == {""}
    records = map(json.loads, gramcli("evaluate", "--format", "jsonl").out.splitlines())
    assert [record["called_unknown"] is None for record in records] == [True, True, True, False]
