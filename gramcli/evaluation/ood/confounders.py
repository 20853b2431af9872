"""Decide whether length, level or bandwidth explain how well a score tells unknown sounds from known ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gramcli.evaluation.ood.scores import TRIVIAL, ZEROS
from gramcli.metrics.intervals import LEAST_GROUPS
from gramcli.metrics.matching import EXACT

TOLD = "told apart"
EXPLAINED = "explained"
NOT = "not told apart"
FEW = "too few"
UNHEARD = "not compared"

STRONG = 0.8
"""AUROC from which a trivial score may explain the deviation's result, even if the deviation's AUROC is larger."""

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

    deviation: float
    interval: tuple[float, float] | None
    """95 % interval of the deviation's AUROC; None with too few groups."""
    trivial: Mapping[str, float]
    """AUROC of each trivial score; empty without audio."""
    spectrum: float | None = None
    """AUROC of Mahalanobis's distance on the mean log-mel; None without it."""

    @property
    def strongest(self) -> str:
        """The trivial score with the largest AUROC."""
        return max(self.trivial, key=lambda name: (self.trivial[name], -TRIVIAL.index(name)))

    @property
    def text(self) -> str:
        """The deviation's AUROC and its interval, as text."""
        if self.interval is None:
            return f"AUROC {self.deviation:.2f}"
        return f"AUROC {self.deviation:.2f}, 95 % interval {self.interval[0]:.2f} to {self.interval[1]:.2f}"


def explain(whole: ScoreAreas, matched: ScoreAreas | None, pairs: int, known: int, unknown: int) -> tuple[str, str]:
    """Returns a finding and one sentence; ``told apart`` is found only if the figures leave no other explanation.

    The first of these that holds:

    1. ``too few``: too few groups for an interval.
    2. ``not told apart``: the interval on all clips does not lie above 0.5.
    3. ``not compared``: it does, but there is no audio to match clips by.
    4. With too few matched groups for an interval: ``explained`` by the strongest trivial score where that alone does
       at least as well on all clips; else ``too few``, with a remark if a trivial score has `STRONG` or more. The same
       if there is an interval, but a trivial score does as well or has `STRONG`, and most clips could not be matched:
       the matched ones may be unusual, as the few quiet clips are that match sounds which were made quiet.
    5. On matched clips the interval does not lie above 0.5: ``explained`` where the strongest trivial score does as
       well as the deviation on all clips, or has `STRONG` or more and the interval on matched clips lies below the area
       on all; else ``too few``, as the result may be lost to the smaller number of clips.
    6. ``explained``: on matched clips the share of zero samples, which is not matched, does as well as the deviation.
       Differences of the other measures within the caliper are ignored.
    7. ``told apart``. A trivial score that does as well on all clips, but no longer on matched ones, is named, and so
       is the mean log-mel where it does as well on matched ones: it is no trivial score, but needs no network.

    Trivial scores count with their AUROC, without an interval: in doubt, the simpler explanation holds.

    Args:
        whole: AUROC on all clips.
        matched: AUROC on matched pairs; None if there are none.
        pairs: Number of pairs.
        known: Number of known clips.
        unknown: Number of unknown clips.
    """
    if whole.interval is None:
        return FEW, (
            f"Whether the deviation tells these unknown sounds from known ones is not shown ({whole.text}): too few "
            f"groups for an interval (at least {LEAST_GROUPS} on both sides)."
        )
    if whole.interval[0] <= 0.5:
        how = "are less strange than known ones" if whole.interval[1] < 0.5 else "are not told from known ones"
        return NOT, f"By the deviation these unknown sounds {how} ({whole.text})."
    apart = f"The deviation tells these unknown sounds from known ones ({whole.text})"
    if not whole.trivial:
        return UNHEARD, (
            f"{apart}, but without the audio it is not known whether length, level or bandwidth explain that."
        )
    best = whole.strongest
    alone, name = whole.trivial[best], NAMES[best]
    level_with = alone >= whole.deviation
    most = 2 * pairs >= min(known, unknown, EXACT)
    if matched is None or matched.interval is None or (not most and (level_with or alone >= STRONG)):
        few = f"only {pairs} of {unknown} unknown clips have a known one of similar length, level and bandwidth"
        if level_with:
            return EXPLAINED, (
                f"{_capital(name)} explains this result: alone it has AUROC {alone:.2f}, the deviation "
                f"{whole.deviation:.2f}, and {few}."
            )
        hint = f"; {name} alone has AUROC {alone:.2f} and may explain it" if alone >= STRONG else ""
        return FEW, f"{apart}, but {few}, too few to tell whether these explain it{hint}."
    on = f"on {pairs} pairs of similar length, level and bandwidth"
    if matched.interval[0] <= 0.5:
        if level_with or (alone >= STRONG and matched.interval[1] < whole.deviation):
            return EXPLAINED, (
                f"{_capital(name)} explains this result: alone it has AUROC {alone:.2f}, the deviation "
                f"{whole.deviation:.2f}, but {on} no more than {matched.deviation:.2f} (95 % interval "
                f"{matched.interval[0]:.2f} to {matched.interval[1]:.2f})."
            )
        return FEW, f"{apart}, but {on} that is not shown ({matched.text}), so these may explain it."
    zeros = matched.trivial[ZEROS]
    if zeros >= matched.deviation:
        return EXPLAINED, (
            f"{_capital(NAMES[ZEROS])} explains this result: even {on} it has AUROC {zeros:.2f}, the deviation "
            f"{matched.deviation:.2f}."
        )
    beside = f", although {name} alone tells all of them apart as well (AUROC {alone:.2f})" if level_with else ""
    if matched.spectrum is not None and matched.spectrum >= matched.deviation:
        beside += f"; there the mean log-mel does as well without a network (AUROC {matched.spectrum:.2f})"
    return TOLD, f"{apart}, also {on} ({matched.text}){beside}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
