"""Prints how well unknown sounds are distinguished from known ones, for `gramcli evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gramcli.cli import render
from gramcli.cli.outcome import settle
from gramcli.cli.render import Format
from gramcli.text import shown

if TYPE_CHECKING:
    from gramcli.evaluation.ood.study import OodMeasures, OodStudy

_NAMES = {
    "deviation": "strangeness",
    "max_softmax": "max-softmax",
    "energy": "energy",
    "max_logit": "max-logit",
    "mahalanobis": "Mahalanobis, all layers",
    "knn": "5th neighbour, all layers",
    "mahalanobis_log_mel": "Mahalanobis, mean log-mel",
    "duration": "length",
    "level": "level",
    "bandwidth": "bandwidth",
    "zero_samples": "share of zero samples",
}
_COLUMNS = ("AUROC", "AUPR", "FPR95")


def show(found: OodStudy, how: Format, quiet: bool) -> None:
    """Prints a table and a sentence; with csv and jsonl, whose rows are decisions, only the sentence, on stderr."""
    if how is Format.table:
        many, of = ("clips", "groups") if found.folder is None else ("windows", "files")
        origin = f"{', '.join(found.labels)}, held out" if found.folder is None else found.folder
        title = (
            f"{shown(origin)}: {found.unknown} unknown {many} of {found.unknown_groups} {of}; "
            f"{found.known} known clips of {found.known_groups} groups"
        )
        render.table(
            ["score", *_COLUMNS, *(f"{name}*" for name in _COLUMNS)],
            [
                {"score": _NAMES.get(name, name), **_cells(score.all), **_cells(score.matched, "*")}
                for name, score in found.scores.items()
            ],
            title=title,
        )
        if found.matched:
            render.print_text(
                f"* on {found.matched} pairs of a known and an unknown sound of similar length, level, bandwidth"
            )
        if found.beyond is not None:
            render.print_text(f"{found.beyond:.1%} of these unknown sounds are called unknown")
        render.print_text(found.verdict)
    elif how is not Format.json and not quiet:
        render.print_stderr("verdict", found.verdict)


def end(found: tuple[OodStudy, ...]) -> None:
    """Ends the command, as `settle` does, if files of a folder failed."""
    for one in found:
        if one.folder is not None:
            settle(one.failed, one.files, usable=True)


def _cells(found: OodMeasures | None, mark: str = "") -> Mapping[str, Any]:
    values = (None,) * 3 if found is None else (found.auroc, found.aupr, found.fpr_at_95_tpr)
    return {f"{name}{mark}": value for name, value in zip(_COLUMNS, values, strict=True)}
