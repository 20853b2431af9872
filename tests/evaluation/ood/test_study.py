"""Unknown sounds beside the test clips of a cache, from files to the sentence."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gramcli.cache import clip_table, ingest
from gramcli.calibration.calibrate import calibrate
from gramcli.calibration.select_layers import select_layers
from gramcli.errors import ArtefactError, NoInputError, UsageError
from gramcli.evaluation.evaluate import evaluate
from gramcli.evaluation.ood import scored_clips
from gramcli.evaluation.ood.confounders import EXPLAINED, NOT_COMPARED, SEPARATED, TOO_FEW
from gramcli.evaluation.ood.measures import measure
from gramcli.evaluation.ood.scores import TRIVIAL
from gramcli.extraction.extract import extract
from gramcli.inference.classifier import GramClassifier
from gramcli.progress import Silent
from gramcli.settings.run_context import RunContext
from tests.support.sets import (
    CLASSES,
    RATE,
    ROOT,
    SECONDS,
    headless,
    quick,
    sound,
    write_set,
    write_sources,
    write_strange,
    write_wav,
)

metrics = pytest.importorskip("sklearn.metrics")

AUDIO = ("mahalanobis_log_mel", *TRIVIAL)
NETWORK = ("deviation", "max_softmax", "energy", "max_logit", "mahalanobis", "knn")


def whole(settings, folder=ROOT) -> Path:
    extract(settings, RunContext(folder=folder))
    cache = Path(settings.cache.dir)
    calibrate(cache)
    select_layers(cache)
    return cache


@pytest.fixture(scope="module")
def known_sounds(tmp_path_factory):
    """Manifest with 36 test clips, each of a source of its own."""
    return write_sources(tmp_path_factory.mktemp("known"), tests=12)


@pytest.fixture(scope="module")
def known(known_sounds, tmp_path_factory):
    """A calibrated cache of these."""
    return whole(quick(known_sounds, tmp_path_factory.mktemp("cache") / "cache", "tests.support.toys:Vgg"))


def write_chords(folder: Path, files: int, seed: int = 5) -> Path:
    """Writes chords that are as long, loud and broad as the classes, over faint noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(SECONDS * RATE)) / RATE
    for n in range(files):
        chord = sum(np.sign(np.sin(2 * np.pi * pitch * time)) for pitch in rng.uniform(900, 3800, 4))
        loud = np.exp(rng.uniform(np.log(0.02), np.log(0.08))) / np.sqrt((chord**2).mean())
        write_wav(folder / f"{n:03}.wav", (loud * chord + 3e-3 * rng.normal(size=len(time))).astype(np.float32))
    return folder


def write_altered(folder: Path, files: int, change) -> Path:
    """Writes new sounds of the classes after a change."""
    rng = np.random.default_rng(3)
    for n in range(files):
        write_wav(folder / f"{n:03}.wav", change(sound(CLASSES[n % 3], rng), rng))
    return folder


@pytest.fixture(scope="module")
def chords(tmp_path_factory):
    return write_chords(tmp_path_factory.mktemp("chords"), 40)


@pytest.fixture(scope="module")
def found(known, chords):
    (one,) = evaluate(known, unknown=chords).unknown
    return one


# --- what is claimed


def test_other_sounds_are_told_apart(found, chords):
    assert (found.finding, found.folder, found.labels, found.failed) == (SEPARATED, str(chords), (), {})
    assert (found.files, found.known, found.known_groups, found.unknown, found.unknown_groups) == (40, 36, 36, 40, 40)
    assert found.matched >= 15
    assert found.interval[0] > 0.5
    assert found.matched_interval[0] > 0.5
    assert f"also on {found.matched} pairs of similar length, level and bandwidth" in found.verdict
    assert tuple(found.scores) == (*NETWORK, *AUDIO)


def test_the_same_sounds_but_quieter_are_explained_by_level(known, tmp_path):
    (found,) = evaluate(known, unknown=write_altered(tmp_path, 36, lambda one, rng: one / 30)).unknown
    assert found.scores["deviation"].all.auroc > 0.6
    assert found.finding == EXPLAINED
    assert found.verdict.startswith("Level explains this result: alone it has AUROC 1.00")
    assert found.matched == 0
    assert {score.matched for score in found.scores.values()} == {None}


def test_the_same_sounds_but_shorter_are_explained_by_length_or_padding(known, tmp_path):
    (found,) = evaluate(known, unknown=write_altered(tmp_path, 36, lambda one, rng: one[: len(one) // 3])).unknown
    assert found.finding == EXPLAINED
    assert found.verdict.startswith(("Length explains", "The share of zero samples explains"))


def narrowed(samples, rng):
    """Returns what is below 100 Hz, as loud as the whole was."""
    spectrum = np.fft.rfft(samples)
    spectrum[round(100 * SECONDS) :] = 0
    below = np.fft.irfft(spectrum, len(samples))
    return (below * np.sqrt((samples**2).mean() / (below**2).mean())).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("duration", lambda one, rng: one[: len(one) * 4 // 5]),
        ("level", lambda one, rng: one / 10),
        ("bandwidth", narrowed),
    ],
)
def test_what_differs_in_one_of_the_three_is_not_matched(known, tmp_path, name, change):
    (found,) = evaluate(known, unknown=write_altered(tmp_path, 36, change)).unknown
    assert found.scores[name].all.auroc > 0.75
    assert found.matched <= 3


def test_the_same_sounds_are_not_told_apart(known, tmp_path):
    (found,) = evaluate(known, unknown=write_altered(tmp_path, 36, lambda one, rng: one)).unknown
    assert found.finding != SEPARATED
    assert abs(found.scores["deviation"].all.auroc - 0.5) < 0.2
    assert found.matched > 20


def test_a_few_files_show_nothing(known, tmp_path):
    (found,) = evaluate(known, unknown=write_chords(tmp_path, 4)).unknown
    assert (found.finding, found.interval) == (TOO_FEW, None)
    assert "too few groups" in found.verdict


def test_windows_of_one_long_file_are_one_group(known, tmp_path):
    write_strange(tmp_path, 1, seconds=20 * SECONDS)
    (found,) = evaluate(known, unknown=tmp_path).unknown
    assert (found.files, found.unknown, found.unknown_groups, found.interval) == (1, 20, 1, None)


# --- the figures


def test_scores_are_those_of_classify_and_of_scikit_learn(known, known_sounds, chords, found):
    classifier = GramClassifier.load(known)
    test = [clip.path for clip in clip_table.require(known).used("test")]
    rows = [classifier.predict(paths) for paths in (test, [chords])]
    truth = [0] * 36 + [1] * 40
    strange = [row.strangeness for some in rows for row in some]
    assert found.scores["deviation"].all.auroc == pytest.approx(metrics.roc_auc_score(truth, strange), abs=1e-6)
    assert found.scores["deviation"].all.aupr == pytest.approx(metrics.average_precision_score(truth, strange))
    sure = [-row.network_confidence for some in rows for row in some]
    assert found.scores["max_softmax"].all.auroc == pytest.approx(metrics.roc_auc_score(truth, sure), abs=2e-3)
    assert found.beyond == np.mean([row.unknown for row in rows[1]])


def test_trivial_scores_are_distances_from_the_median_of_training(known, chords, found):
    def measured(paths):
        return [measure(soundfile.read(one, dtype="float32")[0], RATE, 2000, "zero") for one in paths]

    clips = clip_table.require(known)
    training, test = (measured([clip.path for clip in clips.used(split)]) for split in ("train", "test"))
    strange = measured(sorted(chords.iterdir()))
    for name, field in zip(TRIVIAL, ("duration", "level", "bandwidth", "zeros"), strict=True):
        usual = np.median([getattr(one, field) for one in training])
        scores = [abs(getattr(one, field) - usual) for one in (*test, *strange)]
        assert found.scores[name].all.auroc == pytest.approx(metrics.roc_auc_score([0] * 36 + [1] * 40, scores)), name


def test_figures_depend_neither_on_shards_nor_on_the_order_and_labels_of_test_clips(
    found, known_sounds, chords, tmp_path
):
    lines = known_sounds.read_text().splitlines()
    test = [line for line in lines[1:] if ",test," in line]
    # a test clip's label is no part of any score
    turned = [line.replace(",hum,", ",*,").replace(",hiss,", ",hum,").replace(",*,", ",hiss,") for line in test[::-1]]
    manifest = known_sounds.parent / "turned.csv"
    manifest.write_text("\n".join([lines[0], *turned, *(line for line in lines[1:] if line not in test)]) + "\n")
    settings = quick(manifest, tmp_path / "cache", "tests.support.toys:Vgg", batch=3)
    cache = whole(replace(settings, cache=replace(settings.cache, clips_per_shard=17)))
    (again,) = evaluate(cache, unknown=chords).unknown
    assert again == found


def test_few_training_clips_stand_for_many(known, chords, monkeypatch):
    monkeypatch.setattr(scored_clips, "MAX_CLIPS", 12)
    progress = Silent()
    (one,) = evaluate(known, unknown=chords, context=RunContext(progress=progress)).unknown
    assert (
        "rival scores of unknown sounds are fitted on 12 of 60 training clips, each class by its share"
        in progress.notes
    )
    (again,) = evaluate(known, unknown=chords).unknown
    assert one == again


# --- where the sounds come from


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """A cache without one class, of which it keeps twelve test clips."""
    folder = tmp_path_factory.mktemp("held")
    settings = quick(write_sources(folder / "sounds", tests=12), folder / "cache", "tests.support.toys:Vgg")
    settings = replace(
        settings,
        data=replace(settings.data, hold_out=("click",)),
        network=replace(settings.network, classes=("hiss", "hum")),
    )
    return whole(settings)


def test_labels_held_out_need_no_flag(held, chords):
    (found,) = evaluate(held).unknown
    assert (found.folder, found.labels, found.files) == (None, ("click",), 12)
    assert (found.known, found.unknown, found.unknown_groups) == (24, 12, 12)
    assert found.interval is not None
    assert tuple(found.scores) == (*NETWORK, *AUDIO)
    both = evaluate(held, unknown=chords).unknown
    assert both[0] == found
    assert both[1].folder == str(chords)
    assert evaluate(held, "validation").unknown is None


def test_without_unknown_sounds_nothing_is_decoded(known, monkeypatch):
    monkeypatch.setattr(scored_clips, "Decoders", None)
    assert evaluate(known).unknown is None
    assert evaluate(known).as_dict()["unknown"] is None


def test_files_that_are_clips_of_the_cache_are_refused(known, known_sounds, chords, tmp_path):
    shutil.copytree(chords, tmp_path / "chords")
    for split in ("train", "validation", "test"):
        shutil.copy(known_sounds.parent / f"hum-{split}-0.wav", tmp_path / "chords" / "renamed.wav")
        with pytest.raises(
            UsageError, match=rf"1 of 41 files are clips of the cache \(the first, .*renamed.wav, {split}\)"
        ):
            evaluate(known, unknown=tmp_path / "chords")


def test_another_split_than_test_is_refused(known, chords):
    with pytest.raises(UsageError, match="compares sounds with the test split, not with train"):
        evaluate(known, "train", unknown=chords)


def test_failed_files(known, chords, found, tmp_path):
    shutil.copytree(chords, tmp_path / "chords")
    (tmp_path / "chords" / "bad.wav").write_text("no audio")
    (one,) = evaluate(known, unknown=tmp_path / "chords").unknown
    assert list(one.failed) == [str(tmp_path / "chords" / "bad.wav")]
    assert (one.files, one.unknown) == (41, 40)
    assert (one.scores, one.interval, one.verdict) == (found.scores, found.interval, found.verdict)


class TaskCounts(Silent):
    """Counts steps and failures of each task."""

    def __init__(self):
        super().__init__()
        self.counts = {}

    def start(self, task, total):
        self.task = task

    def advance(self, steps, failed=0):
        done, lost = self.counts.get(self.task, (0, 0))
        self.counts[self.task] = (done + steps, lost + failed)


def test_a_file_counts_as_failed_if_a_window_of_a_later_batch_fails(known, chords, tmp_path, rng):
    folder = tmp_path / "sounds"
    folder.mkdir()
    shutil.copy(chords / "000.wav", folder)
    samples = np.concatenate([sound("hum", rng) for _ in range(20)]).astype(np.float32)
    samples[-7] = np.nan
    soundfile.write(folder / "long.wav", samples, RATE, subtype="FLOAT")
    progress = TaskCounts()
    (one,) = evaluate(known, unknown=folder, context=RunContext(progress=progress)).unknown
    assert list(one.failed) == [str(folder / "long.wav")]
    assert progress.counts["scoring unknown sounds"] == (2, 1)


def test_no_usable_recording(known, tmp_path):
    with pytest.raises(NoInputError, match="no audio"):
        evaluate(known, unknown=tmp_path)
    (tmp_path / "bad.wav").write_text("no audio")
    with pytest.raises(NoInputError, match=r"1 of 1 files failed; the first, .*bad.wav: not audio"):
        evaluate(known, unknown=tmp_path)


def test_audio_that_is_gone_or_another(known, found, chords, tmp_path):
    """What the cache remembers is judged without it."""
    moved = whole(quick(write_sources(tmp_path / "sounds", tests=12), tmp_path / "cache", "tests.support.toys:Vgg"))
    victim = tmp_path / "sounds" / "hum-test-3.wav"
    content = victim.read_bytes()
    for change, reason in ((victim.unlink, "No such file"), (lambda: victim.write_bytes(content[:-4]), "bytes long")):
        change()
        progress = Silent()
        (one,) = evaluate(moved, unknown=chords, context=RunContext(progress=progress)).unknown
        (note,) = [note for note in progress.notes if "left out" in note]
        assert "hum-test-3.wav" in note
        assert reason in note
        assert tuple(one.scores) == NETWORK
        assert (one.matched, one.finding) == (0, NOT_COMPARED)
        assert {name: score.all for name, score in one.scores.items()} == {
            name: found.scores[name].all for name in NETWORK
        }


def test_outputs_that_are_not_the_classes_have_no_say(tmp_path, chords):
    cache = whole(headless(quick(write_set(tmp_path / "sounds"), tmp_path / "cache")))
    (found,) = evaluate(cache, unknown=chords).unknown
    assert tuple(found.scores) == ("deviation", "mahalanobis", "knn", *AUDIO)


def test_a_label_without_training_clips_is_neither_known_nor_unknown(tmp_path, chords):
    manifest = write_set(tmp_path / "sounds")
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join(line for line in lines if not (",hum," in line and ",train," in line)) + "\n")
    progress = Silent()
    (found,) = evaluate(
        whole(quick(manifest, tmp_path / "cache")), unknown=chords, context=RunContext(progress=progress)
    ).unknown
    assert found.known == 6
    assert (
        "3 test clips have labels without training clips; they count neither as known nor as unknown sounds"
        in progress.notes
    )


def test_a_network_on_samples(tmp_path, chords):
    settings = quick(write_set(tmp_path / "sounds"), tmp_path / "cache", "tests.support.toys:Cnn1d")
    cache = whole(replace(settings, frontend=replace(settings.frontend, kind="waveform")))
    (found,) = evaluate(cache, unknown=chords).unknown
    assert tuple(found.scores) == (*NETWORK, *AUDIO)


def test_descriptors_from_elsewhere(tmp_path, rng, chords):
    splits = ["train"] * 20 + ["validation"] * 20 + ["test"] * 20 + ["unknown"] * 12
    labels = ["a", "b"] * 30 + ["c"] * 12
    values = rng.random((72, 6))
    ingest.write(
        [f"clip {n}" for n in range(72)], {"layer": values}, rng.normal(size=(72, 2)), labels=labels, splits=splits,
        classes=["a", "b"], cache=tmp_path,
    )  # fmt: skip
    calibrate(tmp_path)
    select_layers(tmp_path)
    progress = Silent()
    (found,) = evaluate(tmp_path, context=RunContext(progress=progress)).unknown
    assert (found.labels, found.unknown, found.matched) == (("c",), 12, 0)
    assert tuple(found.scores) == NETWORK
    assert any("computed elsewhere" in note for note in progress.notes)
    with pytest.raises(ArtefactError, match="there is no network to run"):
        evaluate(tmp_path, unknown=chords)


def test_the_document_is_plain(found):
    document = json.loads(json.dumps(asdict(found)))
    assert set(document["scores"]["deviation"]) == {"all", "matched"}
    assert set(document["scores"]["deviation"]["all"]) == {"auroc", "aupr", "fpr_at_95_tpr"}
