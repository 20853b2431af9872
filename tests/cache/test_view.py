"""Views: identities are compared field by field, a shard is written once, and shards cannot be exchanged."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.cache import shard
from gramcli.cache.labelled_rows import read_rows
from gramcli.cache.shard import Shard
from gramcli.cache.view import View, shard_name
from gramcli.errors import ArtefactError, DamagedError, ResourceError
from gramcli.identity import differences, fingerprint
from tests.support.damage import clip

IDENTITY = {"architecture": "x", "head": "map", "outputs": ["a", "b"], "layers": [["relu", 3], ["a/b", 1]]}

leaves = st.none() | st.booleans() | st.sampled_from([0, 1, -1, 0.0, -0.0, 1.0, "", "1", "a", 0.1, 1e16, 10**16])
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b", "a.b", ""]), inner, max_size=2)
    ),
    max_leaves=5,
)
identities = st.dictionaries(st.sampled_from(["a", "b", "a.b"]), values, max_size=3)


@given(identities, identities)
def test_identities_differ_in_a_named_field_exactly_if_their_fingerprints_do(one, other):
    assert bool(differences(one, other)) == (fingerprint(one) != fingerprint(other))
    assert len(differences(one, other)) == len(differences(other, one))


@pytest.mark.parametrize(
    ("stored", "wanted", "told"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": 2}}, ["a.b: 1 → 3"]),
        ({"a": 1}, {"a": 1.0}, ["a: 1 → 1.0"]),
        ({"a": 1}, {"a": True}, ["a: 1 → true"]),
        ({"a": None}, {}, ["a: none → absent"]),
        ({"a": {}}, {"a": {"b": "x\ny"}}, ["a: {} → absent", r"a.b: absent → x\ny"]),
        ({"a": (1, 2)}, {"a": [1, 2]}, []),
        ({"a": list(range(100))}, {"a": []}, ["a: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1… (100 entries) → []"]),
    ],
)
def test_differences_in_words(stored, wanted, told):
    assert differences(stored, wanted) == told


def rows(*numbers: int) -> Shard:
    """Returns rows of the clips `damage.clip` of these numbers. All values are the number; clip 7 has failed."""
    column = np.array([[n if n != 7 else np.nan] for n in numbers], np.float32)
    status = tuple("ok" if n != 7 else "0 samples" for n in numbers)
    descriptors = {"relu": column.repeat(3, 1), "a/b": column}
    return Shard(tuple(clip(n).key for n in numbers), status, column.repeat(2, 1), descriptors)


@pytest.fixture
def view(tmp_path):
    return View.create(tmp_path, IDENTITY, {"settings": {}})


def test_a_shard_is_written_once(view):
    assert view.write(0, rows(0, 1)) is True
    assert view.write(12345678, rows(2)) is True
    content = view.path(0).read_bytes()
    assert view.write(0, rows(0, 1)) is True
    assert view.write(0, rows(0, 2)) is False
    assert view.path(0).read_bytes() == content
    assert view.present() == {0, 12345678}
    assert sorted(path.name for path in view.path(0).parent.iterdir()) == ["00000.h5", "12345678.h5"]


def test_a_shard_is_read_with_the_layers_asked_for(view):
    view.write(3, rows(5, 6))
    assert list(view.read(3).descriptors) == ["relu", "a/b"]
    assert view.read(3, ["a/b"]).descriptors["a/b"].tolist() == [[5], [6]]
    assert view.read(3, ()).keys == (clip(5).key, clip(6).key)


def test_only_finished_shards_are_present(view):
    for name in (".00001.h5.7-ab.tmp", "1.h5", "00002.h5.bak", "x00003.h5", "00004.hdf5"):
        (view.path(0).parent / name).write_bytes(b"")
    assert view.present() == set()
    view.path(0).parent.joinpath(".00001.h5.7-ab.tmp").unlink()


def test_the_next_writer_removes_temporary_files_of_killed_writers(view, tmp_path):
    left = [view.folder / ".view.json.7-0123abcd.tmp", view.path(0).parent / ".00001.h5.7-0123abcd.tmp"]
    for path in left:
        path.write_bytes(b"half")
    View.open(tmp_path)
    assert all(path.exists() for path in left)
    View.create(tmp_path, IDENTITY, {})
    assert not any(path.exists() for path in left)


def test_a_missing_folder_of_shards_counts_as_empty(view, tmp_path):
    for path in (*view.path(0).parent.iterdir(), view.path(0).parent):
        path.rmdir()
    assert View.open(tmp_path).present() == set()


def test_missing_shards_and_folders_in_their_place_are_refused(view):
    with pytest.raises(DamagedError, match=r"00000\.h5: is missing"):
        view.read(0)
    view.path(0).mkdir()
    with pytest.raises(DamagedError, match=r"00000\.h5: is damaged \(a folder stands in its place\); move that away"):
        view.read(0)
    view.path(1).symlink_to(view.path(1))
    with pytest.raises(DamagedError, match=r"00001\.h5: is damaged \(a link stands in its place\)"):
        view.read(1)


def test_a_file_that_cannot_be_read_is_a_resource_error(view, monkeypatch):
    view.write(0, rows(0))

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "open", fails)
    with pytest.raises(ResourceError, match=r"00000\.h5: cannot be read: Input/output error"):
        view.read(0)


def test_a_shard_under_the_name_of_another_is_noticed(view):
    view.write(0, rows(0, 1))
    view.write(1, rows(2, 7))
    clips = [clip(0), clip(1), clip(2, shard=1, row=0), clip(7, shard=1, row=1)]
    got = [(clip.key, float(part.descriptors["a/b"][row, 0])) for good, part, where in read_rows(view, clips)
           for clip, row in zip(good, where, strict=True)]  # fmt: skip
    assert got == [(clip(n).key, n) for n in (0, 1, 2)]
    one, other = view.path(0).read_bytes(), view.path(1).read_bytes()
    view.path(0).write_bytes(other)
    view.path(1).write_bytes(one)
    view.read(0)  # whole, and of this view: only the table knows better
    with pytest.raises(DamagedError, match=r"00000\.h5: row 0 is not dog/0\.wav"):
        list(read_rows(view, clips))


@pytest.mark.parametrize("change", [{"row": None}, {"row": 2}, {"row": 0}])
def test_a_clip_table_with_wrong_rows_is_noticed(view, change):
    view.write(0, rows(0, 1))
    with pytest.raises(DamagedError, match=r"is not dog/1\.wav; delete clips\.csv"):
        list(read_rows(view, [clip(0), clip(1, **change)]))


def test_a_shard_of_another_view_is_refused(view, tmp_path):
    other = View.create(tmp_path / "other", {**IDENTITY, "layers": [["relu", 3], ["a/b", 2]]}, {})
    view.write(0, rows(0))
    other.path(0).write_bytes(view.path(0).read_bytes())
    with pytest.raises(ArtefactError, match="belongs to another view"):
        other.read(0)


def test_what_was_recorded_is_replaced_and_the_identity_kept(view, tmp_path):
    View.create(tmp_path, {**IDENTITY, "outputs": ("a", "b")}, {"versions": {"torch": "2"}})
    opened = View.open(tmp_path)
    assert (opened.identity, opened.recorded) == (view.identity, {"versions": {"torch": "2"}})
    assert opened.fingerprint == view.fingerprint == fingerprint(IDENTITY)


def test_without_head_there_are_no_outputs(tmp_path):
    assert View.create(tmp_path, {**IDENTITY, "head": "none", "outputs": 7}, {}).outputs == ()


@pytest.mark.parametrize(
    "content", ["[]", "{}", "null", "3", "", "[" * 100_000, '{"sha256": 1}', "\ufeff{}", '{"a": NaN}']
)
def test_any_other_content_is_damaged(view, tmp_path, content):
    (view.folder / "view.json").write_text(content)
    with pytest.raises(DamagedError, match=r"view\.json: is damaged; restore it"):
        View.open(tmp_path)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({"format": 2}, DamagedError),
        ({"format": "1", "identity": {}, "recorded": {}}, DamagedError),
        ({"format": 1, "identity": {}}, DamagedError),
        ({"format": 2, "identity": {}, "recorded": {}}, ArtefactError),
    ],
)
def test_content_with_a_right_digest_must_still_be_a_view(view, tmp_path, content, error):
    text = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    (view.folder / "view.json").write_text(json.dumps({**content, "sha256": hashlib.sha256(text).hexdigest()}))
    with pytest.raises(error, match=r"view\.json: (is damaged|was made by a newer gramcli \(format 2\))"):
        View.open(tmp_path)


def test_a_cache_without_extracted_clips_is_refused(tmp_path):
    with pytest.raises(ArtefactError, match="run gramcli extract first"):
        View.open(tmp_path)


@pytest.mark.parametrize("moment", ["before it is read", "while it is opened"])
def test_a_generation_that_is_gone_since_the_folder_was_listed_is_no_damage(view, tmp_path, monkeypatch, moment):
    """Another process has retried clips and cleaned up."""
    view.write(0, rows(1, 7))
    reader = View.open(tmp_path)
    assert reader.present() == {0}

    def retry_and_clean() -> None:
        view.write(0, rows(1, 2), generation=1)
        view.path(0, 0).unlink()

    real = shard.read_bytes
    if moment == "before it is read":
        retry_and_clean()
    else:

        def racing(path: Path, cache: Path) -> bytes | None:
            if view.path(0, 0).exists():
                retry_and_clean()
            return real(path, cache)

        monkeypatch.setattr(shard, "read_bytes", racing)
    assert reader.read(0).status == ("ok", "ok")
    view.path(0, 1).unlink()
    with pytest.raises(DamagedError, match=r"00000(\.1)?\.h5: is missing; run gramcli extract again"):
        reader.read(0)


def test_a_giant_is_refused_by_its_size(view, tmp_path):
    """They are holes of a terabyte, so that reading one would need all memory."""
    view.write(0, rows(1, 2))
    for size in (2**40, 2**30):  # of the second, only what the file says of itself tells
        os.truncate(view.path(0), size)
        with pytest.raises(DamagedError, match=rf"00000\.h5: is damaged \(it has {size} bytes, more than"):
            view.read(0)
    for size, fault in ((2**40, f"it has {2**40} bytes, more than"), (2**25, "parts of it were never written")):
        os.truncate(view.folder / "view.json", size)
        with pytest.raises(DamagedError, match=rf"view\.json: is damaged \({fault}"):
            View.open(tmp_path)


def test_reading_without_layers_does_not_skip_the_check_of_numbers(view, monkeypatch):
    """The numbers of a layer are checked when it is first read, even if other parts of the shard were read before."""
    odd = rows(1, 2, 3)
    odd.descriptors["relu"][1, 2] = np.nan
    view.write(0, odd)
    assert view.read(0, layers=()).keys == odd.keys
    assert view.read(0, layers=("a/b",)).keys == odd.keys
    with pytest.raises(DamagedError, match=r"00000\.h5: row 1 holds a number that is not finite"):
        view.read(0)


def test_each_number_is_checked_once(view, monkeypatch):
    view.write(0, rows(1, 2, 3))
    checked: list[list[str]] = []
    monkeypatch.setattr("gramcli.cache.shard.require_finite", lambda rows, path, layers: checked.append(sorted(layers)))
    for layers in ((), ("relu",), None, ("relu",)):
        view.read(0, layers)
    assert checked == [[], ["relu"], ["a/b"], []]


@pytest.mark.parametrize("name", ["000001.h5", "٠٠٠٠١.h5", "00001.0.h5", "0001.h5", "1" * 5000 + ".h5"])
def test_other_names_are_no_shards(name):
    assert shard_name(name) is None


def test_a_listing_never_leaves_a_table_without_generations(view):
    """Another thread that found it so would read an earlier generation."""

    class Watched(dict):
        def update(self, *changes) -> None:
            assert self[0] == [0, 1]
            super().update(*changes)

    view.write(0, rows(0, 1))
    view.write(0, rows(0, 2), generation=1)
    view.present()
    object.__setattr__(view, "_generations", Watched(view._generations))
    assert view.present() == {0}
    assert view.generations(0) == [0, 1]
