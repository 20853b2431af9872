from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from gramcli.dataset import provenance
from gramcli.dataset.clip import Clip, window_key
from gramcli.dataset.provenance import as_metadata, check_unseen, chose_by
from gramcli.errors import ArtefactError, UsageError

WEIGHTS = Path("w.safetensors")


@pytest.fixture
def clip(tmp_path):
    def make(name: str, split: str, part: tuple[float, float] | None = None, *, recorded: bool = True) -> Clip:
        path = tmp_path / name
        path.write_bytes(name.encode())
        digest = hashlib.sha256(name.encode()).hexdigest()
        start, end = part or (None, None)
        key = window_key(digest, part)
        known = digest if part and recorded else ""
        return Clip(name, key, name, str(path), 1, 1, start, end, "dog", split, "", None, None, "", known)

    return make


@pytest.fixture
def opened(monkeypatch):
    """Lists the files that are opened to be read."""
    paths: list[Path] = []
    plain = provenance.file_digest
    monkeypatch.setattr(provenance, "file_digest", lambda path: paths.append(path) or plain(path))
    return paths


def test_no_file_is_read_whose_digest_the_table_has(clip, opened):
    cut = [clip("long", "train", (start, start + 5.0)) for start in (0.0, 20.0)]
    about = as_metadata([*cut, clip("a", "train")], [])
    check_unseen([clip("a", "train"), clip("b", "test"), clip("long", "test", (5.0, 9.0))], about, WEIGHTS)
    with pytest.raises(UsageError):
        check_unseen([clip("long", "test", (4.0, 9.0))], about, WEIGHTS)
    assert opened == []


def test_windows_of_a_table_without_digests_are_known_by_their_file(clip, opened):
    cut = [clip("long", "train", (start, start + 5.0), recorded=False) for start in (0.0, 3.0)]
    about = as_metadata(cut, [])
    assert about == as_metadata([one._replace(parent_digest=hashlib.sha256(b"long").hexdigest()) for one in cut], [])
    assert len(opened) == 1
    with pytest.raises(UsageError):
        check_unseen([clip("long", "test", (4.0, 9.0), recorded=False)], about, WEIGHTS)


def test_metadata_names_windows_and_stretches(clip):
    cut = [clip("long", "train", (start, start + 5.0)) for start in (5.0, 0.0, 20.0, 7.0)]
    about = as_metadata([*cut, clip("a", "train")], [clip("b", "validation")])
    assert about["trained_on"] == sorted([*(one.key for one in cut), clip("a", "train").key])
    assert about["trained_stretches"] == {hashlib.sha256(b"long").hexdigest(): [(0.0, 12.0), (20.0, 25.0)]}
    assert about["chosen_on"] == [hashlib.sha256(b"b").hexdigest()]


@pytest.mark.parametrize("split", ["validation", "test", "unknown"])
@pytest.mark.parametrize(
    ("trained", "judged"),
    [
        (None, None),
        (None, (0.0, 2.0)),
        ((0.0, 5.0), None),
        ((0.0, 5.0), (0.0, 5.0)),
        ((0.0, 5.0), (4.5, 6.5)),
        ((3.0, 5.0), (0.0, 10.0)),
    ],
    ids=str,
)
def test_the_same_audio_is_found_however_it_is_cut(clip, trained, judged, split):
    about = as_metadata([clip("x", "train", trained)], [])
    with pytest.raises(UsageError, match=rf"^x: is in the {split} split, but w\.safetensors was trained on it; use"):
        check_unseen([clip("y", split), clip("x", split, judged)], about, WEIGHTS)


def test_other_audio_is_let_through(clip):
    about = as_metadata([clip("x", "train", (0.0, 5.0)), clip("a", "train")], [])
    fine = [clip("x", "test", (5.0, 10.0)), clip("y", "test", (0.0, 5.0)), clip("z", "validation")]
    check_unseen([*fine, clip("x", "train", (0.0, 5.0)), clip("a", ""), clip("a", "train")], about, WEIGHTS)


def test_a_checkpoint_that_says_nothing_refuses_nothing(clip):
    check_unseen([clip("x", "test")], {}, WEIGHTS)


@pytest.mark.parametrize(
    "about",
    [{"trained_on": 3}, {"trained_on": ["a"], "trained_stretches": {"a": [["x", 1]]}}, {"trained_stretches": 1}],
)
def test_metadata_that_cannot_be_understood_is_refused(clip, about):
    with pytest.raises(
        ArtefactError, match=r"w\.safetensors: trained_on or trained_stretches in its gramcli metadata cannot be read"
    ):
        check_unseen([clip("x", "test")], about, WEIGHTS)


def test_test_clips_that_chose_the_epoch_are_counted(clip):
    about = as_metadata([clip("a", "train")], [clip("b", "validation"), clip("c", "validation")])
    assert chose_by([clip("b", "test"), clip("c", "validation"), clip("d", "test")], about, Path("w")) == 1
    assert chose_by([clip("b", "unknown")], about, Path("w")) == 1
    assert chose_by([clip("b", "test")], {}, Path("w")) == 0


def test_a_file_that_is_gone_is_left_to_decoding(clip):
    about = as_metadata([clip("x", "train")], [])
    gone = clip("y", "test", (0.0, 1.0), recorded=False)
    Path(gone.path).unlink()
    check_unseen([gone], about, WEIGHTS)


@pytest.mark.parametrize("about", [{"chosen_on": 5}, {"chosen_on": {"a": 1}}, {"chosen_on": "abc"}])
def test_what_chose_the_epoch_must_be_a_list(clip, about):
    with pytest.raises(ArtefactError, match="w: chosen_on in its gramcli metadata cannot be read"):
        chose_by([clip("b", "test")], about, Path("w"))


def test_what_was_trained_on_must_be_a_list(clip):
    with pytest.raises(ArtefactError, match="w: trained_on or trained_stretches in its gramcli metadata"):
        check_unseen([clip("b", "test")], {"trained_on": {"a": 1}}, Path("w"))
