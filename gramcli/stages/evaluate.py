"""``gramcli evaluate``: how often the network alone and the Gram rule are right on a labelled split of the cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gramcli.cache import clips as table
from gramcli.cache import decision as decisions
from gramcli.cache import statistics
from gramcli.cache.view import View
from gramcli.errors import NoInputError, UsageError, shown
from gramcli.judge.metrics import accuracy, balanced_accuracy
from gramcli.stages.progress import Progress, Silent
from gramcli.stages.rows import read_rows, require_extracted
from gramcli.stages.rule import Rule
from gramcli.stages.select_layers import require_current

FORMAT = 1


@dataclass(frozen=True)
class Evaluation:
    """Measures of each decision on one split."""

    split: str
    clips: int
    """Labelled clips that were judged."""
    failed: int
    """Labelled clips without a usable row."""
    default: str
    """The decision that classify uses."""
    decisions: Mapping[str, Mapping[str, float]]
    """accuracy and balanced_accuracy by decision: ``map`` is the network alone."""

    def as_dict(self) -> dict[str, object]:
        """Returns the JSON document."""
        return {"format": FORMAT, **vars(self)}


def evaluate(cache: Path, split: str = "test", *, progress: Progress | None = None) -> Evaluation:
    """Judges the decisions on clips of the cache; no network runs.

    Args:
        cache: Folder of the cache.
        split: train, validation or test.
        progress: Told of steps and notes.

    Raises:
        UsageError: No such split.
        NoInputError: The split has no labelled, usable clip.
        ArtefactError: A stage has not run, or its result no longer fits.
        DamagedError: A file of the cache is not as it was written.
    """
    progress = progress or Silent()
    if split not in table.SPLITS:
        raise UsageError(f"split is {shown(split)}; there are {', '.join(table.SPLITS)}")
    view, clips = View.open(cache), table.require(cache)
    known = statistics.load(cache, view.fingerprint)
    require_current(cache, known)
    rule = Rule.of(known, decisions.load(cache, known))
    judged = [clip for clip in clips.used(split) if clip.label]
    require_extracted(view, judged)
    index = {label: n for n, label in enumerate(known.classes)}
    names = ("map", "gram") if view.outputs else ("gram",)
    predicted: dict[str, list[int]] = {name: [] for name in names}
    labels: list[int] = []
    progress.start("evaluating", len(judged))
    for group, rows, where in read_rows(view, judged, rule.layers, progress.advance):
        logits = rows.logits[where] if view.outputs else None
        scores = rule.scores({layer: rows.descriptors[layer][where] for layer in rule.layers})
        predicted["gram"] += rule.apply(scores, logits).label.tolist()
        if logits is not None:
            predicted["map"] += np.argmax(logits, axis=1).tolist()
        labels += [index.get(clip.label, -2) for clip in group]
    unread = sum(bool(clip.label) and clip.split == split and clip.shard is None for clip in clips.rows)
    if not labels:
        raise NoInputError(f"{shown(cache)}: the {split} split has no usable labelled clip; nothing to evaluate")
    truth = np.array(labels)
    measures = {
        name: {
            "accuracy": accuracy(np.array(labels_found), truth),
            "balanced_accuracy": balanced_accuracy(np.array(labels_found), truth),
        }
        for name, labels_found in predicted.items()
    }
    if split != "test":
        progress.note(f"the {split} split was used to make the statistics: these figures flatter")
    return Evaluation(split, len(labels), len(judged) - len(labels) + unread, "gram", measures)
