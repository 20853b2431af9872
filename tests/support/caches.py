"""Fixtures: small caches that are extracted once a test run; tests that change a cache work on a copy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gramcli.calibration.calibrate import calibrate
from gramcli.calibration.select_layers import select_layers
from gramcli.extraction import extract as extraction
from gramcli.extraction.extract import extract
from gramcli.network import checkpoint
from gramcli.settings.configure import configure
from gramcli.settings.run_context import RunContext
from tests.support.commands import TOML
from tests.support.crashing_decoders import CrashingDecoders
from tests.support.forked_commands import ForkedCommands
from tests.support.interruption_cases import MANY_SHARDS, Case, contents
from tests.support.sets import ROOT, quick, read_manifest, write_manifest, write_set, write_sources


@pytest.fixture(scope="session")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of 36 clips of three classes."""
    return write_set(tmp_path_factory.mktemp("sounds"))


@pytest.fixture(scope="session")
def extracted(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cache of these clips; not to be changed."""
    cache = tmp_path_factory.mktemp("extracted") / "cache"
    extract(quick(sounds, cache), RunContext(folder=ROOT))
    return cache


@pytest.fixture(scope="session")
def selected(extracted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, calibrated and with layers selected; not to be changed."""
    cache = tmp_path_factory.mktemp("selected") / "cache"
    shutil.copytree(extracted, cache)
    calibrate(cache)
    select_layers(cache)
    return cache


@pytest.fixture(scope="session")
def limited_sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of 129 clips, each of a source of its own."""
    return write_sources(tmp_path_factory.mktemp("limited sounds"))


@pytest.fixture(scope="session")
def limited(limited_sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated cache of these with a threshold for unknown sounds; not to be changed."""
    cache = tmp_path_factory.mktemp("limited") / "cache"
    extract(quick(limited_sounds, cache), RunContext(folder=ROOT))
    calibrate(cache)
    select_layers(cache)
    return cache


@pytest.fixture
def cache(selected: Path, tmp_path: Path) -> Path:
    """A calibrated cache to play with."""
    shutil.copytree(selected, tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def trial_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sounds and settings, and a manifest that lists only some of the sounds."""
    folder = tmp_path_factory.mktemp("trials")
    manifest = write_set(folder / "sounds", clips=2)
    write_manifest(manifest.with_name("part.csv"), read_manifest(manifest)[:20])
    (folder / "gramcli.toml").write_text(TOML)
    return folder


@pytest.fixture(scope="session")
def trials(trial_project: Path) -> Iterator[ForkedCommands]:
    with ForkedCommands(trial_project) as trials:
        yield trials


def extract_with_crashes(trial_project: Path, cache: Path) -> None:
    """Extracts with decoders that crash on three files, which leaves three failed clips."""
    flags = {"cache": {"dir": str(cache)}, "run": {"device": "cpu"}}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(extraction, "Decoders", CrashingDecoders)
        settings = configure(
            RunContext(flags, config=trial_project / "gramcli.toml"), metadata=checkpoint.settings_of_file
        )
        assert extraction.extract(settings, RunContext(folder=ROOT)).failed == 3


@pytest.fixture(scope="session")
def cases(trials: ForkedCommands, trial_project: Path) -> dict[str, Case]:
    cache, bases = trial_project / ".gramcli", trial_project / "bases"
    bases.mkdir()
    assert trials.run(["extract", "sounds/part.csv"]).code == 0
    shutil.move(cache, bases / "part")
    found = {"extract": Case.of(trials, cache, ["extract"], None)}
    shutil.move(cache, bases / "extracted")
    found["extract grown"] = Case.of(trials, cache, ["extract"], bases / "part")
    found["calibrate"] = Case.of(trials, cache, ["calibrate"], bases / "extracted")
    shutil.move(cache, bases / "calibrated")
    found["select-layers"] = Case.of(trials, cache, ["select-layers"], bases / "calibrated")
    found["extract by two"] = Case.of(trials, cache, MANY_SHARDS, None)
    damaged, aside = (f"{folder}views/clean/shards/00001.h5" for folder in ("", "quarantine/"))
    shutil.copytree(bases / "extracted", bases / "damaged")
    (bases / "damaged" / damaged).write_bytes(b"no shard")
    found["repair"] = Case.of(
        trials, cache, ["cache", "verify", "--repair"], bases / "damaged", [damaged, "failures.csv"]
    )
    assert found["repair"].after == {**contents(bases / "extracted"), aside: b"no shard"}
    shutil.move(cache, bases / "repaired")
    found["clean"] = Case.of(trials, cache, ["cache", "clean", "--yes"], bases / "repaired", [aside])
    extract_with_crashes(trial_project, bases / "crashed")
    found["retry"] = Case.of(
        trials, cache, ["extract", "--retry-failed"], bases / "crashed", ["failures.csv", "finished.safetensors"]
    )
    return found
