"""Recordings of a new site beside the threshold of a calibrated cache."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gramcli.cache import decision
from gramcli.errors import ArtefactError, DamagedError, NoInputError
from gramcli.inference import shift_check
from gramcli.inference.bundle import export, from_cache
from gramcli.inference.classifier import GramClassifier
from gramcli.inference.shift_check import COLUMNS, PERHAPS, STRANGER, TOO_FEW, USUAL, check_shift
from gramcli.metrics.intervals import proportion
from gramcli.network import checkpoint
from gramcli.progress import Silent
from gramcli.rule.threshold import Threshold
from gramcli.settings.configure import configure
from gramcli.settings.run_context import RunContext
from tests.support.sets import RATE, SECONDS, sound, write_site, write_strange, write_wav


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Sounds as in training, and others, in sub-folders; one file on top."""
    folder = tmp_path_factory.mktemp("site")
    write_site(folder / "same" / "deep", 40)
    write_strange(folder / "odd", 30)
    write_wav(folder / "top.wav", sound("hum", np.random.default_rng(0)))
    return folder


def test_sounds_of_the_same_kind(limited, site):
    found = check_shift(limited, site / "same")
    (whole, deep) = found.folders
    assert (whole.folder, whole.clips, whole.windows, whole.failed) == (str(site / "same"), 40, 40, 0)
    assert whole.low <= 0.05
    assert (whole.finding, found.warnings) == (USUAL, ())
    assert replace(deep, folder=whole.folder) == whole
    assert "nothing indicates that the statistics do not carry over" in found.verdict
    assert "rejects 5% of known recordings (90 % range 1.4% to 10.1%, from 60 validation groups)" in found.verdict


def test_other_sounds(limited, site):
    found = check_shift(limited, site / "odd")
    (whole,) = found.folders
    assert (whole.unknown, whole.share, whole.finding) == (30, 1.0, STRANGER)
    assert (whole.low, whole.high) == pytest.approx(proportion(30, 30))
    (warning,) = found.warnings
    assert "the statistics do not carry over" in warning
    assert "100.0% of 30 windows in 30 files are unknown (95 % interval 88.4% to 100.0%)" in warning
    assert found.verdict == ""


def test_folders_add_up_and_agree_with_classify(limited, site):
    found = check_shift(limited, site)
    whole, *parts = found.folders
    assert [part.folder for part in parts] == [str(site / "odd"), str(site / "same" / "deep")]
    rows = GramClassifier.load(limited).predict([site])
    assert (found.files, whole.windows, whole.unknown) == (71, 71, sum(row.unknown for row in rows))
    for part in parts:
        mine = [row.unknown for row in rows if Path(row.path).parent == Path(part.folder)]
        assert (part.windows, part.unknown, part.share) == (len(mine), sum(mine), np.mean(mine))
    # the file on top is in no sub-folder
    assert whole.clips == sum(part.clips for part in parts) + 1
    assert found.warnings[1].startswith("1 of 2 sub-folders have more unknown windows than the stated 5%: ")
    assert "odd 100.0%" in found.warnings[1]
    assert tuple(whole.row()) == COLUMNS


def test_windows_of_one_file_are_not_counted_as_if_apart(limited, tmp_path):
    """Half of 200 windows lie beyond, but all in 5 of 10 files."""
    for n in range(10):
        write = write_strange if n < 5 else write_site
        write(tmp_path / f"{n}", 1, seed=n, seconds=20 * SECONDS)
    whole = check_shift(limited, tmp_path).folders[0]
    assert (whole.clips, whole.windows) == (10, 200)
    assert whole.share == pytest.approx(0.5, abs=0.02)
    apart = proportion(whole.unknown, whole.windows)
    assert whole.low < apart[0] - 0.1
    assert whole.high > apart[1] + 0.1


def test_one_long_file_is_too_few(limited, tmp_path):
    found = check_shift(limited, write_strange(tmp_path, 1, seconds=20 * SECONDS))
    assert (found.folders[0].share, found.folders[0].finding) == (1.0, TOO_FEW)
    assert found.warnings == ()
    assert "too few files to say whether the statistics carry over (at least 19)" in found.verdict


def test_a_few_files_that_are_all_strange_are_enough(limited, tmp_path):
    assert check_shift(limited, write_strange(tmp_path, 4)).folders[0].finding == STRANGER


@pytest.mark.parametrize(
    ("files", "low", "finding"),
    [(18, 0.04, TOO_FEW), (19, 0.04, USUAL), (500, 0.05, USUAL), (500, 0.06, PERHAPS), (2, 0.06, PERHAPS),
     (500, 0.11, STRANGER), (0, None, TOO_FEW)],
)  # fmt: skip
def test_findings(files, low, finding):
    limit = Threshold(1.0, 0.05, 60, 0.014, 0.1)
    assert shift_check._finding(files, low, limit) == finding


def test_more_than_stated_but_within_the_range_of_the_threshold(limited, site):
    """A threshold from 60 groups may reject 10 % of known sounds where 5 % are stated; larger ranges excuse more."""
    model = from_cache(limited)
    limit = replace(model.rule.threshold, high=0.9)
    places = check_shift(limited, site / "odd").folders
    warnings, verdict = shift_check._sentences([replace(places[0], finding=PERHAPS)], limit)
    assert "may not carry over to these sounds, or the threshold rejects more than stated" in warnings[0]
    assert warnings[0].endswith("; more validation groups would tell")
    assert verdict == ""
    warnings, _ = shift_check._sentences([replace(places[0], finding=PERHAPS)], replace(limit, folder="yard"))
    assert warnings[0].endswith("; more files of yard would tell")


def test_failed_files(limited, site, tmp_path):
    shutil.copytree(site / "same" / "deep", tmp_path / "good")
    before = check_shift(limited, tmp_path)
    (tmp_path / "good" / "bad.wav").write_text("no audio")
    (tmp_path / "only bad").mkdir()
    silent = write_wav(tmp_path / "only bad" / "nan.wav", np.full(2000, np.nan, np.float32))
    found = check_shift(limited, tmp_path)
    whole, good, bad = found.folders
    assert (whole.failed, good.failed, bad.failed) == (2, 1, 1)
    assert set(found.failed) == {str(tmp_path / "good" / "bad.wav"), str(silent)}
    assert "not audio" in found.failed[str(tmp_path / "good" / "bad.wav")]
    assert replace(whole, failed=0) == before.folders[0]
    assert (bad.clips, bad.windows, bad.share, bad.low, bad.finding) == (0, 0, None, None, TOO_FEW)


def test_a_file_of_which_a_part_cannot_be_used_counts_with_the_rest(limited, tmp_path):
    rng = np.random.default_rng(0)
    samples = sound("hum", rng, 3 * SECONDS)
    samples[-round(SECONDS * RATE) // 2] = np.inf
    write_wav(tmp_path / "part.wav", samples)
    found = check_shift(limited, tmp_path)
    (whole,) = found.folders
    assert (found.files, whole.clips, whole.failed) == (1, 1, 1)
    assert 1 <= whole.windows < 3


def test_training_clips_are_told_of(limited, limited_sounds, tmp_path):
    for name in ("hum-train-0.wav", "hiss-train-1.wav", "hum-test-0.wav"):
        shutil.copy(limited_sounds.parent / name, tmp_path / f"renamed {name}")
    progress = Silent()
    check_shift(limited, tmp_path, RunContext(progress=progress))
    assert (
        progress.notes[0] == "2 of 3 files are training clips, which are never unknown: they make the share too small"
    )


def test_an_exported_model_checks_alike(limited, site, tmp_path):
    path = tmp_path / "model.safetensors"
    export(
        configure(RunContext(), earlier=from_cache(limited).settings, metadata=checkpoint.settings_of_file),
        limited,
        path,
    )
    assert check_shift(path, site / "odd") == check_shift(limited, site / "odd")


def test_no_threshold(selected, site):
    with pytest.raises(ArtefactError, match=r"no threshold for unknown sounds is set.*run gramcli select-layers with"):
        check_shift(selected, site)


def test_nothing_to_check(limited, tmp_path):
    with pytest.raises(NoInputError, match="no audio"):
        check_shift(limited, tmp_path)
    with pytest.raises(NoInputError, match="missing: there is no such folder"):
        check_shift(limited, tmp_path / "missing")


def test_a_damaged_decision(limited, site, tmp_path):
    shutil.copytree(limited, tmp_path / "cache")
    content = bytearray((tmp_path / "cache" / decision.FILE).read_bytes())
    content[-3] ^= 1
    (tmp_path / "cache" / decision.FILE).write_bytes(content)
    with pytest.raises(DamagedError):
        check_shift(tmp_path / "cache", site)
