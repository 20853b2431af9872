"""Decides whether length, level or bandwidth explain how well strangeness separates unknown from known sounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gramcli.evaluation.ood.scores import TRIVIAL, ZEROS
from gramcli.metrics.intervals import MIN_GROUPS
from gramcli.metrics.matching import MAX_MATCHED

SEPARATED = "told apart"
EXPLAINED = "explained"
NOT_SEPARATED = "not told apart"
TOO_FEW = "too few"
NOT_COMPARED = "not compared"

STRONG = 0.8
"""AUROC from which a trivial score may explain the result of the strangeness, even if the strangeness has more."""

NAMES = {
    "duration": "length",
    "level": "level",
    "bandwidth": "bandwidth",
    ZEROS: "the share of zero samples",
}
"""Trivial scores as they are named in sentences."""


@dataclass(frozen=True)
class ScoreAreas:
    """AUROC of the scores on some clips."""

    strangeness: float
    interval: tuple[float, float] | None
    """95 % interval of the strangeness's AUROC; None with too few groups."""
    trivial: Mapping[str, float]
    """AUROC of each trivial score; empty without audio."""
    spectrum: float | None = None
    """AUROC of Mahalanobis's distance on the mean log-mel; None without it."""

    @property
    def strongest(self) -> str:
        """The trivial score with the largest AUROC."""
        return max(self.trivial, key=lambda name: (self.trivial[name], -TRIVIAL.index(name)))

    @property
    def above_chance(self) -> bool:
        """Whether the interval lies above 0.5, the AUROC of chance."""
        return self.interval is not None and self.interval[0] > 0.5

    @property
    def text(self) -> str:
        """AUROC of the strangeness and its interval, as text."""
        return f"AUROC {self.strangeness:.2f}" + (f", {self.interval_text}" if self.interval else "")

    @property
    def interval_text(self) -> str:
        """The interval as text; empty without one."""
        return f"95 % interval {self.interval[0]:.2f} to {self.interval[1]:.2f}" if self.interval else ""


def explain(all_clips: ScoreAreas, matched: ScoreAreas | None, pairs: int, known: int, unknown: int) -> tuple[str, str]:
    """Returns a finding and one sentence that states it.

    Two samples are looked at: all clips, and pairs of clips that are matched in length, level and bandwidth. The
    finding `SEPARATED` is given only if the figures leave no other explanation. Trivial scores count with their AUROC,
    without an interval: in doubt, the simpler explanation holds.

    Args:
        all_clips: AUROC on all clips.
        matched: AUROC on matched pairs; None if there are none.
        pairs: Number of pairs.
        known: Number of known clips.
        unknown: Number of unknown clips.
    """
    if all_clips.interval is None:
        return TOO_FEW, (
            f"Whether the strangeness distinguishes these unknown sounds from known ones is not shown "
            f"({all_clips.text}): too few groups for an interval (at least {MIN_GROUPS} on both sides)."
        )
    if not all_clips.above_chance:
        less = all_clips.interval[1] < 0.5
        result = "are less strange than known ones" if less else "are not distinguished from known ones"
        return NOT_SEPARATED, f"By the strangeness these unknown sounds {result} ({all_clips.text})."
    if not all_clips.trivial:
        return NOT_COMPARED, (
            f"{_claim(all_clips)}, but without the audio it is not known whether length, level or bandwidth explain "
            "that."
        )
    # If most clips have no partner, those that have one may be unusual: recordings that were made quieter match only
    # the few known clips that are quiet by nature.
    mostly_unmatched = 2 * pairs < min(known, unknown, MAX_MATCHED)
    trivial = _StrongestTrivial.of(all_clips)
    if matched is None or matched.interval is None or (mostly_unmatched and (trivial.as_good or trivial.strong)):
        return _with_too_few_pairs(all_clips, trivial, pairs, unknown)
    if not matched.above_chance:
        return _lost_on_pairs(all_clips, matched, trivial, pairs)
    # Clips are not matched in the share of zero samples. What differs in the matched measures is within the caliper.
    zeros = matched.trivial[ZEROS]
    if zeros >= matched.strangeness:
        return EXPLAINED, (
            f"{_capital(NAMES[ZEROS])} explains this result: even {_on(pairs)} it has AUROC {zeros:.2f}, the "
            f"strangeness {matched.strangeness:.2f}."
        )
    return SEPARATED, f"{_claim(all_clips)}, also {_on(pairs)} ({matched.text}){_remarks(trivial, matched)}."


@dataclass(frozen=True)
class _StrongestTrivial:
    """The trivial score with the largest AUROC on all clips."""

    name: str
    auroc: float
    as_good: bool
    """Whether its AUROC is at least that of the strangeness."""

    @staticmethod
    def of(areas: ScoreAreas) -> _StrongestTrivial:
        score = areas.strongest
        return _StrongestTrivial(NAMES[score], areas.trivial[score], areas.trivial[score] >= areas.strangeness)

    @property
    def strong(self) -> bool:
        """Whether its AUROC is at least `STRONG`."""
        return self.auroc >= STRONG

    def explains(self, areas: ScoreAreas) -> str:
        """Returns the beginning of the sentence that this score explains the result on all clips."""
        return (
            f"{_capital(self.name)} explains this result: alone it has AUROC {self.auroc:.2f}, the strangeness "
            f"{areas.strangeness:.2f}"
        )


def _with_too_few_pairs(all_clips: ScoreAreas, trivial: _StrongestTrivial, pairs: int, unknown: int) -> tuple[str, str]:
    """Finds that a trivial score explains the result if it is as good on all clips, else that pairs are too few."""
    only = f"only {pairs} of {unknown} unknown clips have a known one of similar length, level and bandwidth"
    if trivial.as_good:
        return EXPLAINED, f"{trivial.explains(all_clips)}, and {only}."
    hint = f"; {trivial.name} alone has AUROC {trivial.auroc:.2f} and may explain it" if trivial.strong else ""
    return TOO_FEW, f"{_claim(all_clips)}, but {only}, too few to tell whether these explain it{hint}."


def _lost_on_pairs(
    all_clips: ScoreAreas, matched: ScoreAreas, trivial: _StrongestTrivial, pairs: int
) -> tuple[str, str]:
    """Says why the result on all clips is not shown on pairs.

    A trivial score explains it if it is as good on all clips, or if it is strong and the strangeness is clearly worse
    on pairs than on all clips. Otherwise the smaller number of clips may be the reason.
    """
    worse = matched.interval is not None and matched.interval[1] < all_clips.strangeness
    if trivial.as_good or (trivial.strong and worse):
        return EXPLAINED, (
            f"{trivial.explains(all_clips)}, but {_on(pairs)} no more than {matched.strangeness:.2f} "
            f"({matched.interval_text})."
        )
    return (
        TOO_FEW,
        f"{_claim(all_clips)}, but {_on(pairs)} that is not shown ({matched.text}), so these may explain it.",
    )


def _remarks(trivial: _StrongestTrivial, matched: ScoreAreas) -> str:
    """Names simpler scores that do as well: a trivial one on all clips, or the mean log-mel, which needs no network."""
    remarks = ""
    if trivial.as_good:
        remarks += f", although {trivial.name} alone separates all of them as well (AUROC {trivial.auroc:.2f})"
    if matched.spectrum is not None and matched.spectrum >= matched.strangeness:
        remarks += f"; there the mean log-mel does as well without a network (AUROC {matched.spectrum:.2f})"
    return remarks


def _claim(all_clips: ScoreAreas) -> str:
    return f"The strangeness distinguishes these unknown sounds from known ones ({all_clips.text})"


def _on(pairs: int) -> str:
    return f"on {pairs} pairs of similar length, level and bandwidth"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
