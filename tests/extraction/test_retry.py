"""Clips that failed for a passing reason, tried once more."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from gramcli.cache import clip_table, failures, statistics
from gramcli.cache.view import View
from gramcli.calibration.calibrate import calibrate
from gramcli.errors import ResourceError
from gramcli.extraction import extract as stage
from gramcli.extraction.extract import extract
from gramcli.maintenance.verify import verify
from gramcli.progress import Silent
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import Settings
from gramcli.system import durable_files
from tests.support.crashing_decoders import LOST, CrashingDecoders
from tests.support.interruption_cases import contents
from tests.support.sets import ROOT, quick


@pytest.fixture
def settings(sounds: Path, tmp_path: Path) -> Settings:
    return quick(sounds, tmp_path / "cache")


@pytest.fixture
def crashed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with three failed clips."""
    with monkeypatch.context() as patched:
        patched.setattr(stage, "Decoders", CrashingDecoders)
        assert extract(settings, RunContext(folder=ROOT)).failed == 3
    return Path(settings.cache.dir)


def test_failed_clips_stay_failed_until_they_are_tried_again(settings, crashed, extracted):
    done = extract(settings, RunContext(folder=ROOT))
    assert (done.failed, done.forwarded) == (3, 0)

    before = contents(crashed)
    progress = Silent()
    done = extract(settings, RunContext(progress=progress, folder=ROOT), retry_failed=True)
    assert (done.failed, done.clips) == (0, 36)
    assert (
        "3 failed clips retried: 3 are usable now; run gramcli calibrate and select-layers again to use them"
        in progress.notes
    )
    after = contents(crashed)
    shards = [name for name in before if name.endswith(".h5")]
    assert all(after[name] == before[name] for name in shards), "a committed shard was changed"
    assert sum(".1.h5" in name for name in after) == 2
    assert failures.read(crashed, View.open(crashed), clip_table.require(crashed).rows) == {}
    assert verify(crashed, full=True).damaged == ()
    fresh = shutil.copytree(extracted, crashed.with_name("fresh"))
    for cache in (crashed, fresh):
        calibrate(cache)
    assert (crashed / statistics.FILE).read_bytes() == (fresh / statistics.FILE).read_bytes()
    assert extract(settings, RunContext(folder=ROOT), retry_failed=True).forwarded == 0


def test_the_rows_beside_keep_their_bits(settings, crashed):
    view = View.open(crashed)
    before = {number: view.read(number) for number in view.present()}
    extract(settings, RunContext(folder=ROOT), retry_failed=True)
    view = View.open(crashed)
    for number, old in before.items():
        new, good = view.read(number), old.usable()
        assert new.keys == old.keys
        assert all(new.usable())
        for layer, values in old.descriptors.items():
            np.testing.assert_array_equal(new.descriptors[layer][good], values[good])
        np.testing.assert_array_equal(new.logits[good], old.logits[good])


def test_nothing_is_committed_where_nothing_was_gained(settings, crashed, monkeypatch):
    monkeypatch.setattr(stage, "Decoders", CrashingDecoders)
    progress = Silent()
    before = contents(crashed)
    assert extract(settings, RunContext(progress=progress, folder=ROOT), retry_failed=True).failed == 3
    assert "3 failed clips retried: 0 are usable now" in progress.notes
    assert contents(crashed) == before


def test_a_second_failure_and_a_second_try_make_a_third_generation(settings, crashed, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(stage, "Decoders", CrashingDecoders)
        patched.setattr("tests.support.crashing_decoders.LOST", LOST[:1])
        assert extract(settings, RunContext(folder=ROOT), retry_failed=True).failed == 1
    assert extract(settings, RunContext(folder=ROOT), retry_failed=True).failed == 0
    view = View.open(crashed)
    assert sorted(len(view.generations(number)) for number in view.present())[-2:] == [2, 3]
    assert verify(crashed).damaged == ()


def test_a_try_that_cannot_be_kept_loses_nothing(settings, crashed, monkeypatch):
    def full(*arguments: object, **named: object) -> None:
        raise ResourceError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(durable_files, "write", full)
        with pytest.raises(ResourceError, match="disk full"):
            extract(settings, RunContext(folder=ROOT), retry_failed=True)
    assert extract(settings, RunContext(folder=ROOT)).failed == 3
    assert extract(settings, RunContext(folder=ROOT), retry_failed=True).failed == 0
