"""What every decision says of the labelled clips of one view, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.cache import decision as decisions
from gramcli.cache.calibrated import CalibratedCache
from gramcli.cache.labelled_rows import read_rows
from gramcli.cache.view import View
from gramcli.dataset.clip import Clip
from gramcli.evaluation.fitted_baselines import FittedBaselines
from gramcli.fitting.conditional_logit import log_softmax
from gramcli.fitting.temperature import inverse_temperature
from gramcli.gram.kernels import Plan
from gramcli.inference.rule import Rule
from gramcli.progress import Progress

NETWORK = "map"
TEMPERATURE = "temperature"

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class DecisionOutput:
    """What one decision says of N clips."""

    label: npt.NDArray[np.intp]
    """(N,)."""
    log_p: Array | None
    """Log-probabilities, (N, C); None where the decision gives none."""


@dataclass(frozen=True, eq=False)
class JudgedClips:
    """Usable clips in the order of their keys, and what every decision says of them."""

    clips: tuple[Clip, ...]
    labels: npt.NDArray[np.intp]
    """True class; -2 where the rule has no such class, (N,)."""
    decisions: Mapping[str, DecisionOutput]
    """By name, the network first and the default last but for rivals."""
    unknown: npt.NDArray[np.bool_] | None
    """Whether beyond the threshold, (N,); None without one."""
    failed: int
    """Labelled clips without a usable row."""

    @property
    def groups(self) -> npt.NDArray[np.intp]:
        """Source of each clip, numbered, (N,)."""
        return np.unique([clip.group for clip in self.clips], return_inverse=True)[1].astype(np.intp)

    @staticmethod
    def pooled(parts: Sequence[JudgedClips]) -> JudgedClips:
        """Puts clips of several caches together, each judged by its own rule; of the decisions those that all have."""
        unknown = [part.unknown for part in parts if part.unknown is not None]
        return JudgedClips(
            tuple(clip for part in parts for clip in part.clips),
            np.concatenate([part.labels for part in parts]),
            {
                name: _joined([part.decisions[name] for part in parts])
                for name in parts[0].decisions
                if all(name in part.decisions for part in parts)
            },
            np.concatenate(unknown) if len(unknown) == len(parts) else None,
            sum(part.failed for part in parts),
        )


def _joined(parts: Sequence[DecisionOutput]) -> DecisionOutput:
    told = [part.log_p for part in parts if part.log_p is not None]
    return DecisionOutput(
        np.concatenate([part.label for part in parts]), np.concatenate(told) if len(told) == len(parts) else None
    )


@dataclass(frozen=True, eq=False)
class Decisions:
    """The decisions of a calibrated cache, ready to be applied to the rows of its views."""

    source: CalibratedCache
    rule: Rule
    sharpness: float | None
    """Inverse temperature under which the network's logits make validation labels likeliest."""
    rivals: FittedBaselines | None

    @classmethod
    def of(cls, cache: Path, progress: Progress, *, with_rivals: bool = False) -> Decisions:
        """Reads the stored decision, and fits what it is compared with.

        Raises:
            ArtefactError: A stage has not run, or its result no longer fits.
            DamagedError: A file of the cache is not as it was written.
            ResourceError: Rivals are wanted, and scikit-learn is not installed.
        """
        source = CalibratedCache.open(cache)
        known = source.statistics
        rule = Rule.of(known, decisions.load(cache, known))
        sharpness = None
        if known.validation.logits.shape[1] == len(known.classes):
            sharpness = inverse_temperature(log_softmax(known.validation.logits), known.validation.labels)
        return cls(source, rule, sharpness, FittedBaselines.fit(source, rule, progress) if with_rivals else None)

    @property
    def view(self) -> View:
        """The clean view."""
        return self.source.view

    def judge(self, view: View, clips: Sequence[Clip], progress: Progress, unread: int = 0) -> JudgedClips:
        """Applies every decision to the clips of a view, shard by shard; failed ones are left out.

        Args:
            view: Where the rows are.
            clips: Labelled clips.
            progress: Told of clips as they are judged.
            unread: Labelled clips that have no row at all.

        Raises:
            DamagedError: A file of the cache is not as it was written.
        """
        rule, rivals = self.rule, self.rivals
        index = {label: n for n, label in enumerate(rule.classes)}
        found: list[Clip] = []
        parts: list[tuple[dict[str, DecisionOutput], Array | None]] = []
        with_means = rivals is not None and view.with_means
        plan = rule.plan(len(clips))
        for group, rows, where in read_rows(view, clips, rule.layers, progress.advance, with_means=with_means):
            if not group:
                continue
            logits = rows.logits[where] if view.outputs else None
            descriptors = {layer: rows.descriptors[layer][where] for layer in rule.layers}
            said, unknown = self._said(descriptors, logits, plan)
            if rivals is not None:
                means = {layer: values[where] for layer, values in rows.means.items()}
                for name, log_p in rivals.log_probabilities(descriptors, means, logits).items():
                    said[name] = DecisionOutput(log_p.argmax(axis=1), log_p)
            parts.append((said, unknown))
            found += group
        # the same whatever the shards: in order of the keys
        order = np.array(sorted(range(len(found)), key=lambda n: (found[n].key, found[n].id)), np.intp)
        joined = {name: _joined([said[name] for said, _ in parts]) for name in (parts[0][0] if parts else ())}
        beyond = [unknown for _, unknown in parts if unknown is not None]
        return JudgedClips(
            tuple(found[n] for n in order),
            np.array([index.get(found[n].label, -2) for n in order], np.intp),
            {
                name: DecisionOutput(one.label[order], None if one.log_p is None else one.log_p[order])
                for name, one in joined.items()
            },
            np.concatenate(beyond)[order] if beyond else None,
            len(clips) - len(found) + unread,
        )

    def _said(
        self, descriptors: Mapping[str, Array], logits: Array | None, plan: Plan
    ) -> tuple[dict[str, DecisionOutput], Array | None]:
        """Returns what the network and the layers say of some clips, and which are beyond the threshold."""
        said: dict[str, DecisionOutput] = {}
        if logits is not None:
            said[NETWORK] = DecisionOutput(logits.argmax(axis=1), log_softmax(logits))
            if self.sharpness is not None:
                said[TEMPERATURE] = DecisionOutput(said[NETWORK].label, log_softmax(logits * self.sharpness))
        judged = self.rule.judge(descriptors, logits, plan=plan)
        own = DecisionOutput(judged.choice.label, judged.log_p)
        if self.rule.name == "gram":
            said["gram"] = own
        else:
            said["gram"] = DecisionOutput(self.rule.choose(judged.deviations, logits).label, None)
            said[self.rule.name] = own
        return said, judged.unknown
