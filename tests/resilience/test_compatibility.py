"""Caches and a model made by an earlier version open, resume and give the same results."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.support import made_by_0_1 as earlier

ALIKE = {"rel": 1e-9, "abs": 1e-12}
"""Computed from numbers on disk, in double precision."""
RECOMPUTED = {"rel": 1e-5, "abs": 1e-5}
"""Computed from sounds through the network in single precision, which differs by 1e-6 between processors."""
PARTLY = 5
"""Exit code where one file cannot be read, as in this project."""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    earlier.restore(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def said(gramcli):
    """Runs a command and returns what it prints as JSON."""

    def call(*arguments: str) -> Any:
        ran = gramcli(*arguments, "--json")
        assert ran.code == 0, ran.err
        return json.loads(ran.out)

    return call


def differences(found: Any, wanted: Any, tolerance: dict[str, float], where: str = "") -> list[str]:
    """Names what is there no more or has another value; what has been added since does not count."""
    if isinstance(wanted, dict):
        return [
            difference
            for key, value in wanted.items()
            for difference in (
                differences(found[key], value, tolerance, f"{where}.{key}")
                if key in found
                else [f"{where}.{key}: missing"]
            )
        ]
    if isinstance(wanted, list):
        if len(found) != len(wanted):
            return [f"{where}: {len(found)} entries, not {len(wanted)}"]
        pairs = enumerate(zip(found, wanted, strict=True))
        return [one for n, (new, old) in pairs for one in differences(new, old, tolerance, f"{where}[{n}]")]
    if isinstance(wanted, float) and isinstance(found, int | float):
        same = math.isclose(found, wanted, rel_tol=tolerance["rel"], abs_tol=tolerance["abs"])
        return [] if same else [f"{where}: {found!r}, not {wanted!r}"]
    return [] if found == wanted else [f"{where}: {found!r}, not {wanted!r}"]


def shards(folder: Path) -> dict[str, tuple[int, int]]:
    """Returns the shards of a cache, and which file each of them is."""
    return {str(p.relative_to(folder)): (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.rglob("*.h5")}


def without_network(project: Path) -> None:
    """Takes away what a forward pass needs."""
    (project / "network.safetensors").unlink()
    for path in (project / "sounds").glob("*.wav"):
        path.unlink()


def test_a_cache_opens(project, said):
    """All that is told of it, but for the names of what has been computed since."""
    wanted = earlier.outputs()["info"]
    assert not differences(said("cache", "info"), wanted, ALIKE)


@pytest.mark.parametrize("cache", [".gramcli", "paper", "gram"])
def test_a_cache_is_whole(project, gramcli, cache):
    ran = gramcli("cache", "verify", "--cache", cache)
    assert ran.code == 0, ran.err


def test_nothing_is_extracted_anew(project, gramcli):
    before = shards(project)
    assert gramcli("extract").code == PARTLY
    assert gramcli("extract", "--condition", "noise:10").code == PARTLY
    assert shards(project) == before


def test_only_new_clips_are_extracted(project, gramcli, said):
    before = shards(project)
    rows = [*earlier.rows(), *([f"hum-new-{n}.wav", "hum", "test", f"hum new {n}"] for n in range(2))]
    for n in range(2):
        earlier.write_sound(project / "sounds" / f"hum-new-{n}.wav", "hum")
    earlier.write_manifest(project / "sounds", rows)
    assert gramcli("extract").code == PARTLY
    after = shards(project)
    assert before.items() <= after.items()
    assert len(after) == len(before) + 1
    found, known = said("cache", "info"), earlier.outputs()["info"]
    assert found["clips"]["test"] == known["clips"]["test"] + 2
    assert found["shards"] == known["shards"] + 1


def test_a_file_computed_anew_has_the_same_row(project, gramcli):
    """The noise and the forward pass are the same: a cache made anew has the old one's numbers."""
    assert gramcli("extract", "--cache", "new", "sounds/manifest.csv", "--weights", "network.safetensors",
                   "--clips-per-shard", "32", "--with-means", *earlier.RUN).code == PARTLY  # fmt: skip
    assert gramcli("extract", "--cache", "new", "--condition", "noise:10").code == PARTLY
    new, old = (descriptors(project / cache) for cache in ("new", ".gramcli"))
    assert new.keys() == old.keys()
    for name, values in old.items():
        np.testing.assert_allclose(new[name], values, rtol=1e-4, atol=1e-6, err_msg=name)


def descriptors(cache: Path) -> dict[str, np.ndarray]:
    """Returns every array of every shard, the rows in order of their keys."""
    import h5py

    found: dict[str, list[np.ndarray]] = {}
    keys: dict[str, list[bytes]] = {}
    for path in sorted(cache.rglob("*.h5")):
        view = path.parents[1].name
        with h5py.File(path) as file:
            keys.setdefault(view, []).extend(file["key"][()])

            def take(name: str, item: Any, view: str = view) -> None:
                if isinstance(item, h5py.Dataset) and item.dtype.kind == "f":
                    found.setdefault(f"{view}/{name}", []).append(item[()])

            file.visititems(take)
    return {name: np.concatenate(parts)[np.argsort(keys[name.split("/")[0]])] for name, parts in found.items()}


VARIANTS = {
    ".gramcli": ((), ()),
    "paper": (("--preset", "paper"), ("--preset", "paper")),
    "gram": ((), ("--rule", "gram")),
}


@pytest.mark.parametrize("cache", VARIANTS)
def test_fitting_again_gives_the_same_numbers(project, gramcli, said, cache):
    """Statistics and decision on disk, and the table of layers."""
    before = numbers(project / cache)
    for path in (project / cache).glob("*.safetensors"):
        path.unlink()
    calibrate, select = VARIANTS[cache]
    assert gramcli("calibrate", "--cache", cache, *calibrate).code == 0
    found = said("select-layers", "--cache", cache, *select)
    wanted = earlier.outputs()[f"select-layers {cache}".removesuffix(" .gramcli")]
    assert not differences(found, wanted, ALIKE)
    after = numbers(project / cache)
    for name, values in before.items():
        if name in after:
            assert after[name].dtype == values.dtype, name
            np.testing.assert_allclose(after[name], values, rtol=1e-9, atol=1e-12, err_msg=name)
        else:  # what stood in two places may stand in one, in an order of its own
            assert any(same_numbers(values, other) for other in after.values()), name


def same_numbers(one: np.ndarray, other: np.ndarray) -> bool:
    """Tells whether two tensors hold the same numbers in any order."""
    return one.shape == other.shape and np.allclose(np.sort(one, None), np.sort(other, None), rtol=1e-9, atol=1e-12)


def numbers(cache: Path) -> dict[str, np.ndarray]:
    """Returns the tensors of statistics and decision by file and name."""
    return {
        f"{path.stem}/{name}": tensor
        for path in sorted(cache.glob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


CLASSIFIED = {
    "classify": ("sounds/long.wav",),
    "classify with a prior": ("sounds/long.wav", "--prior", "click=0.5"),
    "classify with the model": ("sounds/long.wav", "--model", "model.safetensors"),
    "classify paper": ("--cache", "paper"),
    "classify gram": ("--cache", "gram"),
}


@pytest.mark.parametrize("command", CLASSIFIED)
def test_the_old_decision_says_the_same(project, said, command):
    found = said("classify", *earlier.recordings(), *CLASSIFIED[command])["rows"]
    assert not differences(found, earlier.outputs()[command], RECOMPUTED)


def test_a_model_exported_from_it_says_the_same(project, gramcli, said):
    assert gramcli("export", "again.safetensors").code == 0
    found = said("classify", *earlier.recordings(), "sounds/long.wav", "--model", "again.safetensors")["rows"]
    assert not differences(found, earlier.outputs()["classify with the model"], RECOMPUTED)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [("evaluate", ("--condition", "noise:10", "--rivals")), ("evaluate paper", ("--cache", "paper"))],
)
def test_evaluate_gives_the_same_table_without_sounds_and_network(project, said, command, arguments):
    without_network(project)
    assert not differences(said("evaluate", *arguments), earlier.outputs()[command], ALIKE)
