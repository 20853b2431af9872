"""A whole cross-validation: what is pooled, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from gramcli.cache import clip_table as table
from gramcli.errors import ArtefactError, DamagedError, NoInputError, ResourceError, UsageError
from gramcli.evaluation.cross_validation import FOLD_PLACEHOLDER, evaluate_folds, plan
from gramcli.evaluation.evaluate import evaluate
from gramcli.network import checkpoint
from gramcli.progress import Silent
from gramcli.settings.configure import configure
from gramcli.settings.run_context import RunContext
from gramcli.training.train import train
from tests.support.sets import CLASSES, ROOT, SECONDS, sound, write_wav

FRONT = {"sample_rate": 8000, "n_fft": 256, "window_ms": 32.0, "hop_ms": 16.0, "n_mels": 16}


def flags(folder: Path, **data: object) -> dict[str, dict[str, object]]:
    return {
        "data": {"manifest": str(folder / "meta.csv"), **data},
        "segment": {"seconds": SECONDS},
        "frontend": FRONT,
        "network": {"name": "tests.support.training_toys:Small", "classes": sorted(CLASSES)},
        "run": {"threads": 1, "decoders": 1},
        "train": {"epochs": 2, "batch": 8},
        "cache": {"dir": str(folder / "cache")},
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four folds of three classes, and a checkpoint per fold; not to be changed."""
    folder = tmp_path_factory.mktemp("folds")
    rng = np.random.default_rng(4)
    with (folder / "meta.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["filename", "category", "fold", "source"])
        for fold in (1, 2, 3, 10):
            for label in CLASSES:
                for clip in range(3):
                    name = f"{fold}-{label}-{clip}.wav"
                    write_wav(folder / name, sound(label, rng))
                    rows.writerow([name, label, fold, f"{fold} {label} {clip}"])
    names = ["1", "2", "3", "10"]
    for n, fold in enumerate(names):
        # not the next fold, so that the checkpoint has something to say
        chosen = configure(
            RunContext(flags(folder, test_fold=fold, validation_fold=names[n - 1])),
            metadata=checkpoint.settings_of_file,
        )
        train(chosen, folder / f"net-{fold}.safetensors", RunContext(folder=ROOT))
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained, tmp_path / "set")
    monkeypatch.chdir(tmp_path / "set")
    monkeypatch.syspath_prepend(ROOT)
    return tmp_path / "set"


def declare(path: Path, **changes: object) -> None:
    """Changes what a checkpoint says of itself; None removes a field."""
    with safe_open(path, framework="numpy") as file:
        about = {**json.loads(file.metadata()["gramcli"]), **changes}
    kept = {key: value for key, value in about.items() if value is not None}
    save_file(load_file(path), path, {"gramcli": json.dumps(kept)} if kept else {})


class Forwards(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.forwards = 0

    def start(self, task: str, total: int) -> None:
        self.forwards += total if task.startswith("extracting") else 0

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_every_clip_is_judged_once_by_a_network_that_never_heard_it(folder):
    progress = Forwards()
    result = evaluate_folds(f"net-{FOLD_PLACEHOLDER}.safetensors", context=RunContext(flags(folder), progress=progress))
    assert (result.clean.clips, result.clean.groups, result.clean.failed) == (36, 36, 0)
    assert [note for note in progress.notes if note.startswith("fold ")] == [
        "fold 1: net-1.safetensors, validated on fold 10",
        "fold 2: net-2.safetensors, validated on fold 1",
        "fold 3: net-3.safetensors, validated on fold 2",
        "fold 10: net-10.safetensors, validated on fold 3",
    ]
    judged, right = [], {}
    for fold in ("1", "2", "3", "10"):
        cache = folder / "cache" / "folds" / fold
        tests = table.require(cache).used("test")
        assert {clip.id[: clip.id.index("-")] for clip in tests} == {fold}
        trained_on = checkpoint.metadata(folder / f"net-{fold}.safetensors")["trained_on"]
        assert not {clip.key for clip in tests} & set(trained_on)
        judged += [clip.key for clip in tests]
        alone = evaluate(cache).clean
        for name, measures in alone.decisions.items():
            right.setdefault(name, []).append(measures["accuracy"])
        assert np.sum(alone.confusion) == len(tests)
    assert len(set(judged)) == 36
    for name, shares in right.items():  # folds are of equal size
        assert result.clean.decisions[name]["accuracy"] == pytest.approx(np.mean(shares))
    assert result.verdict.endswith("on 36 clips of 36 groups).")


@pytest.mark.parametrize("name", ["x/../../other/net", ".", ".."])
def test_a_manifest_cannot_choose_the_folder_of_a_checkpoint(folder, name):
    (folder / "meta.csv").write_text((folder / "meta.csv").read_text().replace(",10,", f",{name},"))
    with pytest.raises(UsageError, match="cannot be part of the name of a file"):
        plan(f"net-{FOLD_PLACEHOLDER}.safetensors", RunContext(flags(folder)))


def test_a_second_time_only_a_new_condition_is_computed(folder):
    evaluate_folds(f"net-{FOLD_PLACEHOLDER}.safetensors", context=RunContext(flags(folder)))
    again = Forwards()
    result = evaluate_folds(
        f"net-{FOLD_PLACEHOLDER}.safetensors", conditions=["gain:-6"], context=RunContext(flags(folder), progress=again)
    )
    assert again.forwards == 36
    assert list(result.conditions) == ["clean", "gain:-6"]


def test_a_checkpoint_that_has_learnt_the_clips_is_refused(folder):
    (folder / "net-2.safetensors").rename(folder / "other")
    (folder / "net-1.safetensors").rename(folder / "net-2.safetensors")
    (folder / "other").rename(folder / "net-1.safetensors")
    with pytest.raises(
        UsageError, match=r"split, but net-2\.safetensors was trained on it; use the splits or folds of"
    ):
        evaluate_folds(f"net-{FOLD_PLACEHOLDER}.safetensors", context=RunContext(flags(folder)))


def test_a_checkpoint_that_does_not_say_is_validated_on_the_next_fold(folder):
    for path in folder.glob("net-*.safetensors"):
        declare(path, **dict.fromkeys(checkpoint.metadata(path)))
    progress = Forwards()
    evaluate_folds(f"net-{FOLD_PLACEHOLDER}.safetensors", context=RunContext(flags(folder), progress=progress))
    assert [note.rpartition(" ")[2] for note in progress.notes if note.startswith("fold ")] == ["2", "3", "10", "1"]


def test_what_a_checkpoint_does_not_say_is_told(folder):
    declare(folder / "net-3.safetensors", trained_on=None)
    progress = Forwards()
    evaluate_folds(f"net-{FOLD_PLACEHOLDER}.safetensors", context=RunContext(flags(folder), progress=progress))
    assert [note for note in progress.notes if "does not say" in note] == [
        "net-3.safetensors: does not say which clips it was trained on; it is assumed that fold 3 is not among them"
    ]


def test_one_network_for_two_folds_is_refused(folder):
    shutil.copy(folder / "net-1.safetensors", folder / "net-3.safetensors")
    with pytest.raises(
        UsageError, match=r"net-1\.safetensors and net-3\.safetensors are the same checkpoint, which was trained on"
    ):
        evaluate_folds(f"net-{FOLD_PLACEHOLDER}.safetensors", context=RunContext(flags(folder)))
    assert not (folder / "cache").exists()


def test_settings_that_contradict_a_later_checkpoint_are_refused_at_once(folder):
    declare(folder / "net-10.safetensors", frontend={**FRONT, "n_mels": 32})
    with pytest.raises(ArtefactError, match=r"net-10\.safetensors contradicts the settings: frontend\.n_mels 32 → 16"):
        evaluate_folds(f"net-{FOLD_PLACEHOLDER}.safetensors", context=RunContext(flags(folder)))
    assert not (folder / "cache").exists()
    result = evaluate_folds(
        f"net-{FOLD_PLACEHOLDER}.safetensors", override_metadata=True, context=RunContext(flags(folder))
    )
    assert result.clean.clips == 36


def test_rivals_without_scikit_learn_are_refused_at_once(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(ResourceError, match="rivals need scikit-learn, which is not installed; install it, or gramcli"):
        evaluate_folds(f"net-{FOLD_PLACEHOLDER}.safetensors", rivals=True, context=RunContext(flags(folder)))
    assert not (folder / "cache").exists()


def test_folds_that_decide_otherwise_are_not_pooled(folder, monkeypatch):
    from gramcli.evaluation import cross_validation

    real = cross_validation.select_layers

    def select(cache, wanted, progress):
        if cache.name == "3":
            wanted = type(wanted)(rule="gram")
        return real(cache, wanted, progress=progress)

    monkeypatch.setattr(cross_validation, "select_layers", select)
    with pytest.raises(ArtefactError, match=r"folds 1 and 3 have different rules \(fused and gram\)"):
        evaluate_folds(f"net-{FOLD_PLACEHOLDER}.safetensors", context=RunContext(flags(folder)))


def test_what_is_refused_before_anything_is_computed(folder):
    with pytest.raises(UsageError, match="give one checkpoint per fold, as in resnet18-"):
        evaluate_folds("net-1.safetensors", context=RunContext(flags(folder)))
    (folder / "net-10.safetensors").unlink()
    with pytest.raises(NoInputError, match=r"net-10\.safetensors: the checkpoint of fold 10 is missing"):
        evaluate_folds(f"net-{FOLD_PLACEHOLDER}.safetensors", context=RunContext(flags(folder)))
    table = (folder / "meta.csv").read_text()
    (folder / "meta.csv").write_text(table.replace("fold", "place", 1))
    with pytest.raises(UsageError, match=r"meta\.csv: has no fold column"):
        evaluate_folds(f"net-{FOLD_PLACEHOLDER}.safetensors", context=RunContext(flags(folder)))
    (folder / "meta.csv").write_text(
        "".join(line for line in table.splitlines(True) if not line.startswith(("3", "10")))
    )
    with pytest.raises(
        UsageError, match="a cross-validation needs at least 3 folds, for training, validation and test; there are 2"
    ):
        evaluate_folds(f"net-{FOLD_PLACEHOLDER}.safetensors", context=RunContext(flags(folder)))
    assert not (folder / "cache").exists()


@pytest.mark.parametrize("link", ["folds", "folds/2"])
def test_the_cache_of_a_fold_is_no_link(folder, tmp_path, link):
    (tmp_path / "outside").mkdir()
    (folder / "cache" / link).parent.mkdir(parents=True)
    (folder / "cache" / link).symlink_to(tmp_path / "outside")
    with pytest.raises(DamagedError, match=rf"{link}: is damaged \(a link stands in its place\)"):
        evaluate_folds(f"net-{FOLD_PLACEHOLDER}.safetensors", context=RunContext(flags(folder)))
    assert list((tmp_path / "outside").iterdir()) == []
