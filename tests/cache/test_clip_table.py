"""clips.csv and view.json: they come back as written, and every change is found."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.cache import clip_table, placement
from gramcli.cache.shard import row_bytes
from gramcli.cache.view import View
from gramcli.errors import ArtefactError, DamagedError
from gramcli.identity import differences, fingerprint
from tests.support.damage import clip, flips, truncations

text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.just("bad\udcff,\n\"name'\r")
times = st.none() | st.floats(0, 1e6)
rows = st.lists(
    st.builds(
        clip_table.Clip, text, text, text, text, st.integers(0), st.integers(0), times, times, text, text, text,
        st.none() | st.integers(0, 99), st.none() | st.integers(0, 99), text, text,
    )
)  # fmt: skip


@given(rows, st.floats(0.1, 100))
def test_any_clip_comes_back(tmp_path_factory, rows, seconds):
    folder = tmp_path_factory.mktemp("clips")
    clip_table.write(folder, rows, seconds)
    assert clip_table.read(folder) == clip_table.ClipTable(tuple(rows), seconds)


@pytest.mark.parametrize("rot", [flips, truncations])
def test_every_change_of_a_byte_and_every_loss_of_the_table_is_found(tmp_path, rot):
    clip_table.write(tmp_path, [clip(1)], 5.0)
    for changed in rot((tmp_path / "clips.csv").read_bytes()):
        (tmp_path / "clips.csv").write_bytes(changed)
        with pytest.raises((DamagedError, ArtefactError), match=r"clips\.csv: (is damaged|was made by a newer)"):
            clip_table.read(tmp_path)


def test_every_change_of_the_first_line_is_found(tmp_path):
    """White space, signs and digits that mean the same would else go through."""
    clip_table.write(tmp_path, [], 5)
    content = (tmp_path / "clips.csv").read_bytes()
    assert clip_table.read(tmp_path) == clip_table.ClipTable((), 5.0)
    for place in range(content.index(b"\n") + 1):
        for byte in {*b"\t\v\f\r\x1c +-_029aA"} - {content[place]}:
            (tmp_path / "clips.csv").write_bytes(content[:place] + bytes([byte]) + content[place + 1 :])
            with pytest.raises(DamagedError, match=r"clips\.csv: is damaged"):
                clip_table.read(tmp_path)


OLD = """# gramcli clips format=1 seconds=5.0 sha256=DIGEST
id,key,source,path,bytes,mtime_ns,start,end,label,split,group,shard,row,error
a.wav,0a,a.wav,/x/a.wav,10,20,,,dog,train,g,0,1,
b.wav@0-5,0b,b.wav,/x/b.wav,10,20,0.0,5.0,cat,test,h,0,2,
"""


def old_table(folder: Path) -> bytes:
    """Writes a table as gramcli did before it kept the digests of files."""
    head, body = OLD.replace("DIGEST", "").encode().split(b"\n", 1)
    content = head + hashlib.sha256(head + body).hexdigest().encode() + b"\n" + body
    (folder / "clips.csv").write_bytes(content)
    return content


def test_a_table_of_format_1_is_read_and_left_as_it_is(tmp_path):
    content = old_table(tmp_path)
    table = clip_table.require(tmp_path)
    whole, cut = table.rows
    assert (whole.label, whole.row, whole.file_digest) == ("dog", 1, "0a")
    assert (cut.part, cut.row, cut.parent_digest, cut.file_digest) == ((0.0, 5.0), 2, "", "")
    assert table.digest("train", "test") == "b65f72b8e68a74987e89d4976162f1c6df6106f8112f7612443f81f13b424bdf"
    assert clip_table.name(tmp_path).startswith("# gramcli clips format=1 ")
    assert (tmp_path / "clips.csv").read_bytes() == content
    clip_table.write(tmp_path, table.rows, table.seconds)
    assert clip_table.read(tmp_path) == table
    assert clip_table.name(tmp_path).startswith("# gramcli clips format=3 ")


def test_a_table_of_format_2_holds_the_texts_as_they_are(tmp_path):
    """Only later ones keep a spreadsheet from running them."""
    row = clip(1, id="=a.wav", path="/x/=a.wav", label="'=b", group="'-c", error="-d")
    clip_table.write(tmp_path, [row], 5.0)
    head, body = (tmp_path / "clips.csv").read_bytes().split(b"\n", 1)
    assert b"'=a.wav" in body
    assert b"''=b" in body
    old = body.replace(b"'=", b"=").replace(b"'-", b"-")
    first = head.partition(b"sha256=")[0].replace(b"format=3", b"format=2") + b"sha256="
    digest = hashlib.sha256(first + old).hexdigest().encode()
    (tmp_path / "clips.csv").write_bytes(first + digest + b"\n" + old)
    assert clip_table.require(tmp_path).rows == (row,)


@pytest.mark.parametrize("rot", [flips, truncations])
def test_every_change_of_a_table_of_format_1_is_found(tmp_path, rot):
    for changed in rot(old_table(tmp_path)):
        (tmp_path / "clips.csv").write_bytes(changed)
        with pytest.raises((DamagedError, ArtefactError), match=r"clips\.csv: (is damaged|was made by a newer)"):
            clip_table.read(tmp_path)


def test_a_digest_is_kept_once_for_all_windows_of_a_file_and_not_where_the_key_is_it(tmp_path):
    digest = "d" * 64
    windows = [clip(n, start=5.0 * n, end=5.0 * n + 5, parent_digest=digest) for n in range(3)]
    clip_table.write(tmp_path, [*windows, clip(9)], 5.0)
    rows = clip_table.require(tmp_path).rows
    assert [row.file_digest for row in rows] == [digest, digest, digest, rows[3].key]
    assert rows[0].parent_digest is rows[2].parent_digest
    assert rows[3].parent_digest == ""


def test_names_that_are_not_utf_8_come_back(tmp_path):
    names = [os.fsdecode(bytes([byte, 44, 34, 10, 13, byte])) for byte in range(1, 256)]
    rows = [clip(n, id=name, path=name, error=name) for n, name in enumerate(names)]
    clip_table.write(tmp_path, rows, 5.0)
    assert clip_table.require(tmp_path).rows == tuple(rows)


def test_a_newer_table_and_a_folder_in_its_place_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(clip_table, "FORMAT", 4)
    clip_table.write(tmp_path, [clip(1)], 5.0)
    monkeypatch.undo()
    with pytest.raises(ArtefactError, match=r"clips\.csv: was made by a newer gramcli \(format 4\)"):
        clip_table.read(tmp_path)
    (tmp_path / "clips.csv").unlink()
    (tmp_path / "clips.csv").mkdir()
    with pytest.raises(DamagedError, match=r"clips\.csv: is damaged \(a folder stands in its place\)"):
        clip_table.read(tmp_path)


@given(st.permutations([clip(1, group="g"), clip(1, id="copy.wav", group="h"), clip(2), clip(3, split="validation")]))
def test_copies_of_one_audio_count_once_in_any_order(order):
    table = clip_table.ClipTable(tuple(order), 5.0)
    assert [(each.id, each.group) for each in table.used("train")] == [("copy.wav", "h"), ("dog/2.wav", "g2")]
    assert table.digest("train") == clip_table.ClipTable(tuple(reversed(order)), 5.0).digest("train")


def test_no_table_yet(tmp_path):
    assert clip_table.read(tmp_path) is None
    with pytest.raises(ArtefactError, match="run gramcli extract first"):
        clip_table.require(tmp_path)


def test_each_audio_is_used_once_and_the_digest_does_not_know_order_or_place():
    one, two = clip(1), clip(2, split="validation")
    table = clip_table.ClipTable(
        (one, two, clip(1, id="copy.wav"), clip(3, split=""), clip(4, shard=None, row=None)), 5.0
    )
    assert [each.key for each in table.used("train", "validation")] == [one.key, two.key]
    moved = clip_table.ClipTable((clip(2, split="validation", shard=9), clip(1, row=7)), 5.0)
    assert table.digest("train", "validation") == moved.digest("train", "validation")
    for change in ({"label": "cat"}, {"split": "validation"}, {"group": "other"}):
        assert clip_table.ClipTable((clip(1, **change), two), 5.0).digest("train", "validation") != moved.digest(
            "train", "validation"
        )


@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)), st.integers(1, 9))
def test_places_are_kept_and_new_ones_are_whole_shards(before, after, size):
    bare = {"shard": None, "row": None}
    first = placement.assign_places([clip(n, **bare) for n in sorted(before)], {}, set(), size)
    done = {each.shard for each in first}
    previous = clip_table.ClipTable(tuple(first), 5.0)
    there = placement.places_in_finished_shards(previous, done)
    second = placement.assign_places([clip(n, **bare) for n in sorted(after)], there, done, size)
    for each in second:
        if each.key in there:
            assert (each.shard, each.row) == (there[each.key].shard, there[each.key].row)
        else:
            assert each.shard not in done
    new = clip_table.by_shard(each for each in second if each.key not in there)
    assert all([each.row for each in group] == list(range(len(group))) for group in new.values())
    assert all(len(group) == size for group in list(new.values())[:-1])
    gone = placement.unlisted_clips(second, previous, there)
    assert {each.key for each in gone} == {clip(n).key for n in before - after}
    assert {each.split for each in gone} <= {""}


@given(st.integers(1, 2_000_000))
def test_a_shard_takes_at_most_64_mib_unless_16_clips_take_more(numbers):
    rows = placement.rows_per_shard(numbers)
    assert 16 <= rows <= 256
    assert rows == 16 or rows * row_bytes(numbers) <= 64 * 2**20
    assert rows == 256 or (rows + 1) * row_bytes(numbers) > 64 * 2**20


identities = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=6,
)
tables = st.dictionaries(st.text("abc", min_size=1), identities, max_size=4)


@given(tables)
def test_equal_identities_do_not_differ(one):
    again = json.loads(json.dumps(one))
    assert differences(one, again) == []
    assert fingerprint(one) == fingerprint(again)


@given(tables, st.text("abc", min_size=1), st.integers(1000))
def test_a_changed_field_is_named(one, field, value):
    other = {**one, field: value}
    assert any(line.startswith(field) for line in differences(one, other))
    assert fingerprint(one) != fingerprint(other)


IDENTITY = {"architecture": "x", "head": "map", "outputs": ["a"], "layers": [["relu", 3]], "front": {"n_mels": 64}}


@pytest.mark.parametrize("rot", [flips, truncations])
def test_every_change_of_the_identity_is_found(tmp_path, rot):
    view = View.create(tmp_path, IDENTITY, {"settings": {}})
    path = view.folder / "view.json"
    content = path.read_bytes()
    for changed in rot(content):
        path.write_bytes(changed)
        with pytest.raises(DamagedError, match=r"view\.json: is damaged"):
            View.open(tmp_path)


def test_a_view_is_opened_as_made_and_another_identity_is_refused(tmp_path):
    view = View.create(tmp_path, IDENTITY, {"settings": {"a": {"b": 1}}})
    assert View.open(tmp_path) == view
    assert (view.layers, view.outputs, view.present()) == ({"relu": 3}, ("a",), set())
    with pytest.raises(ArtefactError, match=r"clean: was extracted otherwise \(front\.n_mels: 64 → 32\); undo that"):
        View.create(tmp_path, {**IDENTITY, "front": {"n_mels": 32}}, {})
    assert View.open(tmp_path) == view
