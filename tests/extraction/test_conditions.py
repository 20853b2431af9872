import shutil
from dataclasses import replace

import numpy as np
import pytest

from gramcli.audio.condition import parse
from gramcli.cache import clip_table
from gramcli.cache.labelled_rows import read_rows
from gramcli.cache.view import View, names
from gramcli.calibration.calibrate import calibrate
from gramcli.calibration.select_layers import select_layers
from gramcli.errors import ArtefactError, NoInputError
from gramcli.evaluation.evaluate import evaluate
from gramcli.extraction.conditions import extract_conditions
from gramcli.extraction.extract import extract
from gramcli.maintenance.info import info
from gramcli.maintenance.verify import verify
from gramcli.progress import Silent
from gramcli.settings.run_context import RunContext
from tests.support.sets import ROOT, quick, read_manifest, write_manifest, write_set


class Forwards(Silent):
    """Counts the clips that were computed."""

    def __init__(self):
        self.done, self.task = 0, ""

    def start(self, task, total):
        self.task = task

    def advance(self, steps, failed=0):
        if self.task.startswith("extracting"):
            self.done += steps


@pytest.fixture
def cache(tmp_path):
    manifest = write_set(tmp_path / "sounds")
    extract(quick(manifest, tmp_path / "cache"), RunContext(folder=ROOT))
    return tmp_path / "cache"


def hear(cache, *texts, splits=("test",)):
    progress = Forwards()
    clips = clip_table.require(cache).used(*splits)
    found = extract_conditions(cache, [parse(text) for text in texts], clips, RunContext(progress=progress))
    return found, clips, progress.done


def test_each_condition_is_extracted_once(cache):
    found, clips, done = hear(cache, "noise:10", "gain:-20")
    assert done == 2 * len(clips) == 18
    assert names(cache) == ["clean", "gain--20", "noise-10"]
    for text, (view, placed) in found.items():
        assert view.identity == {**View.open(cache).identity, "condition": text}
        assert [clip.key for clip in placed] == [clip.key for clip in clips]
        rows = [(group, shard.logits[where]) for group, shard, where in read_rows(view, placed)]
        assert sum(len(group) for group, _ in rows) == len(clips)
        assert all(np.isfinite(logits).all() for _, logits in rows)
    assert hear(cache, "noise:10", "gain:-20")[2] == 0


def test_more_clips_are_added_and_none_is_computed_again(cache):
    hear(cache, "noise:10")
    found, clips, done = hear(cache, "noise:10", splits=("validation", "test"))
    assert (len(clips), done) == (18, 9)
    view, placed = found["noise:10"]
    assert sum(len(group) for group, _, _ in read_rows(view, placed)) == 18


def test_what_was_cut_off_is_finished_with_the_same_rows(cache, tmp_path):
    settings = quick(tmp_path / "sounds" / "manifest.csv", tmp_path / "small")
    extract(replace(settings, cache=replace(settings.cache, clips_per_shard=4)), RunContext(folder=ROOT))
    small = tmp_path / "small"
    found, _, done = hear(small, "noise:10")
    view, _ = found["noise:10"]
    assert (done, sorted(view.present())) == (9, [0, 1, 2])
    whole = {number: view.path(number).read_bytes() for number in view.present()}
    view.path(2).unlink()
    assert hear(small, "noise:10")[2] == 1
    assert {number: view.path(number).read_bytes() for number in view.present()} == whole


def test_without_a_change_the_descriptors_are_those_of_the_clean_view(cache):
    found, clips, _ = hear(cache, "gain:0")
    view, placed = found["gain:0"]
    clean = View.open(cache)

    def rows(of, some):
        return {
            clip.key: {layer: values[row] for layer, values in shard.descriptors.items()}
            for group, shard, where in read_rows(of, some)
            for clip, row in zip(group, where, strict=True)
        }

    one, other = rows(view, placed), rows(clean, clips)
    for key, layers in other.items():
        for layer, values in layers.items():
            np.testing.assert_array_equal(one[key][layer], values)


def test_another_background_is_another_view(cache, tmp_path):
    street = tmp_path / "street"
    write_set(street)
    hear(cache, f"background:{street}:10")
    next(street.glob("*.wav")).unlink()
    assert hear(cache, f"background:{street}:10")[2] == 9
    assert len(names(cache)) == 3


def test_background_recordings_are_decoded_by_the_decoders_alone(cache, tmp_path, monkeypatch):
    street = tmp_path / "street"
    write_set(street)

    def refuse(*args, **kwargs):
        raise AssertionError("decoded in the main process")

    monkeypatch.setattr("gramcli.audio.reader.Reader.__init__", refuse)
    monkeypatch.setattr("gramcli.audio.container.AudioFile.__init__", refuse)
    found, _, done = hear(cache, f"background:{street}:10")
    assert done == 9
    ((view, placed),) = found.values()
    assert sum(len(group) for group, _, _ in read_rows(view, placed)) == 9


def test_a_background_recording_that_kills_its_decoder_ends_with_a_line(cache, tmp_path):
    street = tmp_path / "street"
    street.mkdir()
    (street / "broken.wav").write_bytes(b"RIFF" + bytes(200))
    before = names(cache)
    with pytest.raises(NoInputError, match=r"broken\.wav: background recording cannot be decoded: "):
        hear(cache, f"background:{street}:10")
    assert names(cache) == before  # and leaves no empty view behind


def test_a_view_of_another_network_is_refused(cache):
    view, _ = hear(cache, "noise:10")[0]["noise:10"]
    shutil.rmtree(view.folder)
    View.create(cache, {**view.identity, "architecture": "other"}, {}, view.folder.name)
    with pytest.raises(ArtefactError, match=r"noise-10: was extracted otherwise \(architecture: other → "):
        hear(cache, "noise:10")


def test_evaluate_judges_every_condition(cache):
    calibrate(cache)
    select_layers(cache)
    result = evaluate(cache, conditions=["noise:20", "noise:-20"])
    assert list(result.conditions) == ["clean", "noise:20", "noise:-20"]
    assert {one.clips for one in result.conditions.values()} == {9}
    # what random weights make of noise is chance, but not the same as of clean sounds
    likelihood = {name: one.decisions["map"]["negative_log_likelihood"] for name, one in result.conditions.items()}
    assert len(set(likelihood.values())) == 3
    assert result.conditions["clean"] == evaluate(cache).clean


def test_info_and_verify_know_every_view(cache):
    hear(cache, "noise:10")
    assert info(cache)["conditions"] == "noise:10"
    before = verify(cache)
    assert before.damaged == ()
    path = View.open(cache, "noise-10").path(0)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (fault,) = verify(cache).damaged
    assert "noise-10" in fault
    assert verify(cache).files == before.files


def test_a_clip_that_is_no_longer_audio_is_a_failed_row(cache, tmp_path):
    manifest = tmp_path / "sounds" / "manifest.csv"
    line = next(line for line in read_manifest(manifest) if line.split == "test")
    (manifest.parent / line.file).write_text("no audio")
    found, clips, done = hear(cache, "noise:10")
    view, placed = found["noise:10"]
    assert sum(len(group) for group, _, _ in read_rows(view, placed)) == done - 1 == len(clips) - 1


def test_new_clips_of_the_manifest_are_heard_too(cache, tmp_path):
    hear(cache, "noise:10")
    manifest = tmp_path / "sounds" / "manifest.csv"
    lines = read_manifest(manifest)
    first = next(line for line in lines if line.split == "train")
    write_manifest(manifest, [replace(line, split="test") if line.source == first.source else line for line in lines])
    extract(quick(manifest, cache), RunContext(folder=ROOT))
    assert hear(cache, "noise:10")[2] == 3
