"""Clips: what is known of one, and a sample of many."""

from __future__ import annotations

from collections import Counter

import pytest

from gramcli.dataset.clip import Clip, sample_clips
from tests.support.damage import clip


def clips(counts: dict[tuple[str, str], int]) -> list[Clip]:
    """Returns clips in order of their keys, so many of each split and label."""
    which = [pair for pair, count in counts.items() for _ in range(count)]
    made = [clip(n, split=split, label=label) for n, (split, label) in enumerate(which)]
    return sorted(made, key=lambda one: one.key)


def test_a_sample_has_every_label_of_every_split_by_its_share():
    many = clips({("train", "dog"): 500, ("train", "cat"): 100, ("train", "owl"): 1, ("validation", "dog"): 200})
    chosen = sample_clips(many, 100)
    counts = Counter((one.split, one.label) for one in chosen)
    assert counts == {("train", "dog"): 62, ("train", "cat"): 12, ("train", "owl"): 1, ("validation", "dog"): 25}
    assert chosen == sorted(chosen, key=lambda one: one.key)
    dogs = [one for one in many if (one.split, one.label) == ("train", "dog")]
    assert [one for one in chosen if (one.split, one.label) == ("train", "dog")] == dogs[:62]


def test_few_clips_are_all_taken():
    few = clips({("train", "dog"): 2, ("train", "cat"): 1})
    for most in (3, 10):
        assert sample_clips(few, most) == few
    assert sample_clips([], 5) == []
    assert len(sample_clips(few, 1)) == 2
    with pytest.raises(ValueError, match="at least one clip"):
        sample_clips(few, 0)
