"""What a cache keeps, what it computes again, and what it refuses."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gramcli.cache import clip_table, statistics
from gramcli.cache.view import View
from gramcli.calibration.calibrate import calibrate
from gramcli.errors import ArtefactError, LockedError, NoInputError, UsageError
from gramcli.extraction.extract import extract
from gramcli.progress import Silent
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import Settings
from gramcli.system.folder_lock import lock
from tests.support.sets import (
    CLASSES,
    ROOT,
    SECONDS,
    Line,
    headless,
    quick,
    read_manifest,
    sound,
    write_manifest,
    write_wav,
)


def statistics_of(cache: Path) -> bytes:
    calibrate(cache)
    return (cache / statistics.FILE).read_bytes()


def fresh_statistics(settings: Settings, cache: Path) -> bytes:
    extract(replace(settings, cache=replace(settings.cache, dir=str(cache))), RunContext(folder=ROOT))
    return statistics_of(cache)


def test_a_shard_that_could_not_be_read_is_refused_before_any_audio_is_read(sounds, tmp_path):
    settings = quick(sounds, tmp_path / "cache")
    settings = replace(settings, cache=replace(settings.cache, clips_per_shard=10**9))
    with pytest.raises(UsageError, match=r"clips_per_shard 1000000000: .* larger than 3840 MiB; use at most \d+"):
        extract(settings, RunContext(folder=ROOT))
    assert not (tmp_path / "cache" / "clips.csv").exists()


@pytest.fixture
def grown(sounds: Path, tmp_path: Path) -> Settings:
    """An extracted cache of its own, with classes from the manifest, beside a copy of the sounds."""
    shutil.copytree(sounds.parent, tmp_path / "sounds")
    settings = headless(quick(tmp_path / "sounds" / "manifest.csv", tmp_path / "cache"))
    done = extract(settings, RunContext(folder=ROOT))
    assert (done.clips, done.forwarded, done.failed) == (36, 36, 0)
    return settings


def test_running_again_forwards_nothing(grown):
    before = {path: path.read_bytes() for path in Path(grown.cache.dir).rglob("*.h5")}
    done = extract(grown, RunContext(folder=ROOT))
    assert (done.clips, done.forwarded) == (36, 0)
    assert {path: path.read_bytes() for path in Path(grown.cache.dir).rglob("*.h5")} == before


def test_a_profile_adds_up_to_the_time_that_passed(sounds, tmp_path):
    done = extract(quick(sounds, tmp_path / "cache"), RunContext(folder=ROOT), profile=True)
    here, decoders = done.profile["here"], done.profile["decoders"]
    assert {"mel", "forward", "reduce", "commit", "wait for audio", "network", "other"} <= set(here)
    assert set(decoders) == {"decode", "resample", "hash"}
    assert sum(here.values()) == pytest.approx(done.seconds, rel=0.05)
    assert all(seconds >= 0 for seconds in (*here.values(), *decoders.values()))
    assert extract(quick(sounds, tmp_path / "cache"), RunContext(folder=ROOT)).profile is None


def test_means_are_kept_when_asked_for_and_a_cache_without_them_stays_without(grown, tmp_path):
    wanted = replace(grown, network=replace(grown.network, with_means=True))
    with pytest.raises(ArtefactError, match="was extracted otherwise \\(with_means: absent → true\\)"):
        extract(wanted, RunContext(folder=ROOT))
    wanted = replace(wanted, cache=replace(wanted.cache, dir=str(tmp_path / "with")))
    extract(wanted, RunContext(folder=ROOT))
    view, without = View.open(tmp_path / "with"), View.open(Path(grown.cache.dir))
    assert (view.with_means, without.with_means) == (True, False)
    rows = view.read(0, with_means=True)
    assert {layer: values.shape[1] for layer, values in rows.means.items()} == view.layers
    for layer, values in without.read(0).descriptors.items():
        np.testing.assert_array_equal(rows.descriptors[layer], values)
    assert statistics_of(tmp_path / "with") != b""


def relabel(lines: list[Line], folder: Path) -> list[Line]:
    return [replace(line, label="click") if line.file.startswith("hum-0") else line for line in lines]


def resplit(lines: list[Line], folder: Path) -> list[Line]:
    other = {"train": "validation", "validation": "train", "test": "train"}
    return [replace(line, split=other[line.split]) if "hiss" in line.file else line for line in lines]


def add_class(lines: list[Line], folder: Path) -> list[Line]:
    return [replace(line, label="buzz") if line.file.endswith("-1.wav") else line for line in lines]


def remove_five(lines: list[Line], folder: Path) -> list[Line]:
    return [line for n, line in enumerate(lines) if n not in (0, 4, 9, 20, 34)]


def add_ten(lines: list[Line], folder: Path) -> list[Line]:
    rng = np.random.default_rng(99)
    new = [Line(f"new-{n}.wav", CLASSES[n % 3], "train", f"new{n}") for n in range(10)]
    for line in new:
        write_wav(folder / line.file, sound(line.label, rng))
    return [*new[:5], *lines, *new[5:]]


@pytest.mark.parametrize(
    ("change", "forwards"),
    [(relabel, 0), (resplit, 0), (add_class, 0), (remove_five, 0), (add_ten, 10)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_changed_manifest_costs_only_new_audio_and_equals_a_fresh_cache(grown, tmp_path, change, forwards):
    manifest = Path(grown.data.manifest)
    write_manifest(manifest, change(read_manifest(manifest), manifest.parent))
    done = extract(grown, RunContext(folder=ROOT))
    assert done.forwarded == forwards
    assert done.clips == len(read_manifest(manifest))
    assert statistics_of(Path(grown.cache.dir)) == fresh_statistics(grown, tmp_path / "fresh")


def test_clips_that_come_back_cost_nothing(grown):
    manifest = Path(grown.data.manifest)
    lines = read_manifest(manifest)
    write_manifest(manifest, remove_five(lines, manifest.parent))
    extract(grown, RunContext(folder=ROOT))
    write_manifest(manifest, lines)
    assert extract(grown, RunContext(folder=ROOT)).forwarded == 0


def test_moved_files_cost_nothing_and_changed_ones_are_computed(grown):
    manifest = Path(grown.data.manifest)
    lines = read_manifest(manifest)
    for line in lines[:3]:
        (manifest.parent / line.file).rename(manifest.parent / f"moved-{line.file}")
    moved = [replace(line, file=f"moved-{line.file}") for line in lines[:3]]
    write_wav(manifest.parent / lines[5].file, sound("hum", np.random.default_rng(5)))
    write_manifest(manifest, [*moved, *lines[3:]])
    assert extract(grown, RunContext(folder=ROOT)).forwarded == 1


def test_statistics_do_not_depend_on_shards(sounds, tmp_path):
    results = set()
    for size in (1, 7, 1000):
        settings = quick(sounds, tmp_path / f"by{size}")
        settings = replace(settings, cache=replace(settings.cache, clips_per_shard=size))
        results.add(fresh_statistics(settings, tmp_path / f"by{size}"))
    assert len(list((tmp_path / "by1").rglob("*.h5"))) == 36
    assert len(list((tmp_path / "by1000").rglob("*.h5"))) == 1
    assert len(results) == 1


@pytest.mark.parametrize("after", [1, 3, 7])
def test_a_run_that_dies_between_two_shards_is_finished_by_the_next(sounds, extracted, tmp_path, monkeypatch, after):
    settings = quick(sounds, tmp_path / "cache")
    write = View.write

    def dies(self: View, number: int, rows: object) -> bool:
        if number == after:
            raise KeyboardInterrupt
        return write(self, number, rows)

    monkeypatch.setattr(View, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        extract(settings, RunContext(folder=ROOT))
    monkeypatch.undo()
    assert len(list(Path(settings.cache.dir).rglob("*.h5"))) == after
    assert extract(settings, RunContext(folder=ROOT)).forwarded == 36 - 5 * after
    whole = {path.name: path.read_bytes() for path in extracted.rglob("*.h5")}
    assert {path.name: path.read_bytes() for path in Path(settings.cache.dir).rglob("*.h5")} == whole


def test_kill_9_loses_no_shard(sounds, extracted, tmp_path):
    settings = quick(sounds, tmp_path / "cache")
    script = f"""
from tests.support.sets import *
from gramcli.extraction.extract import extract
from gramcli.settings.run_context import RunContext
extract(quick({str(sounds)!r}, {settings.cache.dir!r}), RunContext(folder=ROOT, trust_code=True))
"""
    run = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    shards = tmp_path / "cache" / "views" / "clean" / "shards"
    while run.poll() is None and not (shards.is_dir() and any(shards.glob("*.h5"))):
        time.sleep(0.002)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    kept = {path.name: path.read_bytes() for path in shards.glob("*.h5")}
    assert kept
    assert extract(settings, RunContext(folder=ROOT)).forwarded == 36 - sum(
        5 if name != "00007.h5" else 1 for name in kept
    )
    whole = {path.name: path.read_bytes() for path in extracted.rglob("*.h5")}
    assert kept.items() <= whole.items()
    assert {path.name: path.read_bytes() for path in shards.glob("*.h5")} == whole
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_files_that_cannot_be_used_do_not_touch_the_others(sounds, extracted, tmp_path):
    shutil.copytree(sounds.parent, tmp_path / "sounds")
    manifest = tmp_path / "sounds" / "manifest.csv"
    lines = read_manifest(manifest)
    (manifest.parent / "text.wav").write_text("no audio")
    broken = sound("hum", np.random.default_rng(1))
    broken[100] = np.nan
    write_wav(manifest.parent / "nan.wav", broken)
    bad = [Line(name, "hum", "train", "x") for name in ("text.wav", "missing.wav", "nan.wav")]
    write_manifest(manifest, [bad[0], *lines[:7], bad[1], *lines[7:20], bad[2], *lines[20:]])
    settings = quick(manifest, tmp_path / "cache")
    done = extract(settings, RunContext(folder=ROOT))
    assert (done.clips, done.failed) == (39, 3)
    told = (tmp_path / "cache" / "failures.csv").read_text()
    for words in ("text.wav", "not audio", "missing.wav", "No such file", "nan.wav", "sample 100 is nan"):
        assert words in told
    view, whole = View.open(tmp_path / "cache"), View.open(extracted)
    clean = {clip.id: clip for clip in clip_table.require(extracted).rows}
    for clip in clip_table.require(tmp_path / "cache").rows:
        if clip.id in clean:
            row = view.read(clip.shard).descriptors
            other = whole.read(clean[clip.id].shard).descriptors
            for layer, values in row.items():
                np.testing.assert_array_equal(values[clip.row], other[layer][clean[clip.id].row])
        elif clip.key:
            rows = view.read(clip.shard)
            assert "not finite" in rows.status[clip.row]
            assert np.isnan(rows.logits[clip.row]).all()
    assert calibrate(tmp_path / "cache").counts.sum() == 18
    assert extract(settings, RunContext(folder=ROOT)).failed == 3
    (tmp_path / "cache" / "failures.csv").unlink()
    again = extract(settings, RunContext(folder=ROOT))
    assert (again.forwarded, again.failed) == (0, 3)
    assert (tmp_path / "cache" / "failures.csv").read_text() == told


def test_all_files_bad(tmp_path):
    (tmp_path / "a.wav").write_text("")
    manifest = write_manifest(tmp_path / "m.csv", [Line("a.wav", "hum", "train", "x")])
    with pytest.raises(NoInputError, match=r"m\.csv: none of its 1 clips can be used .*empty file"):
        extract(quick(manifest, tmp_path / "cache"), RunContext(folder=ROOT))


def test_a_lost_table_is_derived_from_the_shards(grown):
    before = statistics_of(Path(grown.cache.dir))
    (Path(grown.cache.dir) / "clips.csv").unlink()
    assert extract(grown, RunContext(folder=ROOT)).forwarded == 0
    assert statistics_of(Path(grown.cache.dir)) == before


CHANGES = {
    "frontend.n_mels: 16 → 20": lambda s: replace(s, frontend=replace(s.frontend, n_mels=20)),
    "frontend.top_db: 80.0 → none": lambda s: replace(s, frontend=replace(s.frontend, top_db="none")),
    "segment.pad: zero → repeat": lambda s: replace(s, segment=replace(s.segment, pad="repeat")),
    "segment.channel: mix → 0": lambda s: replace(s, segment=replace(s.segment, channel=0)),
    "precision: fp32 → bf16": lambda s: replace(s, run=replace(s.run, precision="bf16")),
    "weights: ": lambda s: replace(s, data=replace(s.data, seed=1)),
    "architecture: ": lambda s: replace(s, network=replace(s.network, name="tests.support.toys:Vgg")),
    "layers: ": lambda s: replace(s, network=replace(s.network, layers=("layer1.*",))),
    "head: map → none": headless,
    "outputs: ": lambda s: replace(s, network=replace(s.network, classes=("hum", "hiss", "click"))),
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_changed_identity_is_refused_by_name(sounds, extracted, field):
    before = {path: path.read_bytes() for path in extracted.rglob("*") if path.is_file()}
    with pytest.raises(ArtefactError, match=field.replace(".", r"\.")):
        extract(CHANGES[field](quick(sounds, extracted)), RunContext(folder=ROOT))
    after = {path: path.read_bytes() for path in extracted.rglob("*") if path.is_file()}
    assert {path.name for path in before if before[path] != after.get(path)} <= {"lock"}
    assert set(after) == set(before)


def test_unknown_labels_are_refused_unless_there_is_no_head(sounds, tmp_path):
    settings = quick(sounds, tmp_path / "cache")
    wrong = replace(settings, network=replace(settings.network, classes=("hum", "hiss", "bird")))
    with pytest.raises(ArtefactError, match=r"manifest\.csv:\d+: label click is none of the network's 3 classes"):
        extract(wrong, RunContext(folder=ROOT))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([Line("hum-0-0.wav", "hum", "train", "a"), Line("hum-1-0.wav", "hum", "test", "a")], "group"),
        ([Line("hum-0-0.wav", "hum", "train", "a"), Line("copy.wav", "hum", "test", "b")], "one audio"),
        ([Line("hum-0-0.wav", "hum", "train", "a"), Line("copy.wav", "hiss", "train", "a")], "one audio"),
    ],
)
def test_leaks_between_splits_name_both_rows(sounds, tmp_path, lines, message):
    shutil.copytree(sounds.parent, tmp_path / "sounds")
    shutil.copy(tmp_path / "sounds" / "hum-0-0.wav", tmp_path / "sounds" / "copy.wav")
    manifest = write_manifest(tmp_path / "sounds" / "leak.csv", lines)
    with pytest.raises(UsageError, match=rf"leak\.csv:2.*{message}.*|{message}.*leak\.csv:2") as caught:
        extract(quick(manifest, tmp_path / "cache"), RunContext(folder=ROOT))
    assert "leak.csv:3" in str(caught.value)


def test_the_same_audio_twice_has_one_row(sounds, tmp_path):
    shutil.copytree(sounds.parent, tmp_path / "sounds")
    shutil.copy(tmp_path / "sounds" / "hum-0-0.wav", tmp_path / "sounds" / "copy.wav")
    manifest = tmp_path / "sounds" / "manifest.csv"
    write_manifest(manifest, [*read_manifest(manifest), Line("copy.wav", "hum", "train", "hum0")])
    done = extract(quick(manifest, tmp_path / "cache"), RunContext(folder=ROOT))
    assert (done.clips, done.forwarded) == (37, 36)
    assert calibrate(tmp_path / "cache").counts.tolist() == [6, 6, 6]


def test_a_long_clip_becomes_windows_of_one_group(sounds, tmp_path):
    shutil.copytree(sounds.parent, tmp_path / "sounds")
    manifest = tmp_path / "sounds" / "manifest.csv"
    write_wav(manifest.parent / "long.wav", sound("hum", np.random.default_rng(3), 3.5 * SECONDS))
    write_manifest(manifest, [*read_manifest(manifest), Line("long.wav", "hum", "train", "long")])
    assert extract(quick(manifest, tmp_path / "cache"), RunContext(folder=ROOT)).forwarded == 40
    parts = [clip for clip in clip_table.require(tmp_path / "cache").rows if clip.source == "long.wav"]
    assert [clip.id for clip in parts][-1] == "long.wav@0.625-0.875"
    assert {clip.group for clip in parts} == {"long"}
    assert len({clip.key for clip in parts}) == 4


def test_a_second_writer_is_refused(sounds, extracted):
    with lock(extracted), pytest.raises(LockedError, match=f"in use by process {os.getpid()} on "):
        extract(quick(sounds, extracted), RunContext(folder=ROOT))


def test_it_says_what_it_assumes(sounds, tmp_path):
    settings = quick(sounds, tmp_path / "cache")
    progress = Silent()
    extract(
        replace(settings, network=replace(settings.network, classes=())), RunContext(progress=progress, folder=ROOT)
    )
    notes = "\n".join(progress.notes)
    assert "in this order, click, hiss, hum" in notes
    assert "no --weights given" in notes
    assert "7 layers, on cpu" in notes


def test_settings_are_recorded_but_not_in_the_fingerprint(sounds, extracted):
    view = View.open(extracted)
    assert view.recorded["settings"]["data"]["manifest"] == str(sounds)
    other = View(view.folder, view.identity, {})
    assert other.fingerprint == view.fingerprint
    assert dataclasses.asdict(view)["identity"]["format"] == 1


def test_rows_without_label_or_split_are_left_out(sounds, tmp_path):
    shutil.copytree(sounds.parent, tmp_path / "sounds")
    lines = read_manifest(tmp_path / "sounds" / "manifest.csv")
    manifest = write_manifest(tmp_path / "sounds" / "m.csv", [replace(lines[0], split=""), *lines[1:]])
    done = extract(quick(manifest, tmp_path / "cache"), RunContext(folder=ROOT))
    assert (done.clips, done.forwarded) == (35, 35)
    manifest = write_manifest(tmp_path / "sounds" / "m.csv", [replace(line, label="", split="") for line in lines])
    with pytest.raises((NoInputError, UsageError), match=r"m\.csv"):
        extract(quick(manifest, tmp_path / "other"), RunContext(folder=ROOT))
