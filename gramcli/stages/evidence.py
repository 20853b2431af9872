"""What a rule and the network say of the labelled clips of one view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.cache.clips import Clip
from gramcli.cache.view import View
from gramcli.stages.progress import Progress
from gramcli.stages.rows import read_rows
from gramcli.stages.rule import Judged, Rule

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Usable clips in the order of their keys, and what is known of each."""

    clips: tuple[Clip, ...]
    labels: npt.NDArray[np.intp]
    """True class; -2 where the rule has no such class, (N,)."""
    groups: npt.NDArray[np.intp]
    """Source, numbered, (N,)."""
    logits: Array | None
    """Of the network where its outputs are the classes, (N, C)."""
    judged: tuple[Judged, ...]
    """What the rule says, shard by shard; `joined` puts one field together."""
    order: npt.NDArray[np.intp]
    """Where each clip stands in the rows of `judged`, (N,)."""

    def joined(self, name: str) -> Array:
        """Returns a field of `judged` or of its verdicts for all clips, in their order."""
        parts = [getattr(one if hasattr(one, name) else one.verdict, name) for one in self.judged]
        return np.asarray(np.concatenate(parts)[self.order])


def gather(view: View, clips: Sequence[Clip], rule: Rule, progress: Progress) -> Evidence:
    """Applies a rule to the clips of a view, shard by shard; failed ones are left out.

    Raises:
        DamagedError: A file of the cache is not as it was written.
    """
    index = {label: n for n, label in enumerate(rule.classes)}
    found: list[Clip] = []
    judged: list[Judged] = []
    logits: list[Array] = []
    for group, rows, where in read_rows(view, clips, rule.layers, progress.advance):
        if not group:
            continue
        own = rows.logits[where] if view.outputs else None
        judged.append(rule.judge({layer: rows.descriptors[layer][where] for layer in rule.layers}, own))
        logits += [] if own is None else [own]
        found += group
    order = np.array(sorted(range(len(found)), key=lambda n: (found[n].key, found[n].id)), np.intp)
    ordered = tuple(found[n] for n in order)
    names = {name: n for n, name in enumerate(sorted({clip.group for clip in ordered}))}
    return Evidence(
        ordered,
        np.array([index.get(clip.label, -2) for clip in ordered], np.intp),
        np.array([names[clip.group] for clip in ordered], np.intp),
        np.concatenate(logits)[order] if logits else None,
        tuple(judged),
        order,
    )
