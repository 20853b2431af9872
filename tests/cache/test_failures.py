"""failures.csv says why clips failed, and can always be derived again."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from gramcli.cache import failures
from gramcli.cache.shard import Shard
from gramcli.cache.view import View
from gramcli.errors import DamagedError
from tests.support.damage import clip, flips, truncations

CLIPS = [clip(0), clip(1), clip(2, shard=4, row=0), clip(3, key="", shard=None, row=None, error="No such file")]
REASONS = {clip(1).key: "0 samples", clip(2).key: 'a "quoted", reason'}


@pytest.fixture
def view(tmp_path):
    """Two shards, a failed clip in each; a third is not there yet."""
    view = View.create(tmp_path, {"head": "none", "outputs": 1, "layers": [["relu", 1]]}, {})
    for number, clips in ((0, CLIPS[:2]), (4, CLIPS[2:3])):
        values = np.zeros((len(clips), 1), np.float32)
        status = tuple(REASONS.get(each.key, "ok") for each in clips)
        view.write(number, Shard(tuple(each.key for each in clips), status, values, {"relu": values}))
    return view


def test_reasons_come_back(view, tmp_path):
    failures.write(tmp_path, CLIPS, REASONS)
    assert failures.read(tmp_path, view, CLIPS) == REASONS
    seal, first, *lines = (tmp_path / "failures.csv").read_text().splitlines()
    assert seal.startswith("# gramcli failures sha256=")
    assert first == "id,path,key,reason"
    assert [line.split(",")[0] for line in lines] == ["dog/1.wav", "dog/2.wav", "dog/3.wav"]
    assert lines[2].endswith(",,No such file")


def test_a_lost_list_is_read_from_the_shards_that_are_there(view, tmp_path):
    absent = clip(5, shard=9, row=0)
    assert failures.read(tmp_path, view, [*CLIPS, absent]) == REASONS


def test_a_clip_that_leaves_the_manifest_and_comes_back_is_still_failed(view, tmp_path):
    gone = [CLIPS[0], clip(1, split="", label="", group=""), *CLIPS[2:]]
    failures.write(tmp_path, gone, REASONS)
    assert failures.read(tmp_path, view, CLIPS) == REASONS


def test_strange_names_and_reasons_stay_on_their_line(view, tmp_path):
    strange = clip(6, id='a\r\nb\udcff,"c', path="\x1b[31m")
    failures.write(tmp_path, [strange], {strange.key: "line\nbreak \udcff"})
    assert len((tmp_path / "failures.csv").read_text().splitlines()) == 3
    read = failures.read(tmp_path, view, [strange])
    assert read == {strange.key: r"line\nbreak \udcff"}
    failures.write(tmp_path, [strange], read)
    assert failures.read(tmp_path, view, [strange]) == read


def one_bit(content):
    return flips(content, (0x01,))


@pytest.mark.parametrize("rot", [one_bit, truncations, lambda content: iter([content + b"x", b"a,b\n", b"\xff\xfe"])])
def test_damage_changes_nothing_as_the_shards_are_asked(view, tmp_path, rot):
    failures.write(tmp_path, CLIPS, REASONS)
    path = tmp_path / "failures.csv"
    for changed in rot(path.read_bytes()):
        path.write_bytes(changed)
        assert failures.read(tmp_path, view, CLIPS) == REASONS


@pytest.mark.parametrize("body", [b"", b"\n", b"id,path\n", b"id,path,key,reason\na,b,c\n", b"\xff\xfe", b'h\na,b,"c'])
def test_a_list_that_was_edited_and_sealed_again_changes_nothing(view, tmp_path, body):
    seal = f"# gramcli failures sha256={hashlib.sha256(body).hexdigest()}\n".encode()
    (tmp_path / "failures.csv").write_bytes(seal + body)
    assert failures.read(tmp_path, view, CLIPS) == REASONS


def test_a_folder_in_its_place_is_said_by_who_writes(view, tmp_path):
    (tmp_path / "failures.csv").mkdir()
    assert failures.read(tmp_path, view, CLIPS) == REASONS
    with pytest.raises(DamagedError, match=r"failures\.csv: is damaged \(a folder stands in its place\)"):
        failures.write(tmp_path, CLIPS, REASONS)


def test_no_cell_is_run_by_a_spreadsheet_and_the_reasons_come_back(view, tmp_path):
    clips = [clip(0, id="=a.wav", path="@x"), clip(1, id="'-b", key="", shard=None, row=None, error="-- not audio")]
    reasons = {clip(0).key: "=HYPERLINK(1)"}
    failures.write(tmp_path, clips, reasons)
    _, _, *lines = (tmp_path / "failures.csv").read_text().splitlines()
    assert lines == [f"'=a.wav,'@x,{clip(0).key},'=HYPERLINK(1)", "''-b,/sounds/dog/1.wav,,'-- not audio"]
    assert failures.read(tmp_path, view, clips) == reasons
