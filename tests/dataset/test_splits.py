from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.dataset.splits import check_disjoint, complete, hold_out, split_named
from gramcli.errors import UsageError

# few names, so that groups meet and hold several labels
rows = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 15).map(str)), min_size=1, max_size=60)


def test_usual_names() -> None:
    named = {
        "train": ["train", "Training"],
        "validation": ["val", "valid", "validation", "DEV"],
        "test": ["test", "testing", "eval", "evaluate", " evaluation "],
    }
    for split, names in named.items():
        assert {split_named(name) for name in names} == {split}
    assert split_named("trian") is None


def test_sixty_twenty_twenty_in_every_label() -> None:
    labels = ["a"] * 100 + ["b"] * 50 + ["c"] * 10
    groups = [f"{label}{i // 2}" for i, label in enumerate(labels)]
    splits, notes = complete([""] * 160, labels, groups, seed=0)
    counts = Counter(zip(labels, splits, strict=True))
    for label, total in (("a", 100), ("b", 50), ("c", 10)):
        assert counts[label, "validation"] == counts[label, "test"] == total / 5
    assert notes == ["splits made of whole groups, by label, seed 0: 96 train, 32 validation, 32 test"]


@given(rows, st.integers(0, 5))
def test_groups_stay_whole_and_nothing_is_left_out(pairs: list[tuple[str, str]], seed: int) -> None:
    labels, groups = zip(*pairs, strict=True)
    splits, _ = complete([""] * len(pairs), labels, groups, seed)
    assert set(splits) <= {"train", "validation", "test"}
    by_group = defaultdict(set)
    for group, split in zip(groups, splits, strict=True):
        by_group[group].add(split)
    assert all(len(found) == 1 for found in by_group.values())
    assert "train" in splits
    check_disjoint((str(i), split, "", group, "") for i, (split, group) in enumerate(zip(splits, groups, strict=True)))


@given(rows, st.randoms())
def test_the_order_of_rows_does_not_matter(pairs: list[tuple[str, str]], random: object) -> None:
    def by_group(pairs: list[tuple[str, str]]) -> dict[str, str]:
        labels, groups = zip(*pairs, strict=True)
        return dict(zip(groups, complete([""] * len(pairs), labels, groups, 3)[0], strict=True))

    shuffled = list(pairs)
    random.shuffle(shuffled)
    assert by_group(pairs) == by_group(shuffled)


@given(rows)
def test_validation_comes_from_train_and_test_stays(pairs: list[tuple[str, str]]) -> None:
    labels, groups = zip(*pairs, strict=True)
    given_splits = ["test" if group in "012" else "train" for group in groups]
    splits, _ = complete(given_splits, labels, groups, 0)
    for before, after in zip(given_splits, splits, strict=True):
        assert after == before or (before == "train" and after == "validation")


def test_a_fifth_of_train_becomes_validation() -> None:
    labels = ["a", "b"] * 50
    groups = [str(i // 4) for i in range(100)]
    splits, notes = complete(["train"] * 100, labels, groups, 0)
    assert Counter(splits) == {"train": 80, "validation": 20}
    assert notes == [
        "validation made of whole groups of the training clips, by label, seed 0: 20 of 100",
        "no test split is given, and none is taken from the training clips",
    ]


def test_another_seed_makes_other_splits() -> None:
    labels, groups = ["a"] * 50, [str(i) for i in range(50)]
    first, again, other = (complete([""] * 50, labels, groups, seed)[0] for seed in (0, 0, 1))
    assert first == again != other


def test_few_groups_are_told_of() -> None:
    splits, notes = complete([""] * 6, ["a"] * 3 + ["b"] * 2 + ["c"], list("012344"), 0)
    assert Counter(splits[:3]) == {"train": 1, "validation": 1, "test": 1}
    assert "too few groups for test: b" in notes[0]


def test_one_large_group_does_not_become_the_split() -> None:
    labels = ["a"] * 20
    groups = ["big"] * 10 + [f"small{i}" for i in range(10)]
    for seed in range(20):
        splits, _ = complete(["train"] * 20, labels, groups, seed)
        assert splits.count("validation") == 4
        assert splits[0] == "train"


def test_unlabelled_rows_are_in_no_split() -> None:
    splits, notes = complete([""] * 11, ["a"] * 10 + [""], [str(i) for i in range(11)], 0)
    assert splits[10] == ""
    assert notes[-1] == "1 of 11 rows are in no split and not used"


def test_given_splits_are_left_alone() -> None:
    splits = ["train", "validation", "test", "train"]
    assert complete(splits, list("abca"), list("1234"), 0) == (splits, [])


def test_labels_held_out_keep_their_test_clips_apart() -> None:
    splits = ["train", "validation", "test", "test", "", "train"]
    labels = ["dog", "dog", "dog", "cat", "dog", "cat"]
    assert hold_out(splits, labels, ["dog", "dog"]) == (
        ["", "", "unknown", "test", "", "train"],
        ["held out: dog: 1 test clips are kept as unknown sounds, 2 of training and validation are not used"],
    )
    assert hold_out(splits, labels, ()) == (splits, [])
    _, (note,) = hold_out(["train", "train"], ["dog", "cat"], ["dog"])
    assert note.startswith("held out: dog: no test clips are kept")


def test_a_label_that_cannot_be_held_out() -> None:
    with pytest.raises(UsageError, match=r"^data\.hold_out: no clip is labelled 'bird'; there are cat, dog$"):
        hold_out(["train"] * 3, ["dog", "cat", ""], ["cat", "bird"])
    with pytest.raises(UsageError, match="leaves no label to train on"):
        hold_out(["train"] * 3, ["dog", "cat", ""], ["cat", "dog"])


def test_a_recording_may_hold_a_known_and_an_unknown_test_clip() -> None:
    test = ("m.csv:2", "test", "dog", "g", "k1")
    check_disjoint([test, ("m.csv:3", "unknown", "cat", "g", "k2")])
    for split in ("train", "validation"):
        with pytest.raises(UsageError, match=f"group 'g' is in two splits, test and {split}"):
            check_disjoint([("m.csv:3", "unknown", "cat", "g", "k2"), ("m.csv:4", split, "dog", "g", "k1")])


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (("m.csv:3", "test", "dog", "g", "k2"), "group 'g' is in two splits, train and test"),
        (("m.csv:3", "test", "dog", "h", "k"), "one audio is in two splits, train and test"),
        (("m.csv:3", "train", "cat", "g", "k"), "one audio has two labels, 'dog' and 'cat'"),
    ],
)
def test_conflicts_name_both_rows(second: tuple[str, str, str, str, str], reason: str) -> None:
    with pytest.raises(UsageError, match=f"m.csv:2 and m.csv:3: {reason}"):
        check_disjoint([("m.csv:2", "train", "dog", "g", "k"), second])


def test_what_is_empty_is_in_conflict_with_nothing() -> None:
    check_disjoint(
        [
            ("1", "train", "dog", "", ""),
            ("2", "test", "cat", "", ""),
            ("3", "train", "dog", "g", "k"),
            ("4", "", "", "g", "k"),
        ]
    )
