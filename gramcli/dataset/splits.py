"""Splits: their names, making those that are missing, and keeping them apart."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from gramcli.dataset.clip import SPLITS, UNKNOWN
from gramcli.errors import UsageError
from gramcli.text import shown

SYNONYMS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing", "eval", "evaluate", "evaluation"),
}
SHARE = 0.2
"""Share of the clips that a split gets which has to be made."""


def split_named(text: str) -> str | None:
    """Returns train, validation or test for one of their usual names; None for any other word."""
    word = text.strip().lower()
    return next((split for split, names in SYNONYMS.items() if word in names), None)


def complete(
    splits: Sequence[str], labels: Sequence[str], groups: Sequence[str], seed: int
) -> tuple[list[str], list[str]]:
    """Makes the splits that are missing, of whole groups and in the same shares for every label.

    Where no split is known, validation and test get a fifth of the clips each. Where clips for training are known and
    none for validation, a fifth of them becomes the validation split. A test split is never made of clips that were
    given for training. The choice depends on the seed, the labels and the names of the groups, not on the order.

    Args:
        splits: train, validation, test or empty, one a row.
        labels: Empty for unlabelled rows, which get no split of their own.
        groups: Rows of one group share a split.
        seed: Another seed, another choice.

    Returns:
        Splits, and a note on each thing that was done.
    """
    given = set(splits) - {""}
    made = list(splits)
    notes: list[str] = []
    if not given:
        rows = [row for row, label in enumerate(labels) if label]
        chosen = _choose(rows, labels, groups, seed, ("validation", "test"))
        for row in rows:
            made[row] = chosen.get(groups[row], "train")
        if rows:
            counts = Counter(made)
            told = ", ".join(f"{counts[name]} {name}" for name in SPLITS)
            notes.append(
                f"splits made of whole groups, by label, seed {seed}: {told}{_absent(made, labels, SPLITS[1:])}"
            )
    elif "train" in given and "validation" not in given:
        rows = [row for row, split in enumerate(splits) if split == "train"]
        labelled = [row for row in rows if labels[row]]
        chosen = _choose(labelled, labels, groups, seed, ("validation",))
        for row in rows:
            made[row] = chosen.get(groups[row], "train")
        taken = made.count("validation")
        notes.append(
            f"validation made of whole groups of the training clips, by label, seed {seed}: "
            f"{taken} of {len(rows)}{_absent(made, labels, SPLITS[1:2])}"
        )
    elif "train" not in given:
        notes.append("no clip is in the training split")
    if "train" in given and "test" not in given:
        notes.append("no test split is given, and none is taken from the training clips")
    if count := made.count(""):
        notes.append(f"{count} of {len(made)} rows are in no split and not used")
    return made, notes


def hold_out(splits: Sequence[str], labels: Sequence[str], held_out: Collection[str]) -> tuple[list[str], list[str]]:
    """Takes labels out of what is learnt.

    Their test clips become the split `UNKNOWN`. Those of training and validation are in no split: the network has heard
    none of them either, but unknown clips are compared with known test clips, so they come from the same recordings and
    places. The splits of all other labels stay as they are, with and without a label.

    Args:
        splits: train, validation, test or empty, one a row.
        labels: Of the same rows.
        held_out: Labels to leave out.

    Returns:
        Splits, and a note if a label is held out.

    Raises:
        UsageError: A label is not among those of the rows, or no other is left.
    """
    there = sorted(set(labels) - {""})
    for label in held_out:
        if label not in there:
            raise UsageError(
                f"data.hold_out: no clip is labelled '{shown(label)}'; there are {_some(there) or 'no labels'}"
            )
    if held_out and set(there) == set(held_out):
        raise UsageError("data.hold_out leaves no label to learn; name fewer")
    if not held_out:
        return list(splits), []
    made = list(splits)
    for row, label in enumerate(labels):
        if label in held_out:
            made[row] = UNKNOWN if splits[row] == "test" else ""
    kept = made.count(UNKNOWN)
    left = sum(bool(before) and not after for before, after in zip(splits, made, strict=True))
    return made, [
        f"held out: {_some(sorted(set(held_out)))}: {kept or 'no'} test clips are kept as unknown sounds, "
        f"{left} of training and validation are not used"
    ]


def _some(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - 5} more" if len(labels) > 5 else ""
    return ", ".join(map(shown, labels[:5])) + more


def _absent(splits: Sequence[str], labels: Sequence[str], made: Sequence[str]) -> str:
    """Names labels with too few groups to be in each of the splits that were made."""
    pairs = set(zip(splits, labels, strict=True))
    known = sorted(set(labels) - {""})
    parts = []
    for split in made:
        missing = [label for label in known if (split, label) not in pairs]
        if missing:
            parts.append(f"; too few groups for {split}: {_some(missing)}")
    return "".join(parts)


def _choose(
    rows: Collection[int], labels: Sequence[str], groups: Sequence[str], seed: int, names: Sequence[str]
) -> dict[str, str]:
    """Chooses groups for the named splits; the others stay for training.

    A group of several labels counts for the one that most of its rows have.
    """
    sizes = Counter(groups[row] for row in rows)
    pairs = Counter((groups[row], labels[row]) for row in rows)
    owner: dict[str, str] = {}
    for (group, label), _ in sorted(pairs.items(), key=lambda item: (-item[1], item[0])):
        owner.setdefault(group, label)
    by_label: dict[str, list[str]] = {}
    for group in sorted(sizes, key=lambda group: _lot(seed, group)):
        by_label.setdefault(owner[group], []).append(group)
    chosen: dict[str, str] = {}
    for members in by_label.values():
        target = SHARE * sum(sizes[group] for group in members)
        left = members
        for name in names:
            taken = _take(left, sizes, target)
            chosen.update(dict.fromkeys(taken, name))
            left = [group for group in left if group not in taken]
    return chosen


def _lot(seed: int, group: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{group}".encode("utf-8", "surrogatepass")).digest()


def _take(groups: Sequence[str], sizes: Counter[str], target: float) -> set[str]:
    """Takes groups in order as long as that brings their rows nearer to `target`; one at least, and never all."""
    taken: set[str] = set()
    have = 0
    for group in groups:
        if len(taken) + 1 < len(groups) and abs(have + sizes[group] - target) < abs(have - target):
            taken.add(group)
            have += sizes[group]
    if not taken and len(groups) > 1:
        taken.add(min(groups, key=lambda group: sizes[group]))
    return taken


def check_labelled(items: Iterable[tuple[str, str, str]]) -> list[str]:
    """Refuses unlabelled clips of training and validation, from which nothing can be learnt.

    Test clips may have no label: those of a challenge are blind.

    Args:
        items: Origin (as ``meta.csv:17``), split and label of each clip.

    Returns:
        A note if there are such test clips.

    Raises:
        UsageError: Naming the first of training and validation.
    """
    blind: list[str] = []
    for origin, split, label in items:
        if split and not label:
            if split in SPLITS[:2]:
                raise UsageError(f"{origin}: has no label but is in the {split} split; give it one, or take it out")
            blind.append(origin)
    return [f"{len(blind)} test rows have no label and are not judged; the first is {blind[0]}"] if blind else []


def check_disjoint(items: Iterable[tuple[str, str, str, str, str]]) -> None:
    """Refuses clips that would let training see what it is judged by.

    Held-out test clips count as test clips: one recording may hold sounds of both kinds.

    Args:
        items: Origin (as ``meta.csv:17``), split, label, group and key (what the clip is: its id, or its content) of
            each clip. An empty split, label, group or key is in conflict with nothing.

    Raises:
        UsageError: One group or one key is in two splits, or one key has two labels; both rows are named.
    """
    group_split: dict[str, tuple[str, str]] = {}
    key_split: dict[str, tuple[str, str]] = {}
    key_label: dict[str, tuple[str, str]] = {}
    for origin, given, label, group, key in items:
        split = "test" if given == UNKNOWN else given
        if key and label:
            before, other = key_label.setdefault(key, (origin, label))
            if other != label:
                raise UsageError(
                    f"{before} and {origin}: one audio has two labels, '{shown(other)}' and '{shown(label)}'; keep one"
                )
        if key and split:
            before, other = key_split.setdefault(key, (origin, split))
            if other != split:
                raise UsageError(f"{before} and {origin}: one audio is in two splits, {other} and {split}; keep one")
        if group and split:
            before, other = group_split.setdefault(group, (origin, split))
            if other != split:
                raise UsageError(
                    f"{before} and {origin}: group '{shown(group)}' is in two splits, {other} and {split}; "
                    "keep it whole in one"
                )
