"""Clips computed once more, beside what the cache holds."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gramcli.cache import clip_table
from gramcli.cache.view import View
from gramcli.errors import ArtefactError, NoInputError
from gramcli.extraction.extract import extract
from gramcli.maintenance.reproduce import reproduce
from gramcli.progress import Silent
from gramcli.settings.run_context import RunContext
from tests.support.sets import ROOT, quick


def test_a_cache_of_this_machine_is_replayed_to_the_bit(cache):
    done = reproduce(cache, 10)
    assert (done.clips, done.identical, done.difference, done.logits) == (10, 10, 0.0, 0.0)
    assert done.fits
    assert done.versions == ()
    assert reproduce(cache, 1000).clips == 36


def test_a_difference_is_stated_with_clip_and_layer(cache):
    view = View.open(cache)
    clip = next(clip for clip in clip_table.require(cache).rows if clip.shard == 1 and clip.row == 2)
    rows = view.read(1)
    layer = list(rows.descriptors)[3]
    values = rows.descriptors[layer].copy()
    values[2, values[2].argmax()] *= 2
    view.path(1).unlink()
    view.write(1, replace(rows, descriptors={**rows.descriptors, layer: values}, logits=rows.logits + 0.25))
    done = reproduce(cache, 36)
    assert (done.clips, done.identical) == (36, 31)
    assert done.where == f"{clip.id}, layer {layer}"
    assert done.difference == pytest.approx(0.5, abs=0.1)
    assert done.logits == pytest.approx(0.25)
    assert not done.fits


def test_other_versions_are_named(cache):
    view = View.open(cache)
    made_with = {**view.recorded["versions"], "torch": "1.0"}
    View.create(cache, view.identity, {**view.recorded, "versions": made_with})
    (other,) = reproduce(cache, 1).versions
    assert other.startswith("torch 1.0 → ")


def test_audio_that_is_gone_or_failed_before_is_left_out(sounds, tmp_path):
    shutil.copytree(sounds.parent, tmp_path / "sounds")
    mine, progress = tmp_path / "mine", Silent()
    extract(quick(tmp_path / "sounds" / "manifest.csv", mine), RunContext(folder=ROOT))
    for clip in clip_table.require(mine).rows[:30]:
        Path(clip.path).unlink()
    assert reproduce(mine, 36, RunContext(progress=progress)).clips == 6
    assert "30 audio files have changed or are missing; their clips are left out" in progress.notes
    for clip in clip_table.require(mine).rows[30:]:
        Path(clip.path).unlink()
    with pytest.raises(NoInputError, match="the audio files of these clips have changed or are missing"):
        reproduce(mine, 36)


def test_another_network_is_refused(sounds, tmp_path):
    mine = tmp_path / "mine"
    extract(quick(sounds, mine), RunContext(folder=ROOT))
    with pytest.raises(ArtefactError, match=r"frontend\.n_mels: 16 → 20"):
        reproduce(mine, 1, RunContext({"frontend": {"n_mels": "20"}}))
