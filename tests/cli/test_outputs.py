"""Files that the user names: what may be replaced, and which names can be written."""

from __future__ import annotations

import os
import pkgutil
import shutil
from pathlib import Path

import pytest

from gramcli.errors import Exit

LONGEST = "m" * 243 + ".safetensors"


@pytest.fixture
def odd(calibrated: Path) -> Path:
    """Folder with a pipe, a link, a dangling link and a file of somebody."""
    folder = calibrated / "odd"
    folder.mkdir()
    os.mkfifo(folder / "pipe.safetensors")
    (folder / "own.safetensors").write_text("precious")
    (folder / "link.safetensors").symlink_to("own.safetensors")
    (folder / "dangling.safetensors").symlink_to("none")
    return folder


def kinds(folder: Path) -> dict[str, tuple[int, int, int]]:
    return {
        path.name: (path.lstat().st_mode, path.lstat().st_ino, path.lstat().st_mtime_ns) for path in folder.iterdir()
    }


COMMANDS = {
    "export": ["export"],
    "submission": ["classify", "sounds", "--submission"],
    "train": ["train", "--out"],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_only_files_are_replaced(odd, gramcli, command):
    before = kinds(odd)
    for kind, name in (("a pipe", "pipe"), ("a link", "link"), ("a link", "dangling")):
        done = gramcli(*command, odd / f"{name}.safetensors")
        assert (done.code, done.out) == (Exit.USAGE, "")
        assert f"{name}.safetensors: is {kind}; name a file" in done.error
    assert kinds(odd) == before


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_names_that_cannot_be_are_refused_before_the_work(calibrated, gramcli, command):
    (calibrated / ".gramcli" / "decision.safetensors").unlink()  # which is seen when the work begins
    for name, reason in (
        (f"m{LONGEST}", "names of files in this folder have at most 255 bytes"),
        ("ü" * 122 + ".safetensors", "names of files in this folder have at most 255 bytes"),
        ("x/" * 3000 + "net.safetensors", "is longer than the system allows"),
    ):
        done = gramcli(*command, name)
        assert done.code == Exit.USAGE
        assert reason in done.error


def test_the_longest_names_can_be_written(calibrated, gramcli):
    assert gramcli("export", LONGEST).code == Exit.OK
    assert gramcli("classify", "--model", LONGEST, "sounds", "--submission", "é" * 125 + ".tsv").code == Exit.OK
    assert sorted(len(os.fsencode(path.name)) for path in calibrated.iterdir())[-2:] == [254, 255]


def test_export_replaces_its_own_models_only(calibrated, gramcli):
    assert gramcli("export", "model.safetensors").code == Exit.OK
    before = Path("model.safetensors").read_bytes()
    assert gramcli("export", "model.safetensors").code == Exit.OK
    assert Path("model.safetensors").read_bytes() == before
    shutil.copy(".gramcli/statistics.safetensors", "statistics.safetensors")
    Path("empty").touch()
    for name in ("statistics.safetensors", "gramcli.toml", "empty"):
        before = Path(name).read_bytes()
        done = gramcli("export", name)
        assert (done.code, Path(name).read_bytes()) == (Exit.USAGE, before)
        assert f"{name}: exists and is no model of gramcli; name another file" in done.error


def test_a_submission_replaces_only_submissions(calibrated, gramcli):
    for _ in range(2):
        assert gramcli("classify", "sounds", "--submission", "x.tsv").code == Exit.OK
    Path("x.tsv").write_text("filename\tscene_label\r\naudio/0.wav\tbus\r\n")  # of the challenge of 2019
    assert gramcli("classify", "sounds", "--submission", "x.tsv").code == Exit.OK
    Path("empty").touch()
    Path("table").write_text("filename\tscene_label2\n")
    (calibrated / ".gramcli" / "decision.safetensors").unlink()  # which is seen when the work begins
    for name in ("empty", "table", "gramcli.toml"):
        before = Path(name).read_bytes()
        done = gramcli("classify", "sounds", "--submission", name)
        assert (done.code, Path(name).read_bytes()) == (Exit.USAGE, before)
        assert f"{name}: exists and is no submission of gramcli; name another file" in done.error


@pytest.mark.parametrize(
    ("command", "work"),
    [
        (["export"], "gramcli.inference.bundle.from_cache"),
        (["classify", "sounds", "--submission"], "gramcli.inference.classifier.GramClassifier.load"),
    ],
)
def test_a_file_that_is_made_during_the_work_stays(calibrated, gramcli, monkeypatch, command, work):
    def slow(*args, **options):
        Path("x.out").write_text("precious")
        return real(*args, **options)

    real = pkgutil.resolve_name(work)
    monkeypatch.setattr(work, slow)
    assert gramcli(*command, "x.out").code == Exit.USAGE
    assert Path("x.out").read_text() == "precious"


OWN = """
from tests.support.toys import ResNet

def make(num_classes):
    return ResNet(num_classes)
"""


def test_export_says_that_own_code_is_not_in_the_model(project, gramcli, monkeypatch):
    Path("mynet.py").write_text(OWN)
    monkeypatch.setenv("GRAMCLI_NETWORK_NAME", "mynet:make")
    for command in ("extract", "calibrate", "select-layers"):
        assert gramcli(command).code == Exit.OK
    done = gramcli("export", "model.safetensors")
    assert done.code == Exit.OK
    assert "note: mynet.py: not in the model, as it is code; take it along" in " ".join(done.err.split())


def test_export_says_nothing_of_other_networks(calibrated, gramcli):
    assert "take it along" not in gramcli("export", "model.safetensors").err
