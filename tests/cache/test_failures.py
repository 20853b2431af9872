"""failures.csv says why clips failed, and can always be derived again."""

from __future__ import annotations

import numpy as np
import pytest

from gramcli.cache import failures
from gramcli.cache.shard import Shard
from gramcli.cache.view import View
from gramcli.errors import DamagedError, ResourceError
from tests.cache.damage import clip, truncations

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
    first, *lines = (tmp_path / "failures.csv").read_text().splitlines()
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
    assert len((tmp_path / "failures.csv").read_text().splitlines()) == 2
    read = failures.read(tmp_path, view, [strange])
    assert read == {strange.key: r"line\nbreak \udcff"}
    failures.write(tmp_path, [strange], read)
    assert failures.read(tmp_path, view, [strange]) == read


def test_no_loss_surprises(view, tmp_path):
    """It has no digest, being for people; what cannot be a list of failures is refused."""
    failures.write(tmp_path, CLIPS, REASONS)
    path = tmp_path / "failures.csv"
    content = path.read_bytes()
    header = content.index(b"\n")
    for changed in truncations(content):
        path.write_bytes(changed)
        try:
            assert set(failures.read(tmp_path, view, CLIPS)) <= set(REASONS)
            assert len(changed) >= header
        except DamagedError:
            pass


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"id,path\n", b"id,path,key,reason\na,b,c\n", b"id,path,key,reason\na,b,c,d,e\n",
     b'id,path,key,reason\na,b,"c', b"\xff\xfe", b"id,path,key,reason\na,b," + b"k" * 200_000 + b",r\n"],
    ids=lambda content: repr(content[:40]),
)  # fmt: skip
def test_rubbish_is_damage(view, tmp_path, content):
    (tmp_path / "failures.csv").write_bytes(content)
    with pytest.raises(DamagedError, match=r"failures\.csv: is damaged; delete it and run gramcli extract"):
        failures.read(tmp_path, view, CLIPS)


def test_a_folder_in_its_place(view, tmp_path):
    (tmp_path / "failures.csv").mkdir()
    with pytest.raises(ResourceError, match=r"failures\.csv: cannot be read: Is a directory"):
        failures.read(tmp_path, view, CLIPS)
