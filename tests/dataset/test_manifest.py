from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from gramcli.dataset.manifest import Manifest, read
from gramcli.errors import NoInputError, UnsafeError, UsageError
from gramcli.settings.schema import DataSettings
from gramcli.text import natural_sorted
from tests.conftest import shared


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def table(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def manifest(path: Path, **settings: str | int) -> Manifest:
    return read(DataSettings(manifest=str(path), **settings))


def test_a_folder_a_class(tmp_path: Path) -> None:
    touch(tmp_path, *(f"dog/{i}.wav" for i in range(10)), *(f"cat/{i}.flac" for i in range(5)))
    found = manifest(tmp_path)
    assert len(found.rows) == 15
    first = found.rows[0]
    assert (first.id, first.label, first.group) == ("cat/0.flac", "cat", "cat/0.flac")
    assert (first.start, first.end, first.origin) == (None, None, "cat/0.flac")
    assert first.path == str(tmp_path / "cat" / "0.flac")
    assert Counter(row.split for row in found.rows) == {"train": 9, "validation": 3, "test": 3}
    assert found.notes == ("splits made of whole groups, by label, seed 0: 9 train, 3 validation, 3 test",)


def test_folders_of_splits(tmp_path: Path) -> None:
    touch(tmp_path, "train/dog/1.wav", "valid/dog/2.wav", "Test/cat/3.wav")
    found = manifest(tmp_path)
    assert {row.id: (row.split, row.label) for row in found.rows} == {
        "train/dog/1.wav": ("train", "dog"),
        "valid/dog/2.wav": ("validation", "dog"),
        "Test/cat/3.wav": ("test", "cat"),
    }
    assert found.notes == (f"{tmp_path.name}: splits are its folders Test, train, valid",)


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    touch(tmp_path, "test/1.wav", "tone/2.wav")
    assert [row.label for row in manifest(tmp_path).rows] == ["test", "tone"]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["a.wav"], "audio files are not in folders; put them into one folder per class"),
        (["dog/a.wav", "cat/deep/b.wav"], "'dog/a.wav' and 'cat/deep/b.wav' lie at different depths"),
        (["train/a.wav", "test/b.wav"], "its folders are splits; make one folder per class"),
        (["train/dog/a.wav", "more/dog/b.wav"], "'train' is a split, 'more' is not"),
    ],
)
def test_folders_that_say_no_classes(tmp_path: Path, names: list[str], reason: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(UsageError, match=reason):
        manifest(tmp_path)


def test_a_folder_is_read_through_its_table(tmp_path: Path) -> None:
    touch(tmp_path, "x/1.wav", "x/2.wav")
    table(tmp_path / "metadata.csv", "file_name,label,split", "x/1.wav,dog,train", "x/2.wav,cat,test")
    found = manifest(tmp_path)
    assert [(row.label, row.split, row.origin) for row in found.rows] == [
        ("dog", "train", "metadata.csv:2"),
        ("cat", "test", "metadata.csv:3"),
    ]
    assert found.notes[0] == f"{tmp_path.name}: read through its metadata.csv, not as one folder per class"
    touch(tmp_path, "meta.csv")
    with pytest.raises(UsageError, match=r"holds metadata\.csv and meta\.csv; name the one to read"):
        manifest(tmp_path)


@pytest.mark.parametrize("where", ["beside", "audio", "root", "absolute"])
def test_where_files_are_looked_for(tmp_path: Path, where: str) -> None:
    folder = {"beside": "lists", "audio": "lists/audio", "root": "far", "absolute": "far"}[where]
    touch(tmp_path, f"{folder}/sub/1.wav", f"{folder}/2.wav")
    prefix = f"{tmp_path}/far/" if where == "absolute" else ""
    path = table(
        tmp_path / "lists" / "m.csv", "file,label,split", f"{prefix}sub/1.wav,a,train", f"{prefix}2.wav,b,train"
    )
    found = manifest(path, **({"audio_root": str(tmp_path / "far")} if where != "beside" and where != "audio" else {}))
    assert [row.id for row in found.rows] == ["sub/1.wav", "2.wav"]
    assert [row.path for row in found.rows] == [
        str(tmp_path / folder / "sub" / "1.wav"),
        str(tmp_path / folder / "2.wav"),
    ]


def test_the_folder_with_most_of_the_files_is_taken(tmp_path: Path) -> None:
    """One name that happens to be beside the manifest too, hides no other."""
    touch(tmp_path, "1.wav", "audio/1.wav", "audio/2.wav", "audio/3.wav")
    path = table(tmp_path / "m.csv", "file,label", "1.wav,a", "2.wav,a", "3.wav,a", "4.wav,a")
    found = manifest(path)
    assert found.rows[0].path == str(tmp_path / "audio" / "1.wav")
    assert found.notes[0].startswith(f"1 of 4 rows lead to no file in {tmp_path / 'audio'}; the first is m.csv:5: ")
    touch(tmp_path, "2.wav", "3.wav")
    assert manifest(path).rows[0].path == str(tmp_path / "1.wav")


def test_an_unlabelled_row_is_named_where_it_would_be_learnt_from(tmp_path: Path) -> None:
    touch(tmp_path, "1.wav", "2.wav", "3.wav", "4.wav")
    rows = ["file,label,split", "1.wav,a,train", "2.wav,b,validation", "3.wav,,test", "4.wav,,"]
    found = manifest(table(tmp_path / "m.csv", *rows))
    assert [row.split for row in found.rows] == ["train", "validation", "test", ""]
    assert "1 test rows have no label and are not evaluated; the first is m.csv:4" in found.notes
    for split in ("train", "validation"):
        rows[3] = f"3.wav,,{split}"
        with pytest.raises(UsageError, match=rf"m\.csv:4: has no label but is in the {split} split; give it one, or"):
            manifest(table(tmp_path / "m.csv", *rows))


def test_a_file_outside_the_root_keeps_a_name_of_its_own(tmp_path: Path) -> None:
    touch(tmp_path, "far/1.wav")
    path = table(tmp_path / "lists" / "m.csv", "file,label", f"{tmp_path}/far/1.wav,a", "../far/2.wav,a")
    found = manifest(path, allow_outside=True)
    assert [row.id for row in found.rows] == ["../far/1.wav", "../far/2.wav"]


@pytest.mark.parametrize(
    "file", ["../far/1.wav", "/etc/hostname", "x/../../far/1.wav", "{}/far/1.wav", "{}/lists2/1.wav"]
)
def test_a_file_outside_the_root_is_refused_unless_it_is_allowed(tmp_path: Path, file: str) -> None:
    touch(tmp_path, "far/1.wav", "lists/2.wav", "lists2/1.wav")
    path = table(tmp_path / "lists" / "m.csv", "file,label", "2.wav,a", f"{file.format(tmp_path)},b")
    with pytest.raises(
        UnsafeError, match=r"^m\.csv:3: '.*' lies outside .*/lists; set data\.audio_root .* --allow-outside"
    ):
        manifest(path)
    assert len(manifest(path, allow_outside=True).rows) == 2


@pytest.mark.parametrize("link", ["lists/1.wav", "lists/x"])
def test_a_link_out_of_the_root_is_refused_unless_it_is_allowed(tmp_path: Path, link: str) -> None:
    touch(tmp_path, "far/1.wav", "lists/2.wav")
    (tmp_path / link).symlink_to(tmp_path / "far" / ("1.wav" if link.endswith("wav") else ""))
    name = "1.wav" if link.endswith("wav") else "x/1.wav"
    path = table(tmp_path / "lists" / "m.csv", "file,label", "2.wav,a", f"{name},b")
    with pytest.raises(UnsafeError, match=rf"^m\.csv:3: '{name}' is a link that leads out of .*--allow-outside"):
        manifest(path)
    assert [row.id for row in manifest(path, allow_outside=True).rows] == ["2.wav", name]


def test_links_and_detours_inside_the_root_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "lists/far/1.wav", "lists/x/2.wav")
    (tmp_path / "lists" / "linked").symlink_to(tmp_path / "lists" / "far")
    path = table(tmp_path / "lists" / "m.csv", "file,label", "linked/1.wav,a", f"{tmp_path}/lists/x/../x/2.wav,b")
    assert [row.id for row in manifest(path).rows] == ["linked/1.wav", "x/2.wav"]
    assert [row.id for row in manifest(path, audio_root="/").rows] == ["linked/1.wav", f"{tmp_path}/lists/x/2.wav"[1:]]


def test_a_missing_file_keeps_its_row(tmp_path: Path) -> None:
    touch(tmp_path, "1.wav")
    long = "x" * 300
    path = table(tmp_path / "m.csv", "file,label,split", "0.wav,a,test", "1.wav,a,train", f"{long},a,train")
    found = manifest(path)
    assert [Path(row.path).name for row in found.rows] == ["0.wav", "1.wav", long]
    assert (
        f"2 of 3 rows lead to no file in {tmp_path}; the first is m.csv:2: '0.wav'; if they are elsewhere, "
        "set data.audio_root (--audio-root)"
    ) in found.notes


def test_no_row_that_resolves_shows_what_was_tried(tmp_path: Path) -> None:
    path = table(tmp_path / "m.csv", "file,label", "1.wav,a", "2.wav,a")
    tried = ", ".join(str(tmp_path / name) for name in ("1.wav", "audio/1.wav", "2.wav"))
    with pytest.raises(
        NoInputError, match=f"m.csv: none of its 2 rows leads to a file; tried {tried}; set data.audio_root"
    ):
        manifest(path)


def test_stretches_of_one_file_are_one_group(tmp_path: Path) -> None:
    touch(tmp_path, "1.wav")
    lines = ["1.wav,a,0,1.25", "1.wav,b,1.25,1e2", "1.wav,a,3600.0000004,"]
    found = manifest(table(tmp_path / "m.csv", "file,label,start,end", *lines))
    assert [row.id for row in found.rows] == ["1.wav@0-1.25", "1.wav@1.25-100", "1.wav@3600-"]
    assert {row.group for row in found.rows} == {"1.wav"}
    assert {row.split for row in found.rows} == {"train"}


def test_rows_that_say_the_same_are_merged(tmp_path: Path) -> None:
    touch(tmp_path, "1.wav")
    found = manifest(table(tmp_path / "m.csv", "file,label,split", "1.wav,a,train", "./1.wav,a,training"))
    assert len(found.rows) == 1
    assert "1 of 2 rows are listed twice and taken once" in found.notes


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["1.wav,a,train,g", "1.wav,b,train,g"], "'1.wav' is listed with two labels, 'a' and 'b'"),
        (["1.wav,a,train,g", "1.wav,a,test,g"], "'1.wav' is listed with two splits, 'train' and 'test'"),
        (["1.wav,a,train,g", "2.wav,a,test,g"], "group 'g' is in two splits, train and test"),
    ],
)
def test_contradictions_name_both_rows(tmp_path: Path, lines: list[str], reason: str) -> None:
    touch(tmp_path, "1.wav", "2.wav")
    path = table(tmp_path / "m.csv", "file,label,split,group", *lines)
    with pytest.raises(UsageError, match=f"m.csv:2 and m.csv:3: {reason}"):
        manifest(path)


def test_stretches_of_one_file_in_two_splits_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "1.wav")
    path = table(tmp_path / "m.csv", "file,label,split,start,end", "1.wav,a,train,0,1", "1.wav,a,test,1,2")
    with pytest.raises(UsageError, match=r"m\.csv:2 and m\.csv:3: group '1\.wav'"):
        manifest(path)


def test_labels_that_look_alike_are_told_of(tmp_path: Path) -> None:
    touch(tmp_path, "Dog/1.wav", "dog/2.wav")
    assert "labels 'Dog' and 'dog' are two classes, though they look alike" in manifest(tmp_path).notes


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    touch(tmp_path, os.fsdecode(b"dog/\xff.wav"))
    (row,) = manifest(tmp_path).rows
    assert Path(row.path).is_file()
    assert row.origin == "dog/\\udcff.wav"


def test_class_order() -> None:
    assert natural_sorted(["b10", "a", "b2", "B", "2", "10", "b02"]) == ["2", "10", "B", "a", "b02", "b2", "b10"]


def test_labels_held_out_change_no_split_of_the_others(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{label}/{i}.wav" for label in ("dog", "cat", "bird") for i in range(10)))
    whole, without = manifest(tmp_path), manifest(tmp_path, hold_out=("dog",))
    before, after = ({row.id: row.split for row in found.rows} for found in (whole, without))
    assert {name: split for name, split in after.items() if not name.startswith("dog")} == {
        name: split for name, split in before.items() if not name.startswith("dog")
    }
    turned = {"train": "", "validation": "", "test": "unknown"}
    assert all(after[name] == turned[before[name]] for name in before if name.startswith("dog"))
    assert without.notes == (
        *whole.notes,
        "held out: dog: 2 test clips are kept as unknown sounds, 8 of training and validation are not used",
    )


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no manifest named; give one as the argument, or set"):
        read(DataSettings())
    with pytest.raises(NoInputError, match="cannot be read: No such file"):
        manifest(tmp_path / "nowhere")
    with pytest.raises(NoInputError, match="no audio, nor any other file; gramcli reads"):
        manifest(tmp_path)
    touch(tmp_path, "dog/1.wav")
    with pytest.raises(UsageError, match="has no fold column"):
        manifest(tmp_path, test_fold="1")


def test_esc10() -> None:
    folder = shared("data", "esc10")
    found = manifest(folder, validation_fold="1", test_fold="5")
    assert Counter(row.split for row in found.rows) == {"train": 240, "validation": 80, "test": 80}
    assert Counter(row.label for row in found.rows) == dict.fromkeys({row.label for row in found.rows}, 40)
    assert found.rows[0].id == "1-187207-A.ogg"
    assert found.rows[0].path == str(folder / "audio" / "1-187207-A.ogg")
    assert found.rows[0].group == "187207"
    assert all(Path(row.path).is_file() for row in found.rows)
    made = manifest(folder)
    assert set(Counter((row.label, row.split) for row in made.rows).values()) <= {*range(6, 11), *range(22, 27)}
    assert any("'fold' is ignored" in note for note in made.notes)
