"""What the sentence claims, figure by figure."""

from __future__ import annotations

import itertools

import pytest

from gramcli.evaluation.ood.confounders import (
    EXPLAINED,
    NOT_COMPARED,
    NOT_SEPARATED,
    SEPARATED,
    TOO_FEW,
    ScoreAreas,
    explain,
)
from gramcli.evaluation.ood.scores import TRIVIAL


def areas(strangeness, interval, spectrum=0.5, **trivial):
    return ScoreAreas(strangeness, interval, {name: trivial.get(name, 0.5) for name in TRIVIAL}, spectrum)


GOOD = areas(0.9, (0.8, 0.97))


def test_told_apart():
    finding, sentence = explain(GOOD, areas(0.85, (0.7, 0.95)), 30, 40, 40)
    assert finding == SEPARATED
    assert sentence == (
        "The strangeness distinguishes these unknown sounds from known ones (AUROC 0.90, 95 % interval 0.80 to "
        "0.97), also on 30 pairs of similar length, level and bandwidth (AUROC 0.85, 95 % interval 0.70 to 0.95)."
    )


def test_told_apart_although_a_trivial_score_would_do():
    all_clips = areas(0.9, (0.8, 0.97), level=0.95)
    finding, sentence = explain(all_clips, areas(0.85, (0.7, 0.95), level=0.6), 30, 40, 40)
    assert finding == SEPARATED
    assert sentence.endswith(", although level alone separates all of them as well (AUROC 0.95).")
    finding, sentence = explain(GOOD, areas(0.85, (0.7, 0.95), spectrum=0.86), 30, 40, 40)
    assert finding == SEPARATED
    assert sentence.endswith("; there the mean log-mel does as well without a network (AUROC 0.86).")


def test_too_few_groups():
    finding, sentence = explain(areas(1.0, None, level=1.0), None, 3, 5, 5)
    assert finding == TOO_FEW
    assert "is not shown (AUROC 1.00): too few groups for an interval (at least 10 on both sides)" in sentence


@pytest.mark.parametrize("interval", [(0.4, 0.8), (0.5, 0.9)])
def test_not_told_apart(interval):
    finding, sentence = explain(areas(0.7, interval, level=1.0), None, 0, 40, 40)
    assert finding == NOT_SEPARATED
    assert "are not distinguished from known ones (AUROC 0.70" in sentence


def test_less_strange_than_known():
    finding, sentence = explain(areas(0.2, (0.1, 0.3)), None, 0, 40, 40)
    assert finding == NOT_SEPARATED
    assert "are less strange than known ones (AUROC 0.20" in sentence


def test_without_audio():
    finding, sentence = explain(ScoreAreas(0.9, (0.8, 0.97), {}), None, 0, 40, 40)
    assert finding == NOT_COMPARED
    assert "it is not known whether length, level or bandwidth explain that" in sentence


def test_nothing_could_be_matched():
    finding, sentence = explain(areas(0.9, (0.8, 0.97), duration=0.9), None, 0, 40, 40)
    assert finding == EXPLAINED
    assert sentence == (
        "Length explains this result: alone it has AUROC 0.90, the strangeness 0.90, and only 0 of 40 unknown clips "
        "have a known one of similar length, level and bandwidth."
    )
    finding, sentence = explain(areas(0.9, (0.8, 0.97), zero_samples=0.85), areas(0.9, None), 4, 40, 40)
    assert finding == TOO_FEW
    assert "only 4 of 40" in sentence
    assert "; the share of zero samples alone has AUROC 0.85 and may explain it." in sentence
    finding, sentence = explain(GOOD, None, 0, 40, 40)
    assert (finding, "may explain" in sentence) == (TOO_FEW, False)
    assert "too few to tell whether these explain it." in sentence


def test_most_clips_could_not_be_matched():
    """Loud sounds made quiet are not like the few that are quiet by nature, so pairs of these show nothing."""
    matched = areas(0.95, (0.8, 1.0))
    level = areas(0.85, (0.8, 0.97), level=0.9)
    finding, sentence = explain(level, matched, 12, 80, 80)
    assert finding == EXPLAINED
    assert sentence.startswith(
        "Level explains this result: alone it has AUROC 0.90, the strangeness 0.85, and only 12 of 80"
    )
    finding, sentence = explain(areas(0.9, (0.8, 0.97), level=0.8), matched, 12, 80, 80)
    assert finding == TOO_FEW
    assert "level alone has AUROC 0.80 and may explain it" in sentence
    # most were, as there are no more known clips; or no trivial score does much
    assert explain(level, matched, 12, 24, 80)[0] == SEPARATED
    assert explain(level, matched, 12, 25, 80)[0] == EXPLAINED
    assert explain(GOOD, matched, 12, 80, 80)[0] == SEPARATED
    # of so many clips no more than 2000 a side were to be matched
    assert explain(level, matched, 1000, 9000, 9000)[0] == SEPARATED
    assert explain(level, matched, 999, 9000, 9000)[0] == EXPLAINED


def test_lost_among_matched_clips():
    lost = areas(0.55, (0.4, 0.7))
    finding, sentence = explain(areas(0.9, (0.8, 0.97), bandwidth=0.8), lost, 30, 40, 40)
    assert finding == EXPLAINED
    assert sentence == (
        "Bandwidth explains this result: alone it has AUROC 0.80, the strangeness 0.90, but on 30 pairs of similar "
        "length, level and bandwidth no more than 0.55 (95 % interval 0.40 to 0.70)."
    )
    # no single score does it, or too few pairs to say that anything is lost
    assert explain(areas(0.9, (0.8, 0.97), bandwidth=0.79), lost, 30, 40, 40)[0] == TOO_FEW
    finding, sentence = explain(areas(0.9, (0.8, 0.97), bandwidth=0.85), areas(0.7, (0.45, 0.95)), 12, 20, 40)
    assert finding == TOO_FEW
    assert "but on 12 pairs of similar length, level and bandwidth that is not shown (AUROC 0.70" in sentence
    assert explain(areas(0.9, (0.8, 0.97), bandwidth=0.9), areas(0.7, (0.45, 0.95)), 12, 20, 40)[0] == EXPLAINED


def test_what_is_not_matched_explains_it():
    """Pairs are of similar length and level, but all unknown ones hold digital silence."""
    finding, sentence = explain(GOOD, areas(0.85, (0.7, 0.95), zero_samples=0.85), 30, 40, 40)
    assert finding == EXPLAINED
    assert sentence == (
        "The share of zero samples explains this result: even on 30 pairs of similar length, level and bandwidth it "
        "has AUROC 0.85, the strangeness 0.85."
    )


def test_a_better_trivial_score_never_helps_the_strangeness():
    """Over a grid of figures: what is not told apart stays so, whatever grows."""
    grid = [0.5, 0.7, 0.8, 0.9, 1.0]
    for all_, matched in itertools.product(grid, grid):
        found = [
            explain(
                areas(0.9, (0.8, 0.97), level=all_),
                areas(m, (m - 0.2, min(m + 0.1, 1)), zero_samples=matched),
                30,
                40,
                40,
            )[0]
            for m in (0.6, 0.75, 0.95)
        ]
        assert found[0] != SEPARATED
        for m, one in zip((0.6, 0.75, 0.95), found, strict=True):
            assert (one == SEPARATED) == (m > 0.7 and matched < m)


def test_every_sentence_is_one():
    for case in (
        (GOOD, None), (GOOD, GOOD), (areas(0.6, (0.4, 0.7)), None), (areas(1.0, None), None),
        (areas(0.9, (0.8, 1), level=1), None), (GOOD, areas(0.5, (0.3, 0.7))),
    ):  # fmt: skip
        sentence = explain(*case, 10, 20, 20)[1]
        assert sentence[0].isupper()
        assert sentence.endswith(".")
        assert "\n" not in sentence
        assert ". " not in sentence.replace("0. ", "")
