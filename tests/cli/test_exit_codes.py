"""Every row of the table of exit codes: one line on stderr that says what, which file, what to do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from gramcli.cli.app import run
from gramcli.errors import Exit
from gramcli.network.build import build
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import NetworkSettings
from gramcli.system.folder_lock import lock
from tests.support.processes import started
from tests.support.sets import ROOT, read_manifest, write_manifest, write_wav

SHARD = Path(".gramcli/views/clean/shards/00001.h5")


def flip(path: Path, place: int = -100) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock"}


def refused(outcome, code: Exit, *words: str) -> None:
    assert outcome.code == code
    for word in words:
        assert word in outcome.error, outcome.error
    assert "Traceback" not in outcome.err


# --- 2: usage


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["extract", "--n-mel", "3"], ["No such option", "--n-mel"]),
        (["extrac"], ["No such command", "extrac"]),
        (["extract", "--n-mels", "many"], ["command line", "frontend.n_mels must be a whole number", "'many'"]),
        (["extract", "--pad", "mirror"], ["segment.pad must be 'zero' or 'repeat'", "'mirror'"]),
        (["extract", "--layers", "layer9.*"], ["'layer9.*' matches none of 7 layers", "gramcli layers"]),
        (["extract", "--network", "resnet81"], ["resnet81", "did you mean"]),
        (["extract", "--network", "no.such:thing"], ["no.such:thing", "there is no module"]),
        (["extract", "--validation-fold", "1"], ["fold"]),
        (["select-layers", "--false-reject", "5"], ["decision.false_reject must be below 1", "'5'"]),
        (["evaluate", "--split", "dev"], ["there is no split dev", "train, validation, test"]),
        (["classify", "x.wav", "--format", "xml"], ["Invalid value for '--format': 'xml' is not one of 'table', "]),
        (["classify"], ["Missing argument"]),
        (["check"], ["Missing argument"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0] in ("extract", "classify") else "",
)
def test_usage(project, gramcli, arguments, words):
    refused(gramcli(*arguments), Exit.USAGE, *words)


def test_priors(calibrated, gramcli):
    told = "prior: the shares of 1 of 3 classes add up to 30"
    refused(gramcli("classify", "sounds/hum-3-0.wav", "--prior", "hum=30"), Exit.USAGE, told)
    refused(gramcli("classify", "sounds/hum-3-0.wav", "--prior", "hum:0.3"), Exit.USAGE, "--prior hum:0.3: give unif")
    apart = gramcli("classify", "sounds/hum-3-0.wav", "--prior", "hum=0.3", "--prior", "hiss=0.7")
    assert apart.code == Exit.OK
    assert gramcli("classify", "sounds/hum-3-0.wav", "--prior", "hum=0.3, hiss=0.7").out == apart.out
    assert gramcli("classify", "sounds/hum-3-0.wav", "--prior", " hum = 0.3 , hiss = 0.7 ").out == apart.out
    even = gramcli("classify", "sounds/hum-3-0.wav", "--prior", "uniform")
    assert even.code == Exit.OK
    assert gramcli("classify", "sounds/hum-3-0.wav", "--prior", " uniform ").out == even.out
    for twice in (["hum=0.3,hum=0.4"], ["hum=0.3", "hum = 0.3"]):
        arguments = [part for one in twice for part in ("--prior", one)]
        refused(gramcli("classify", "sounds/hum-3-0.wav", *arguments), Exit.USAGE, "the class hum is named twice")


def test_a_place_where_no_file_can_be_is_refused_before_the_work(calibrated, gramcli):
    """Before it is seen that the decision is gone."""
    (calibrated / ".gramcli" / "decision.safetensors").unlink()
    for command in (["classify", "sounds", "--submission"], ["export"]):
        refused(gramcli(*command, "."), Exit.USAGE, ".: is a folder; name a file")
        refused(gramcli(*command, "no/x"), Exit.USAGE, "no/x: there is no folder no; make it")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[frontend]\nn_mel = 3", ["unknown key frontend.n_mel", "did you mean 'n_mels'"]),
        ("[front]\nn_mels = 3", ["unknown section [front]", "did you mean 'frontend'"]),
        ("[frontend\n", ["is not TOML"]),
        ("[run]\nbatch = 0", ["run.batch must be at least 1"]),
    ],
)
def test_a_wrong_settings_file(project, gramcli, line, words):
    (project / "gramcli.toml").write_text(line)
    refused(gramcli("extract"), Exit.USAGE, "gramcli.toml", *words)


def test_an_unknown_variable(project, gramcli, monkeypatch):
    monkeypatch.setenv("GRAMCLI_RUN_BATHC", "3")
    refused(gramcli("extract"), Exit.USAGE, "GRAMCLI_RUN_BATHC", "did you mean 'GRAMCLI_RUN_BATCH'")


def test_a_group_in_two_splits(project, gramcli):
    manifest = project / "sounds" / "manifest.csv"
    lines = read_manifest(manifest)
    write_manifest(manifest, [lines[0], *[type(line)(line.file, line.label, line.split, "one") for line in lines[1:]]])
    refused(gramcli("extract"), Exit.USAGE, "manifest.csv:3", "manifest.csv:", "one")
    assert not (project / ".gramcli").exists()


# --- 3: no usable input


def test_no_usable_input(calibrated, gramcli, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.wav").write_text("no audio")
    refused(gramcli("classify", tmp_path / "empty"), Exit.NO_INPUT, "empty")
    refused(gramcli("classify", tmp_path / "bad.wav"), Exit.NO_INPUT, "bad.wav", "not audio")
    refused(gramcli("classify", tmp_path / "missing.wav"), Exit.NO_INPUT, "missing.wav")
    for command in ("classify", "check"):
        refused(gramcli(command, "sounds", "--model", "no.safetensors"), Exit.NO_INPUT, "no.safetensors: no such file")
    refused(gramcli("extract", tmp_path / "empty"), Exit.NO_INPUT, "empty")
    refused(gramcli("extract", "--config", tmp_path / "no.toml"), Exit.NO_INPUT, "no.toml")
    refused(gramcli("extract", "--weights", tmp_path / "no.safetensors"), Exit.NO_INPUT, "no.safetensors")


def test_no_row_resolves(project, gramcli):
    manifest = project / "sounds" / "manifest.csv"
    for line in read_manifest(manifest):
        (project / "sounds" / line.file).unlink()
    outcome = gramcli("extract")
    tried = ["sounds/hum-0-0.wav", "sounds/audio/hum-0-0.wav", "sounds/hum-0-1.wav"]
    refused(outcome, Exit.NO_INPUT, "manifest.csv: none of its 24 rows", *tried, "audio_root")
    assert outcome.error.count(".wav") == 3


# --- 4: artefacts do not fit


def test_stages_that_have_not_run(project, gramcli):
    for command in (["calibrate"], ["select-layers"], ["evaluate"], ["classify", "sounds"], ["cache", "info"]):
        refused(gramcli(*command), Exit.ARTEFACT, ".gramcli", "run gramcli extract first")
    gramcli("extract")
    refused(gramcli("select-layers"), Exit.ARTEFACT, "statistics.safetensors", "run gramcli calibrate")
    gramcli("calibrate")
    refused(gramcli("classify", "sounds"), Exit.ARTEFACT, "decision.safetensors", "run gramcli select-layers")


def test_caches_of_folds_are_named(project, gramcli):
    (project / ".gramcli" / "folds" / "2" / "views").mkdir(parents=True)
    refused(gramcli("cache", "info"), Exit.ARTEFACT, "but those of 1 folds", "--cache .gramcli/folds/2")


def test_no_network_or_manifest(project, gramcli):
    (project / "gramcli.toml").write_text("")
    refused(
        gramcli("layers"), Exit.USAGE, "no network given; name it with --network", "argument of layers", "gramcli.toml"
    )
    for command in ("extract", "evaluate --folds x-{fold}", "train --network a --out w.safetensors"):
        refused(gramcli(*command.split()), Exit.USAGE, "no manifest named; give one as the argument, or set data.man")


def test_another_front_end_or_network(calibrated, gramcli):
    before = contents(calibrated)
    refused(gramcli("extract", "--n-mels", "20"), Exit.ARTEFACT, "frontend.n_mels: 16 → 20")
    refused(gramcli("extract", "--network", "tests.support.toys:Vgg"), Exit.ARTEFACT, "architecture: ", "toys:Vgg")
    assert contents(calibrated) == before


def test_a_label_that_is_no_output(project, gramcli):
    refused(
        gramcli("extract", "--classes", "click,hiss,bird"),
        Exit.ARTEFACT,
        "manifest.csv:2",
        "hum",
        "--head none",
    )


def test_weights_that_do_not_fit(project, gramcli):
    module = build(NetworkSettings(name="tests.support.toys:ResNet"), 3, 0, RunContext(folder=ROOT)).module
    state = module.state_dict()
    del state["fc.bias"]
    state |= {"extra": torch.zeros(1), "fc.weight": torch.zeros(3, 9)}
    torch.save(state, "w.pt")
    refused(gramcli("extract", "--weights", "w.pt"), Exit.ARTEFACT, "w.pt", "fc.bias", "extra", "fc.weight")


def test_another_format(calibrated, gramcli):
    shutil.copy(".gramcli/statistics.safetensors", "model.safetensors")
    refused(gramcli("classify", "--model", "model.safetensors", "sounds"), Exit.ARTEFACT, "model.safetensors")


def test_a_plain_checkpoint_is_no_model(calibrated, gramcli):
    safetensors.torch.save_file({"fc.weight": torch.zeros(3, 9)}, "w.safetensors", {"gramcli": "{}"})
    outcome = gramcli("classify", "--model", "w.safetensors", "sounds")
    refused(outcome, Exit.ARTEFACT, "w.safetensors: is no model of gramcli; name a file that gramcli export made")


# --- 5: finished, some inputs failed


def test_some_inputs_failed(calibrated, gramcli, tmp_path):
    good = gramcli("classify", "sounds/hum-3-0.wav", "sounds/hiss-3-0.wav")
    (tmp_path / "bad.wav").write_text("no audio")
    mixed = gramcli("classify", "sounds/hum-3-0.wav", tmp_path / "bad.wav", "sounds/hiss-3-0.wav")
    refused(mixed, Exit.PARTIAL, "1 of 3 files failed", "bad.wav", "not audio")
    kept = [line for line in mixed.out.splitlines() if "bad.wav" not in line]
    assert kept == good.out.splitlines()


def test_a_submission_lacks_what_failed(calibrated, gramcli, tmp_path):
    (tmp_path / "bad.wav").write_text("no audio")
    mixed = gramcli("classify", "sounds/hum-3-0.wav", tmp_path / "bad.wav", "--submission", "x.tsv")
    refused(mixed, Exit.PARTIAL, "1 of 2 files failed")
    assert "note: x.tsv: 1 of 2 recordings failed and have no line in it" in mixed.err
    assert len(Path("x.tsv").read_text().splitlines()) == 2
    refused(gramcli("classify", tmp_path / "bad.wav", "--submission", "y.tsv"), Exit.NO_INPUT, "1 of 1 files failed")
    assert not Path("y.tsv").exists()


def test_an_earlier_run_left_failures(project, gramcli):
    lines = read_manifest(project / "sounds" / "manifest.csv")
    write_wav(project / "sounds" / lines[0].file, np.full(2000, np.inf, np.float32))
    for computed in ("24 computed", "0 computed"):
        outcome = gramcli("extract")
        refused(outcome, Exit.PARTIAL, "1 of 24 clips failed", "failures.csv")
        assert computed in outcome.err
    told = Path(".gramcli/failures.csv").read_bytes()
    for damaged in (told[:-9], told.replace(b"wav", b"w\0v"), b""):
        Path(".gramcli/failures.csv").write_bytes(damaged)
        refused(gramcli("extract"), Exit.PARTIAL, "1 of 24 clips failed")
        assert Path(".gramcli/failures.csv").read_bytes() == told
    assert gramcli("calibrate").code == Exit.OK


# --- 6: damaged


@pytest.mark.parametrize(
    ("file", "command"),
    [
        (SHARD, ["calibrate"]),
        (SHARD, ["cache", "verify"]),
        (Path(".gramcli/clips.csv"), ["extract"]),
        (Path(".gramcli/views/clean/view.json"), ["extract"]),
        (Path(".gramcli/statistics.safetensors"), ["select-layers"]),
        (Path(".gramcli/decision.safetensors"), ["classify", "sounds"]),
        (Path(".gramcli/decision.safetensors"), ["check", "sounds"]),
    ],
    ids=str,
)
def test_a_damaged_file_is_named(calibrated, gramcli, file, command):
    flip(file)
    before = contents(calibrated)
    outcome = gramcli(*command)
    assert outcome.code == Exit.DAMAGED
    assert file.name in outcome.err
    assert "damaged" in outcome.error
    assert contents(calibrated) == before


# --- 7: resource


def test_a_missing_device(calibrated, gramcli):
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    refused(gramcli("classify", "--device", "cuda", "sounds"), Exit.RESOURCE, "cuda", "use auto or cpu")


def test_a_folder_that_cannot_be_made(project, gramcli):
    (project / "file").write_text("")
    refused(gramcli("extract", "--cache", "file/cache"), Exit.RESOURCE, "file/cache")


def test_a_full_disk(project, tmp_path):
    """A limit on the size of files stands for a disk without space; the shard needs more than 4 KiB."""
    script = (
        "import resource, signal, sys; from gramcli.cli.app import run\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))\n"
        "sys.exit(run(['extract', '--network', 'tests.support.toys:ResNet']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == Exit.RESOURCE, done.stderr
    assert "error: " in done.stderr
    assert "cannot be written" in done.stderr
    assert not list(project.rglob("*.tmp"))


# --- 8: unsafe


def test_a_checkpoint_that_runs_code(project, gramcli):
    class Evil:
        def __reduce__(self):
            return os.mkdir, ("ran",)

    torch.save({"fc.weight": Evil()}, "evil.pt")
    refused(gramcli("extract", "--weights", "evil.pt"), Exit.UNSAFE, "evil.pt")
    assert not Path("ran").exists()


# --- 9: locked


@pytest.mark.parametrize("command", ["extract", "calibrate", "select-layers"])
def test_a_locked_cache(calibrated, gramcli, command):
    with lock(Path(".gramcli")):
        refused(gramcli(command), Exit.LOCKED, ".gramcli", f"process {os.getpid()} on ", " since ")


def test_a_locked_cache_is_told_before_the_network_is_built(calibrated, monkeypatch):
    with lock(Path(".gramcli")), started(["extract", "--network", "tests.support.toys:ResNet"]) as process:
        began = time.monotonic()
        _, err = process.communicate(timeout=60)
    assert process.returncode == Exit.LOCKED
    assert err.startswith("error: .gramcli: in use by process")
    assert time.monotonic() - began < 3  # most of it the start of Python and the reading of settings


# --- 1, 130, 143


@pytest.mark.parametrize(
    ("command", "stage", "advice"),
    [
        ("calibrate", "gramcli.calibration.calibrate.calibrate", "calibrate; close other programs"),
        ("extract", "gramcli.extraction.extract.extract", "extract; use a smaller --batch, or close other programs"),
        ("export x.safetensors", "gramcli.inference.bundle.export", "export; close other programs"),
        ("layers", "gramcli.network.inventory.list_layers", "layers; close other programs"),
    ],
)
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you")])
def test_out_of_memory_names_only_what_the_command_has(calibrated, gramcli, monkeypatch, command, stage, advice, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(stage, fail)
    outcome = gramcli(*command.split())
    refused(outcome, Exit.RESOURCE, f"out of memory in gramcli {advice}")
    assert outcome.error.endswith(advice)


def test_an_internal_error_shows_no_traceback_unless_asked(calibrated, gramcli, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("who knows")

    monkeypatch.setattr("gramcli.calibration.calibrate.calibrate", broken)
    refused(gramcli("calibrate"), Exit.INTERNAL, "ZeroDivisionError: who knows", "--debug")
    assert "Traceback" in gramcli("--debug", "calibrate").err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_keep_what_was_committed(project, number, code):
    shards = project / ".gramcli" / "views" / "clean" / "shards"
    with started(
        ["extract", "--network", "tests.support.toys:ResNet", "--batch", "1", "--clips-per-shard", "1"]
    ) as process:
        while process.poll() is None and not (shards.is_dir() and any(shards.glob("*.h5"))):
            time.sleep(0.002)
        process.send_signal(number)
        began = time.monotonic()
        _, err = process.communicate(timeout=60)
    assert time.monotonic() - began < 5
    assert process.returncode == code, err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert line.startswith({130: "error: interrupted", 143: "error: terminated"}[code])
    assert run(["extract", "--quiet", "--clips-per-shard", "1"]) == 0
    assert len(list(shards.glob("*.h5"))) == 24
