from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest

from gramcli.dataset.manifest import Manifest, read
from gramcli.errors import UsageError
from gramcli.settings.schema import DataSettings


def dcase(root: Path, *, test: str = "evaluate") -> Path:
    """Makes 100 training and 20 test clips of two scenes, ten clips a place."""
    places = [f"{scene}-{place}" for scene in ("park", "tram") for place in range(6)]
    files = {f"audio/{place}-{i}.wav": place for place in places for i in range(10)}
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()

    def write(name: str, header: str, lines: list[str]) -> None:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("\r\n".join([header, *lines]) + "\r\n")

    def labelled(file: str) -> str:
        return f"{file}\t{files[file].split('-')[0]}"

    write(
        "meta.csv",
        "filename\tscene_label\tidentifier\tsource_label",
        [f"{labelled(file)}\t{place}\ta" for file, place in files.items()],
    )
    train = [file for file, place in files.items() if not place.endswith("5")]
    held = [file for file in files if file not in train]
    write("evaluation_setup/fold1_train.csv", "filename\tscene_label", [labelled(file) for file in train])
    write("evaluation_setup/fold1_test.csv", "filename", held)
    if test == "evaluate":
        write("evaluation_setup/fold1_evaluate.csv", "filename\tscene_label", [labelled(file) for file in held])
    return root


def manifest(root: Path, **settings: int) -> Manifest:
    return read(DataSettings(manifest=str(root), **settings))


def test_train_and_test_are_official_and_validation_is_whole_places(tmp_path: Path) -> None:
    found = manifest(dcase(tmp_path))
    assert Counter(row.split for row in found.rows) == {"train": 80, "validation": 20, "test": 20}
    assert {row.group for row in found.rows if row.split == "test"} == {"park-5", "tram-5"}
    places = defaultdict(set)
    for row in found.rows:
        places[row.group].add(row.split)
    assert len(places) == 12
    assert all(len(splits) == 1 for splits in places.values())
    assert Counter(row.label for row in found.rows if row.split == "validation") == {"park": 10, "tram": 10}
    assert found.notes == (
        f"{tmp_path.name}: DCASE folder: 100 train (fold1_train.csv), 20 test (fold1_evaluate.csv)",
        "validation made of whole groups of the training clips, by label, seed 0: 20 of 100",
    )
    assert found.rows[0].origin == "fold1_train.csv:2"
    assert found.rows[0].id == "audio/park-0-0.wav"


def test_validation_depends_on_the_seed(tmp_path: Path) -> None:
    dcase(tmp_path)
    chosen = {
        seed: frozenset(row.group for row in manifest(tmp_path, seed=seed).rows if row.split == "validation")
        for seed in range(6)
    }
    assert len(set(chosen.values())) > 1
    again = manifest(tmp_path, seed=3)
    assert frozenset(row.group for row in again.rows if row.split == "validation") == chosen[3]


def test_the_blind_list_is_read_where_the_other_is_missing(tmp_path: Path) -> None:
    found = manifest(dcase(tmp_path, test="test"))
    held = [row for row in found.rows if row.split == "test"]
    assert len(held) == 20
    assert {row.label for row in held} == {""}
    assert {row.group for row in held} == {"park-5", "tram-5"}
    assert "20 test (fold1_test.csv, unlabelled)" in found.notes[0]


def test_without_meta_each_file_is_a_group(tmp_path: Path) -> None:
    (dcase(tmp_path) / "meta.csv").unlink()
    found = manifest(tmp_path)
    assert len({row.group for row in found.rows}) == 120
    assert f"{tmp_path.name}: 120 clips are not in a meta.csv; each is a group of its own" in found.notes


def test_two_labels_for_one_clip_are_refused(tmp_path: Path) -> None:
    meta = dcase(tmp_path) / "meta.csv"
    meta.write_text(meta.read_text().replace("park-0-1.wav\tpark", "park-0-1.wav\ttram"))
    with pytest.raises(UsageError, match=r"meta\.csv:3 and fold1_train\.csv:3: .* two labels, 'tram' and 'park'"):
        manifest(tmp_path)


def test_a_place_in_train_and_test_is_refused(tmp_path: Path) -> None:
    meta = dcase(tmp_path) / "meta.csv"
    meta.write_text(meta.read_text().replace("\tpark-5\t", "\tpark-0\t"))
    with pytest.raises(UsageError, match=r"fold1_train\.csv:2 and fold1_evaluate\.csv:2: group 'park-0'"):
        manifest(tmp_path)
