"""The commands as typed, and what they print."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

from gramcli import __version__
from gramcli.cli import render
from gramcli.errors import Exit
from gramcli.inference.classifier import COLUMNS
from tests.support.sets import ROOT
from tests.support.toys import ResNet

COMMANDS = [
    "extract",
    "calibrate",
    "select-layers",
    "classify",
    "check",
    "evaluate",
    "layers",
    "export",
    "demo",
    "cache info",
]


def test_the_four_commands_need_no_argument_but_the_file(project, gramcli):
    extract = gramcli("extract")
    assert (extract.code, extract.out) == (0, "")
    assert "done: 24 clips in 3 shards of .gramcli: 24 computed, 0 already there, 0 failed" in extract.err.replace(
        f"{project}/", ""
    )
    assert gramcli("calibrate").code == 0
    ranked = gramcli("select-layers")
    rows = list(csv.DictReader(io.StringIO(ranked.out)))
    assert len(rows) == 7
    assert [row["rank"] for row in rows] == [str(n) for n in range(1, 8)]
    assert list(rows[0]) == ["rank", "layer", "score", "E_l", "channels", "chosen", "validation_accuracy"]
    assert {row["channels"] for row in rows} == {"4", "8"}
    classify = gramcli("classify", "sounds/hum-3-0.wav")
    (row,) = csv.DictReader(io.StringIO(classify.out))
    assert tuple(row) == COLUMNS
    assert row["path"] == "sounds/hum-3-0.wav"
    assert row["label"] in ("click", "hiss", "hum")
    assert row["status"] == "ok"
    again = gramcli("extract")
    assert "0 computed, 24 already there" in again.err


def test_extract_without_arguments_repeats_the_earlier_one(project, gramcli):
    assert gramcli("extract").code == 0
    (project / "gramcli.toml").unlink()
    again = gramcli("extract")
    assert again.code == 0
    assert "0 computed, 24 already there" in again.err


def test_labels_are_held_out(project, gramcli):
    settings = project / "gramcli.toml"
    settings.write_text(settings.read_text().replace('["click", "hiss", "hum"]', '["hum"]'))
    done = gramcli("extract", "--hold-out", "click", "--hold-out", "hiss", "--condition", "gain:-3")
    assert done.code == 0, done.err
    assert "held out: click, hiss: 4 test clips are kept as unknown sounds, 12 of" in done.err
    assert "12 clips in " in done.err
    assert '"unknown": 4' in gramcli("cache", "info", "--json").out
    again = gramcli("extract", "--hold-out", "click,hiss")
    assert "0 computed, 12 already there" in again.err
    (project / "w").mkdir()
    trained = gramcli("train", "--hold-out", "click,hiss", "--epochs", "1", "--out", "w/w.safetensors")
    assert trained.code == 0, trained.err
    assert "4 training and 2 validation clips, 1 classes of 4 clips" in trained.err
    wrong = gramcli("extract", "--hold-out", "clack")
    assert wrong.code == Exit.USAGE
    assert "data.hold_out: no clip is labelled 'clack'; there are click, hiss, hum" in wrong.error


def test_later_commands_need_no_settings_file(calibrated, gramcli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = gramcli("classify", "--cache", calibrated / ".gramcli", calibrated / "sounds")
    assert done.code == 0
    assert len(done.out.splitlines()) == 25


def test_evaluate_json(calibrated, gramcli):
    document = json.loads(gramcli("evaluate", "--json").out)
    assert list(document) == ["format", "split", "default", "classes", "conditions", "verdict", "unknown"]
    assert (document["split"], document["default"]) == ("test", "fused")
    clean = document["conditions"]["clean"]
    assert (clean["clips"], clean["failed"], clean["groups"]) == (6, 0, 3)
    assert list(clean["decisions"]) == ["map", "temperature", "gram", "fused"]
    for name, measures in clean["decisions"].items():
        assert 0 <= measures["accuracy"] <= 1
        assert (measures["brier"] is None) == (name == "gram")
    assert sum(map(sum, clean["confusion"])) == 6
    assert (clean["comparison"]["groups"], clean["comparison"]["low"]) == (3, None)
    assert "too few groups for an interval" in document["verdict"]
    told = "Nothing can be concluded from the validation split: statistics and rule were fitted on these clips"
    assert json.loads(gramcli("evaluate", "--split", "validation", "--json").out)["verdict"].startswith(told)
    assert f"verdict: {told}" in gramcli("evaluate", "--split", "validation", "-q", "--format", "csv").err
    assert told in gramcli("evaluate", "--split", "validation", "-q", "--format", "table").out
    assert gramcli("evaluate", "-q", "--format", "csv").err == ""


@pytest.mark.parametrize("format", ["table", "csv", "json", "jsonl"])
def test_classify_formats(calibrated, gramcli, format):
    done = gramcli("classify", "--format", format, "sounds/hiss-3-0.wav", "sounds/hiss-3-1.wav")
    assert done.code == 0
    if format == "json":
        document = json.loads(done.out)
        assert document["format"] == 1
        rows = document["rows"]
    elif format == "jsonl":
        rows = [json.loads(line) for line in done.out.splitlines()]
    elif format == "csv":
        rows = list(csv.DictReader(io.StringIO(done.out)))
    else:
        assert "hiss-3-0.wav" in done.out
        assert max(map(len, done.out.splitlines())) <= 80
        (bad := calibrated / "bad.wav").write_text("no audio")
        mixed = gramcli("classify", "--format", format, "sounds/hiss-3-0.wav", bad)
        _, _, failed, why = mixed.out.splitlines()
        assert failed.split() == ["bad.wav", "failed"]
        assert why.startswith(f"failed: {bad}: not audio")
        return
    assert [tuple(row) for row in rows] == [COLUMNS, COLUMNS]
    assert [row["path"] for row in rows] == ["sounds/hiss-3-0.wav", "sounds/hiss-3-1.wav"]


def test_export_and_classify_elsewhere(calibrated, gramcli, tmp_path, monkeypatch):
    here = gramcli("classify", "sounds")
    assert gramcli("export", tmp_path / "model.safetensors").code == 0
    (calibrated / "gramcli.toml").rename(tmp_path / "away.toml")
    (calibrated / ".gramcli").rename(tmp_path / "away")
    assert gramcli("classify", "--model", tmp_path / "model.safetensors", "sounds").out == here.out


def test_export_does_not_replace_the_checkpoint(project, gramcli):
    save_file(ResNet(3).state_dict(), "net.safetensors")
    before = Path("net.safetensors").read_bytes()
    assert gramcli("extract", "--weights", "net.safetensors").code == 0
    for command in ("calibrate", "select-layers"):
        assert gramcli(command).code == 0
    done = gramcli("export", "net.safetensors")
    assert (done.code, Path("net.safetensors").read_bytes()) == (Exit.USAGE, before)
    assert "net.safetensors: exists and is no model of gramcli; name another file" in done.err


def test_layers(project, gramcli):
    done = gramcli("layers", "--layers", "layer1.0.*", "--json")
    document = json.loads(done.out)
    assert document["network"] == "tests.support.toys:ResNet"
    names = {row["layer"]: row for row in document["rows"]}
    assert list(names)[:4] == ["act1", "layer1.0.relu", "layer1.0.relu#1", "layer1.0.relu#2"]
    assert names["layer1.0.relu#1"] | {"positions": 0} == {
        "layer": "layer1.0.relu#1",
        "call": 1,
        "type": "ReLU",
        "channels": 4,
        "positions": 0,
        "bytes": 16,
        "recorded": True,
    }
    assert not names["layer1.1.relu"]["recorded"]
    assert "3 layers, 16 channels, 64 B a clip" in done.err


def test_layers_takes_num_classes_in_place_of_its_own(project, gramcli):
    toml = project / "gramcli.toml"
    toml.write_text("[network.args]\nnum_classes = 5\n")
    done = gramcli("layers", "test_resnet", "--json")
    assert (done.code, len(json.loads(done.out)["rows"])) == (0, 12), done.err


def test_layers_says_what_it_does_not_capture(project, gramcli):
    done = gramcli("layers", "tests.support.toys:Panns", "--kind", "waveform")
    assert "conv_block1:relu_#1" in done.out
    assert "not recorded: :sigmoid (sigmoid)" in done.err


def test_cache_info_and_verify(calibrated, gramcli):
    told = json.loads(gramcli("cache", "info", "--json").out)
    assert told["clips"] == {"train": 12, "validation": 6, "test": 6}
    assert (told["layers"], told["calibrated"], told["layers selected"]) == (7, "yes", "yes")
    assert "tests.support.toys:ResNet" in gramcli("cache", "info").out
    assert gramcli("cache", "verify").out == "7 files, none damaged\n"


def test_preset_paper(calibrated, gramcli):
    assert gramcli("calibrate", "--preset", "paper").code == 0
    done = gramcli("select-layers", "--preset", "paper", "--json")
    assert json.loads(done.out)["ranking"] == "paper"
    wrong = gramcli("calibrate", "--preset", "papre")
    assert (wrong.code, wrong.error) == (2, "error: unknown preset 'papre'; there are paper (see --help)") or (
        wrong.code == 2 and "unknown preset 'papre'" in wrong.error
    )


def test_quiet_and_verbose(project, gramcli):
    assert gramcli("extract", "-q").err == ""
    assert "note: frontend.n_mels = 16" in gramcli("extract", "-v").err


def test_environment_and_flags_override_the_file(project, gramcli, monkeypatch):
    monkeypatch.setenv("GRAMCLI_FRONTEND_N_MELS", "20")
    monkeypatch.setenv("GRAMCLI_CACHE_DIR", "other")
    assert gramcli("extract", "--hop-ms", "10").code == 0
    view = json.loads((project / "other" / "views" / "clean" / "view.json").read_text())
    assert view["identity"]["frontend"]["n_mels"] == 20
    assert view["identity"]["frontend"]["hop_ms"] == 10


@pytest.mark.parametrize("command", COMMANDS)
def test_help(gramcli, command):
    done = gramcli(*command.split(), "-h")
    assert done.code == 0
    assert "Usage: gramcli " + command in done.out
    assert re.search(rf"Examples?: +\n +\n gramcli {command}", done.out), "help shows how the command is typed"
    for flag in re.findall(r"--[a-z-]+", done.out):
        assert flag == flag.lower()


def test_help_lists_the_commands_in_the_order_of_their_use(gramcli):
    out = gramcli("--help").out
    words = ["train", "extract", "calibrate", "select-layers", "evaluate", "check", "classify", "export", "cache"]
    places = [re.search(rf"^│ {word} +[A-Z]", out, re.MULTILINE).start() for word in words]
    assert places == sorted(places)


def test_help_shows_every_default_of_the_settings(gramcli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    out = gramcli("extract", "--help").out
    for text in ("(default: 16000)", "(default: 1e-10)", "(default: zero)", "(default: in_chans=1)", "(default: *)"):
        assert text in out


def test_version(gramcli):
    assert gramcli("--version").out == f"gramcli {__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["extract", "--help"], ["classify", "--help"], ["cache", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    script = (
        "import sys\nfrom gramcli.cli.app import run\n"
        f"code = run({arguments})\n"
        "heavy = {'torch', 'timm', 'torchaudio', 'scipy', 'h5py', 'numpy', 'soundfile'} & set(sys.modules)\n"
        "assert code == 0 and not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def test_plain_values_for_json():
    assert render.json_value({"a": float("nan"), "b": [float("inf"), 1.5], 3: "x"}) == {
        "a": None,
        "b": [None, 1.5],
        "3": "x",
    }


def test_sizes_for_people():
    assert [render.size(n) for n in (12, 2048, 5 * 2**20, 3 * 2**40)] == ["12 B", "2.0 KiB", "5.0 MiB", "3072.0 GiB"]


def test_evaluate_judges_rivals_and_folds_and_refuses_what_does_not_go_together(calibrated, gramcli):
    judged = gramcli("evaluate", "--rivals", "--format", "csv")
    assert judged.code == 0, judged.err
    assert {line.split(",")[1] for line in judged.out.splitlines()[1:]} >= {"fused", "lda", "probe"}
    for arguments, message in (
        (("sounds/manifest.csv",), "error: sounds/manifest.csv: a manifest is only used with --folds"),
        (("--override-metadata",), "error: --override-metadata is only used with --folds"),
        (
            ("--folds", "x-{fold}", "--split", "validation"),
            "error: --folds evaluates the test clips with each fold's own",
        ),
        (("--folds", "x-{fold}", "--weights", "w"), "error: --folds evaluates the test clips with each fold's own"),
        (("--folds", "x-{fold}"), "error: manifest.csv: has no fold column"),
        (("--folds", "x"), "error: --folds x: give one checkpoint per fold, as in resnet18-{fold}.safetensors"),
    ):
        refused = gramcli("evaluate", *arguments)
        assert refused.code == Exit.USAGE
        assert refused.error.startswith(message)
