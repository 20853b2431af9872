"""Whether a score tells unknown sounds from known ones, or hears no more than how long, loud or broad they are."""

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
"""Area from which on a trivial score may explain what the deviation finds, though it finds less."""

NAMES = {
    "duration": "length",
    "level": "level",
    "bandwidth": "bandwidth",
    ZEROS: "the share of zero samples",
}
"""Trivial scores in words."""


@dataclass(frozen=True)
class ScoreAreas:
    """Areas under the curve of some clips."""

    deviation: float
    interval: tuple[float, float] | None
    """95 % interval of that; None with too few groups."""
    trivial: Mapping[str, float]
    """Of each trivial score; empty where there is no audio."""
    spectrum: float | None = None
    """Of Mahalanobis's distance on the mean log-mel; None where there is none."""

    @property
    def strongest(self) -> str:
        """The trivial score with the largest area."""
        return max(self.trivial, key=lambda name: (self.trivial[name], -TRIVIAL.index(name)))

    @property
    def text(self) -> str:
        """The deviation's, in words."""
        if self.interval is None:
            return f"AUROC {self.deviation:.2f}"
        return f"AUROC {self.deviation:.2f}, 95 % interval {self.interval[0]:.2f} to {self.interval[1]:.2f}"


def explain(whole: ScoreAreas, matched: ScoreAreas | None, pairs: int, known: int, unknown: int) -> tuple[str, str]:
    """Returns a finding and one sentence; a claim is made only where the figures leave no other explanation.

    Read from the top, the first that holds:

    1. ``too few``: too few groups for an interval.
    2. ``not told apart``: the interval on all clips does not lie above 0.5.
    3. ``not compared``: it does, but there is no audio to match clips by.
    4. With too few matched groups for an interval: ``explained`` by the strongest trivial score where that alone does
       at least as well on all clips; else ``too few``, which also says where a trivial score has `STRONG` or more. The
       same where there is an interval, but a trivial score does as well or has `STRONG`, and most clips could not be
       matched: those that could may be odd ones, as loud sounds made quiet are beside the few that are quiet by nature.
    5. On matched clips the interval does not lie above 0.5: ``explained`` where the strongest trivial score does as
       well as the deviation on all clips, or has `STRONG` or more and the interval on matched clips lies below the area
       on all; else ``too few``, as what is lost may be lost to the smaller number.
    6. ``explained``: on matched clips the share of zero samples, which is not matched, does as well as the deviation.
       What is left of the other differences within the caliper is taken to be none.
    7. ``told apart``. A trivial score that does as well on all clips, but no longer on matched ones, is named, and so
       is the mean log-mel where it does as well on matched ones: it is no trivial score, but needs no network.

    Trivial scores count with their areas as they are, without an interval: the doubt is on the side of the simpler
    explanation.

    Args:
        whole: Of all clips.
        matched: Of matched clips; None where nothing was or could be matched.
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
        few = f"only {pairs} of {unknown} unknown clips have a known one of like length, level and bandwidth"
        if level_with:
            return EXPLAINED, (
                f"{_capital(name)} explains this result: alone it has AUROC {alone:.2f}, the deviation "
                f"{whole.deviation:.2f}, and {few}."
            )
        hint = f"; {name} alone has AUROC {alone:.2f} and may explain it" if alone >= STRONG else ""
        return FEW, f"{apart}, but {few}, too few to tell whether these explain it{hint}."
    on = f"on {pairs} pairs of like length, level and bandwidth"
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
