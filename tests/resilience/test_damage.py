"""Damage of every kind to every file of a cache is found by verify and by the command that reads the file."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gramcli.cache import clip_table, ingest
from gramcli.cache.view import View
from gramcli.calibration.calibrate import calibrate
from gramcli.calibration.select_layers import select_layers
from gramcli.errors import DamagedError, Exit, GramcliError
from gramcli.extraction.extract import extract
from gramcli.inference import bundle
from gramcli.maintenance.verify import verify
from gramcli.settings.run_context import RunContext
from tests.support.damage import exchanged, nan_for_zero, truncations, zeroed
from tests.support.sets import ROOT, quick, write_set

STAGES: dict[str, Callable[[Path], object]] = {
    "00000.h5": calibrate,
    "00001.h5": calibrate,
    "clips.csv": calibrate,
    "view.json": calibrate,
    "statistics.safetensors": select_layers,
    "decision.safetensors": bundle.from_cache,  # the first that classify, check, evaluate and export do
}
FEW = 16


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated cache of 12 clips in two shards."""
    folder = tmp_path_factory.mktemp("small")
    settings = quick(write_set(folder / "sounds", clips=1), folder / "cache")
    extract(replace(settings, cache=replace(settings.cache, clips_per_shard=6)), RunContext(folder=ROOT))
    calibrate(folder / "cache")
    select_layers(folder / "cache")
    return folder / "cache"


@pytest.fixture
def cache(small: Path, tmp_path: Path) -> Path:
    shutil.copytree(small, tmp_path / "cache")
    return tmp_path / "cache"


def path_of(cache: Path, name: str) -> Path:
    (path,) = cache.rglob(name)
    return path


def found_by_verify(cache: Path) -> list[str]:
    try:
        return list(verify(cache).damaged)
    except DamagedError as error:
        return [str(error)]


def assert_found(cache: Path, name: str) -> None:
    """Damage is found by both, with exit 6 and the name of the file."""
    assert any(f"{name}: " in line for line in found_by_verify(cache))
    with pytest.raises(GramcliError) as caught:
        STAGES[name](cache)
    assert caught.value.exit_code == Exit.DAMAGED
    assert f"{name}: " in str(caught.value)


def assert_each_found(cache: Path, name: str, damaged: Iterator[bytes]) -> int:
    path, count = path_of(cache, name), 0
    whole = path.read_bytes()
    for content in damaged:
        assert content != whole
        path.write_bytes(content)
        assert_found(cache, name)
        count += 1
    path.write_bytes(whole)
    assert found_by_verify(cache) == []
    return count


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("most", [FEW, pytest.param(None, marks=pytest.mark.slow)])
def test_every_flip_of_a_byte_is_found(cache, name, most):
    whole, rng = path_of(cache, name).read_bytes(), random.Random(name)
    places = range(len(whole)) if most is None else rng.sample(range(len(whole)), most)
    flipped = (
        whole[:place] + bytes([whole[place] ^ rng.randrange(1, 256)]) + whole[place + 1 :] for place in places
    )  # fmt: skip
    assert assert_each_found(cache, name, flipped) == len(places)


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("most", [FEW // 2, pytest.param(None, marks=pytest.mark.slow)])
def test_every_loss_of_an_end_and_of_a_block_is_found(cache, name, most):
    whole, rng = path_of(cache, name).read_bytes(), random.Random(name)
    for damaged in (list(truncations(whole)), list(zeroed(whole, 64))):
        some = damaged if most is None else [damaged[0], damaged[-1], *rng.sample(damaged, most)]
        assert assert_each_found(cache, name, iter(some)) == len(some)
    assert assert_each_found(cache, name, iter([whole + b"\0", whole + whole])) == 2


@pytest.mark.parametrize("name", ["00000.h5", "statistics.safetensors", "decision.safetensors"])
def test_nan_for_zero_and_parts_in_each_others_place_are_found(cache, name):
    whole = path_of(cache, name).read_bytes()
    damaged = [nan_for_zero(whole, len(whole) // 2)]
    if name == "00000.h5":
        rows = View.open(cache).read(0).descriptors
        for one, other in (("layer1.0.relu", "layer1.1.relu"), ("layer1.0.relu#2", "layer1.1.relu#2")):
            damaged.append(exchanged(whole, rows[one].tobytes(), rows[other].tobytes()))  # whole data sets
        first, second = rows["act1"][:1].tobytes(), rows["act1"][1:2].tobytes()
        damaged.append(exchanged(whole, first, second))  # two clips
    else:
        damaged.append(whole[:-64] + whole[-32:] + whole[-64:-32])
    assert assert_each_found(cache, name, iter(damaged)) == len(damaged)


def test_shards_in_each_others_place_and_under_another_name_are_found(cache):
    one, other = (path_of(cache, f"0000{n}.h5") for n in range(2))
    one.rename(one.with_name("x"))
    other.rename(one)
    one.with_name("x").rename(other)
    assert_found(cache, one.name)
    assert any(other.name in line for line in found_by_verify(cache))
    other.write_bytes(one.read_bytes())  # the same twice
    assert_found(cache, one.name)


def test_a_shard_of_another_cache_is_found(cache, small, tmp_path):
    settings = quick(write_set(tmp_path / "others", clips=1, seed=9), tmp_path / "other")
    extract(settings, RunContext(folder=ROOT))  # the same network, so the same fingerprint, and other clips
    shutil.copy(path_of(tmp_path / "other", "00000.h5"), path_of(cache, "00000.h5"))
    assert_found(cache, "00000.h5")


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("what", ["empty", "folder", "link to a copy", "dangling link", "device", "pipe"])
def test_what_is_no_file_of_the_cache_is_found_and_not_read(cache, name, what, tmp_path):
    path, copy = path_of(cache, name), tmp_path / "copy"
    shutil.move(path, copy)
    if what == "empty":
        path.touch()
    elif what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"link to a copy": copy, "dangling link": tmp_path / "none", "device": Path("/dev/zero")}[what])
    assert_found(cache, name)


@pytest.mark.parametrize(
    ("name", "stage", "words"),
    [
        ("00000.h5", calibrate, "6 clips are not extracted yet; run gramcli extract again"),
        ("clips.csv", calibrate, r"no clips\.csv there; run gramcli extract first"),
        ("view.json", calibrate, "no extracted clips there; run gramcli extract first"),
        ("statistics.safetensors", select_layers, "is not there; run gramcli calibrate"),
        ("decision.safetensors", bundle.from_cache, "is not there; run gramcli select-layers"),
    ],
)
def test_a_missing_file_is_work_that_is_not_done_yet(cache, name, stage, words):
    path_of(cache, name).unlink()
    with pytest.raises(GramcliError, match=words) as caught:
        stage(cache)
    assert caught.value.exit_code == Exit.ARTEFACT


def read(cache: Path, which: int) -> None:
    """Reads shard `which` of 16, or table 16 or 17, as the stages do."""
    if which == 16:
        clip_table.require(cache)
    else:
        view = View.open(cache)
        if which < 16:
            view.read(which)


@pytest.mark.parametrize("count", [30, pytest.param(10_000, marks=pytest.mark.slow)])
def test_flips_of_a_byte_in_a_large_cache_are_found(tmp_path, count):
    """Of 16 shards of 2 MiB: each flip by what reads the file, one in a hundred by the whole of verify too."""
    random_bytes = random.Random(count)
    for first in range(0, 256, 16):
        ingest.write(
            [f"clip {first + n}" for n in range(16)],
            {"relu": np.random.default_rng(first).random((16, 32_000), np.float32)},
            labels=["a"] * 16,
            splits=["train"] * 16,
            cache=tmp_path,
        )
    view = View.open(tmp_path)
    paths = [*map(view.path, range(16)), tmp_path / "clips.csv", view.folder / "view.json"]
    sizes = [path.stat().st_size for path in paths]
    assert sum(sizes) > 30 * 2**20
    for n in range(count):
        # one in ten in the tables, which are small beside the shards
        which = random_bytes.randrange(16, 18) if n % 10 == 0 else random_bytes.randrange(16)
        path, place = paths[which], random_bytes.randrange(sizes[which])
        with path.open("r+b") as file:
            file.seek(place)
            before = file.read(1)
            file.seek(place)
            file.write(bytes([before[0] ^ random_bytes.randrange(1, 256)]))
        try:
            with pytest.raises(DamagedError, match=path.name):
                read(tmp_path, which)
            if n % 100 < 2:
                assert any(path.name in line for line in found_by_verify(tmp_path))
        finally:
            with path.open("r+b") as file:
                file.seek(place)
                file.write(before)
    assert found_by_verify(tmp_path) == []
