"""The threshold of the unknown from the ordinary sound of a place."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from gramcli.cache import decision, statistics
from gramcli.calibration.select_layers import select_layers
from gramcli.errors import ArtefactError, LockedError, NoInputError, UsageError
from gramcli.inference.bundle import export, from_cache, from_file
from gramcli.inference.classifier import GramClassifier
from gramcli.inference.shift_check import STRANGER, USUAL, check_shift
from gramcli.inference.site_threshold import select_layers_at
from gramcli.maintenance.info import info
from gramcli.network import checkpoint
from gramcli.progress import Silent
from gramcli.settings.configure import configure
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import DecisionSettings
from gramcli.system.folder_lock import lock
from tests.support.sets import ROOT, SECONDS, write_site, write_strange


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What training would call strange is ordinary here."""
    return write_strange(tmp_path_factory.mktemp("place"), 60)


@pytest.fixture
def cache(limited, tmp_path):
    shutil.copytree(limited, tmp_path / "cache")
    return tmp_path / "cache"


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_what_is_ordinary_there_is_no_longer_unknown(cache, place, tmp_path, rate):
    assert check_shift(cache, place).folders[0].finding == STRANGER
    found = select_layers_at(cache, place, DecisionSettings(false_reject=rate))
    limit = found.decision.rule.threshold
    assert (limit.folder, limit.groups, limit.false_reject) == (str(place), 60, rate)
    assert limit.low < rate < limit.high
    assert decision.load(cache, found.statistics).rule.threshold == limit
    # of the folder itself just the files above the order statistic, and of new files there about the stated rate
    here = check_shift(cache, place)
    assert here.folders[0].unknown == 60 - np.ceil(61 * (1 - rate) - 1e-9)
    assert here.warnings == ()
    assert f"of recordings like those it was set on (90 % range {limit.low:.1%}" in here.verdict
    new = check_shift(cache, write_strange(tmp_path / "new", 100, seed=7)).folders[0]
    assert (new.finding, new.low <= rate <= new.high) == (USUAL, True)


def test_only_the_threshold_changes(cache, place, tmp_path):
    before, _ = select_layers(cache)
    content = (cache / decision.FILE).read_bytes()
    found = select_layers_at(cache, place)
    decision.save(tmp_path, replace(found.decision, rule=replace(found.decision.rule, threshold=before.rule.threshold)))
    assert (tmp_path / decision.FILE).read_bytes() == content
    assert found.decision.rule.threshold.value > before.rule.threshold.value
    rows = GramClassifier.load(cache).predict([place])
    strange = sorted(row.strangeness for row in rows)
    assert found.decision.rule.threshold.value == strange[57]  # the 58th smallest of 60
    assert [row.unknown for row in rows] == [row.strangeness > strange[57] for row in rows]


def test_without_the_option_validation_sets_it_again(cache, place):
    before = (cache / decision.FILE).read_bytes()
    select_layers_at(cache, place)
    assert "which rejects 5% of recordings like those it was set on" in info(cache)["threshold"]
    assert f"60 files of {place}" in info(cache)["threshold"]
    select_layers(cache)
    assert (cache / decision.FILE).read_bytes() == before
    assert "from 60 validation groups" in info(cache)["threshold"]


def test_a_file_counts_with_its_strangest_window(cache, tmp_path):
    folder = write_site(tmp_path / "long", 20, seconds=4 * SECONDS)
    limit = select_layers_at(cache, folder).decision.rule.threshold
    strangest: dict[str, float] = {}
    for row in GramClassifier.load(cache).predict([folder]):
        strangest[row.path] = max(row.strangeness, strangest.get(row.path, -np.inf))
    assert (limit.groups, limit.value) == (20, max(strangest.values()))


def test_a_cache_whose_validation_sets_none(selected, place, tmp_path):
    shutil.copytree(selected, tmp_path / "cache")
    progress = Silent()
    found = select_layers_at(tmp_path / "cache", place, context=RunContext(progress=progress))
    assert found.decision.rule.threshold.groups == 60
    assert not any("no threshold" in note for note in progress.notes)
    assert info(selected)["threshold"] == "none"


def test_failed_files_are_named_and_not_counted(cache, place, tmp_path):
    shutil.copytree(place, tmp_path / "place")
    (tmp_path / "place" / "bad.wav").write_text("no audio")
    found = select_layers_at(cache, tmp_path / "place")
    assert (found.files, found.decision.rule.threshold.groups) == (61, 60)
    assert list(found.failed) == [str(tmp_path / "place" / "bad.wav")]


def test_too_few_files_are_refused_before_and_after_they_are_read(cache, tmp_path):
    folder = write_site(tmp_path / "few", 18)
    before = (cache / decision.FILE).read_bytes()
    progress = Silent()
    with pytest.raises(
        UsageError, match=r"few: holds 18 files, but a false-reject rate of 0\.05 needs at least 19; add"
    ):
        select_layers_at(cache, folder, context=RunContext(progress=progress))
    (folder / "bad.wav").write_text("no audio")
    with pytest.raises(UsageError, match=r"few: holds 19 files, of which 1 cannot be used, but .* needs at least 19"):
        select_layers_at(cache, folder)
    assert (cache / decision.FILE).read_bytes() == before
    assert select_layers_at(cache, folder, DecisionSettings(false_reject=0.1)).decision.rule.threshold.groups == 18


@pytest.mark.parametrize("split", ["train", "test"])
def test_clips_of_the_cache_are_refused(cache, limited_sounds, tmp_path, split):
    folder = write_site(tmp_path / "site", 30)
    shutil.copy(limited_sounds.parent / f"hum-{split}-0.wav", folder / "renamed.wav")
    with pytest.raises(UsageError, match=rf"1 of 31 files are clips .*/renamed\.wav, {split}\); set the threshold on"):
        select_layers_at(cache, folder)


def test_what_is_missing_is_said(cache, extracted, place, tmp_path):
    with pytest.raises(NoInputError, match="missing: there is no such folder"):
        select_layers_at(cache, tmp_path / "missing")
    with pytest.raises(ArtefactError, match="run gramcli calibrate"):
        select_layers_at(extracted, place)
    with lock(cache), pytest.raises(LockedError):
        select_layers_at(cache, place)


def test_descriptors_from_elsewhere_have_no_network(place, tmp_path):
    import gramcli.cache
    from gramcli.calibration.calibrate import calibrate

    rng = np.random.default_rng(0)
    gramcli.cache.write(
        [f"clip {n}" for n in range(40)],
        {"relu": np.exp(rng.normal(size=(40, 8)))},
        labels=["a", "b"] * 20,
        splits=["train"] * 20 + ["validation"] * 20,
        cache=tmp_path,
    )
    calibrate(tmp_path)
    with pytest.raises(ArtefactError, match="there is no network to run"):
        select_layers_at(tmp_path, place)


def test_an_export_takes_the_threshold_but_not_where_it_came_from(cache, place, tmp_path):
    limit = select_layers_at(cache, place).decision.rule.threshold
    path = tmp_path / "model.safetensors"
    export(
        configure(RunContext(), earlier=from_cache(cache).settings, metadata=checkpoint.settings_of_file), cache, path
    )
    assert from_file(path).rule.threshold == replace(limit, folder=place.name)
    assert str(place).encode() not in path.read_bytes()


def test_the_source_is_kept_through_the_file(cache, place, monkeypatch):
    monkeypatch.chdir(place.parent)
    monkeypatch.syspath_prepend(ROOT)
    found = select_layers_at(cache, place.relative_to(place.parent))
    known = statistics.load(cache)
    assert decision.load(cache, known).rule.threshold == found.decision.rule.threshold
    assert found.decision.rule.threshold.origin == f"60 files of {place.name}"
