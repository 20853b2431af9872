"""Audio that changes while extract runs never gets a row under the key of other audio."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from gramcli.audio.condition import parse
from gramcli.audio.decoder_pool import Decoders
from gramcli.audio.requests import requests
from gramcli.cache import clip_table, failures
from gramcli.cache.view import View
from gramcli.dataset.clip import window_key
from gramcli.extraction import windows
from gramcli.extraction.conditions import extract_conditions
from gramcli.extraction.extract import extract
from gramcli.identity import file_digest
from gramcli.inference import window_stream
from gramcli.maintenance.reproduce import reproduce
from gramcli.settings.run_context import RunContext
from tests.support.sets import ROOT, quick, sound, write_set, write_wav

HERE = RunContext(folder=ROOT)


def test_a_clip_replaced_between_hashing_and_decoding_fails_and_is_read_by_the_next_extract(tmp_path, monkeypatch):
    manifest = write_set(tmp_path / "sounds", clips=1)
    settings, path = quick(manifest, tmp_path / "cache"), tmp_path / "sounds" / "hum-0-0.wav"
    before, find = file_digest(path), windows.find_clips

    def find_and_replace(*arguments):
        clips = find(*arguments)
        write_wav(path, sound("hum", np.random.default_rng(7)))
        return clips

    with monkeypatch.context() as patched:
        patched.setattr(windows, "find_clips", find_and_replace)
        done = extract(settings, HERE)
    assert (done.failed, done.clips) == (1, 12)
    view, rows = View.open(tmp_path / "cache"), clip_table.require(tmp_path / "cache").rows
    assert failures.read(tmp_path / "cache", view, rows) == {
        before: "changed while it was read; another program was writing to it, such as a recorder: wait until it has "
        "finished, and run the same command again"
    }
    assert extract(settings, HERE).failed == 0
    rows = clip_table.require(tmp_path / "cache").rows
    assert file_digest(path) in {clip.key for clip in rows if clip.split}
    assert reproduce(tmp_path / "cache", 20).identical == 12


def test_a_clip_restored_after_it_failed_is_retried(tmp_path, monkeypatch):
    settings, path = quick(write_set(tmp_path / "sounds", clips=1), tmp_path / "cache"), tmp_path / "sounds/hum-0-0.wav"
    content, find, about = path.read_bytes(), windows.find_clips, path.stat()

    def find_and_replace(*arguments):
        clips = find(*arguments)
        write_wav(path, sound("hum", np.random.default_rng(7)))
        return clips

    with monkeypatch.context() as patched:
        patched.setattr(windows, "find_clips", find_and_replace)
        assert extract(settings, HERE).failed == 1
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))  # in the disguise of the file that was there
    assert extract(settings, HERE, retry_failed=True).failed == 1
    path.write_bytes(content)
    assert extract(settings, HERE, retry_failed=True).failed == 0
    assert reproduce(tmp_path / "cache", 20).identical == 12


def test_the_table_states_the_file_that_was_hashed(tmp_path, monkeypatch):
    settings, path = quick(write_set(tmp_path / "sounds", clips=1), tmp_path / "cache"), tmp_path / "sounds/hum-0-0.wav"
    stat = windows._stat

    def stat_and_replace(name):
        found = stat(name)
        if name == str(path):
            write_wav(path, sound("hum", np.random.default_rng(7), seconds=0.3))
        return found

    with monkeypatch.context() as patched:
        patched.setattr(windows, "_stat", stat_and_replace)
        assert extract(settings, HERE).failed == 0
    clip = next(clip for clip in clip_table.require(tmp_path / "cache").rows if clip.path == str(path))
    about = path.stat()
    assert (clip.bytes, clip.mtime_ns) == (about.st_size, about.st_mtime_ns)
    assert clip.key == window_key(file_digest(path), clip.part)


def test_files_that_were_only_touched_raise_no_alarm(tmp_path):
    settings = quick(write_set(tmp_path / "sounds", clips=1), tmp_path / "cache")
    extract(settings, HERE)
    for path in (tmp_path / "sounds").glob("*.wav"):
        os.utime(path, (1, 1))
    assert reproduce(tmp_path / "cache", 20).identical == 12
    used = clip_table.require(tmp_path / "cache").used("test")
    condition = parse("gain:-6")
    view, placed = extract_conditions(tmp_path / "cache", [condition], used, HERE)[condition.text]
    assert all(all(view.read(number, layers=()).usable()) for number in {clip.shard for clip in placed})
    assert extract(settings, HERE).failed == 0


def test_a_changed_file_gets_no_row_in_the_view_of_a_condition(tmp_path):
    settings = quick(write_set(tmp_path / "sounds", clips=1), tmp_path / "cache")
    extract(settings, HERE)
    write_wav(tmp_path / "sounds/hum-3-0.wav", sound("hum", np.random.default_rng(7)))
    used, condition = clip_table.require(tmp_path / "cache").used("test"), parse("gain:-6")
    view, placed = extract_conditions(tmp_path / "cache", [condition], used, HERE)[condition.text]
    status = {key: text for clip in placed[:1] for key, text in zip(*_rows(view, clip.shard), strict=True)}
    assert [text.partition(";")[0] for text in status.values() if text != "ok"] == ["changed while it was read"]


def _rows(view: View, number: int | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    assert number is not None
    rows = view.read(number, layers=())
    return rows.keys, rows.status


@pytest.mark.parametrize("touch", [True, False])
def test_a_new_recording_replaced_between_its_windows(tmp_path: Path, touch: bool) -> None:
    path = tmp_path / "x.wav"
    write_wav(path, sound("hum", np.random.default_rng(0), seconds=1.0))

    class Probing:
        def __init__(self, decoders):
            self._decoders = decoders

        def probe(self, paths):
            found = list(self._decoders.probe(paths))
            if touch:
                os.utime(path, (1, 1))
            else:
                write_wav(path, sound("hum", np.random.default_rng(1), seconds=1.0))
            return iter(found)

    settings = quick(write_set(tmp_path / "sounds", clips=1), tmp_path / "cache")
    with Decoders(1) as decoders:
        parts = list(window_stream._parts([str(path)], Probing(decoders), settings.segment.seconds))
        found = list(decoders.decode(requests(parts, settings)))
    assert len(found) == 4
    assert {one.error.partition(";")[0] for one in found} == {"" if touch else "changed while it was read"}
