"""Splits: makes those that a manifest does not give, holds out labels, and refuses splits that overlap."""

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
"""Share of the clips that goes into each split that is made."""


def split_named(text: str) -> str | None:
    """Returns train, validation or test for one of their usual names; None for any other word."""
    word = text.strip().lower()
    return next((split for split, names in SYNONYMS.items() if word in names), None)


def complete(
    splits: Sequence[str], labels: Sequence[str], groups: Sequence[str], seed: int
) -> tuple[list[str], list[str]]:
    """Makes the splits that are missing, of whole groups and with the same share of every label.

    If no split is given, validation and test get a fifth of the clips each. If only training clips are given, a fifth
    of them becomes the validation split. A test split is never made of clips that were given for training. The choice
    depends on the seed, the labels and the names of the groups, not on the order of rows.

    Args:
        splits: train, validation, test or empty, one per row.
        labels: One per row. Rows with an empty label are put into no split.
        groups: One per row. Rows of one group share a split.
        seed: Seeds the choice.

    Returns:
        Splits, one per row, and notes on what was done.
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
            sizes = ", ".join(f"{counts[name]} {name}" for name in SPLITS)
            notes.append(
                f"splits made of whole groups, by label, seed {seed}: {sizes}{_absent(made, labels, SPLITS[1:])}"
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
    """Holds labels out of training, so that their test clips can stand for unknown sounds.

    Test clips of these labels get the split `UNKNOWN`, those of training and validation no split. The latter would be
    unknown to the network too, but unknown clips are compared with known test clips and should come from the same
    recordings and places as these. The splits of all other rows do not change.

    Args:
        splits: train, validation, test or empty, one per row.
        labels: One per row.
        held_out: Labels to hold out.

    Returns:
        Splits, and a note if a label is held out.

    Raises:
        UsageError: A label is not among those of the rows, or no other is left.
    """
    present = sorted(set(labels) - {""})
    for label in held_out:
        if label not in present:
            raise UsageError(
                f"data.hold_out: no clip is labelled '{shown(label)}'; there are {_some(present) or 'no labels'}"
            )
    if held_out and set(present) == set(held_out):
        raise UsageError("data.hold_out leaves no label to train on; name fewer")
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
    """Returns, for a note, which labels had too few groups to be in every split that was made."""
    pairs = set(zip(splits, labels, strict=True))
    present = sorted(set(labels) - {""})
    parts = []
    for split in made:
        missing = [label for label in present if (split, label) not in pairs]
        if missing:
            parts.append(f"; too few groups for {split}: {_some(missing)}")
    return "".join(parts)


def _choose(
    rows: Collection[int], labels: Sequence[str], groups: Sequence[str], seed: int, names: Sequence[str]
) -> dict[str, str]:
    """Chooses whole groups for the named splits; groups that are not chosen are for training.

    A group with several labels counts for the label that most of its rows have.
    """
    sizes = Counter(groups[row] for row in rows)
    pairs = Counter((groups[row], labels[row]) for row in rows)
    owner: dict[str, str] = {}
    for (group, label), _ in sorted(pairs.items(), key=lambda item: (-item[1], item[0])):
        owner.setdefault(group, label)
    by_label: dict[str, list[str]] = {}
    for group in sorted(sizes, key=lambda group: _random_key(seed, group)):
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


def _random_key(seed: int, group: str) -> bytes:
    """Returns a key that sorts groups in an order that is as good as random."""
    return hashlib.sha256(f"{seed}\n{group}".encode("utf-8", "surrogatepass")).digest()


def _take(groups: Sequence[str], sizes: Counter[str], target: float) -> set[str]:
    """Takes groups in order while that brings the sum of their rows nearer to `target`; at least one, never all."""
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
    """Refuses unlabelled clips in the training and validation split; test clips may have no label, as in a challenge.

    Args:
        items: Origin (as ``meta.csv:17``), split and label of each clip.

    Returns:
        A note if there are such test clips.

    Raises:
        UsageError: A clip of training or validation has no label; the first is named.
    """
    blind: list[str] = []
    for origin, split, label in items:
        if split and not label:
            if split in SPLITS[:2]:
                raise UsageError(f"{origin}: has no label but is in the {split} split; give it one, or take it out")
            blind.append(origin)
    return [f"{len(blind)} test rows have no label and are not evaluated; the first is {blind[0]}"] if blind else []


def check_disjoint(items: Iterable[tuple[str, str, str, str, str]]) -> None:
    """Refuses splits that share a recording or a group, as a network would then be tested on what it was trained on.

    Test clips of labels held out count as test clips, since one recording may hold both known and unknown sounds.

    Args:
        items: Origin (as ``meta.csv:17``), split, label, group and key (the clip's id, or the digest of its content)
            of each clip. An empty split, label, group or key conflicts with nothing.

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
