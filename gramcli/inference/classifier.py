"""``gramcli classify``: classifies new recordings with a calibrated network.

From Python::

    from gramcli import GramClassifier

    classifier = GramClassifier.load(".gramcli")
    for row in classifier.predict(["new.wav"]):
        print(row.path, row.label, row.deviation)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.audio import find
from gramcli.errors import UsageError
from gramcli.inference import bundle
from gramcli.inference.bundle import ModelBundle
from gramcli.inference.rule import Rule
from gramcli.inference.window_stream import WindowBatch, WindowRef, score_windows
from gramcli.network import checkpoint
from gramcli.network.prepare import PreparedNetwork, StoredNetwork, prepare
from gramcli.settings.configure import configure, configure_stored
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import Settings
from gramcli.text import shown

COLUMNS = (
    "path", "start", "end", "label", "probability_if_known", "unknown", "deviation", "runner_up", "margin",
    "network_label", "network_confidence", "tied", "strangeness", "status", "error",
)  # fmt: skip
"""Columns of a prediction, in the order of every output format."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Prediction:
    """One window of one recording. What does not apply is None; no number is NaN or infinite."""

    path: str
    start: float | None = None
    """Seconds."""
    end: float | None = None
    label: str | None = None
    """The class that the rule decides for, also where the window is unknown."""
    probability_if_known: float | None = None
    """Probability of the label, if the sound is of one of the classes."""
    unknown: bool | None = None
    """Whether the window is unlike every class; None where no threshold could be set."""
    deviation: float | None = None
    """Δ̄ of the label: about 1 for validation clips against their own class; the higher, the less like the class."""
    runner_up: str | None = None
    margin: float | None = None
    """With the rule gram Δ̄ of the runner-up minus that of the label; with fused the difference of their
    log-probabilities, None where the prior gives the runner-up no chance."""
    network_label: str | None = None
    """The class that the network alone decides for."""
    network_confidence: float | None = None
    """Its softmax, 0 to 1."""
    tied: bool | None = None
    """Whether label and runner-up score alike, so that the network's logits decided."""
    strangeness: float | None = None
    """Score that the threshold for unknown sounds is set on: log-deviation from the nearest class, averaged over all
    layers."""
    status: str = "ok"
    """ok or failed."""
    error: str = ""
    deviations: Mapping[str, float] | None = None
    """Δ̄ against every class that has training clips."""
    probabilities: Mapping[str, float] | None = None
    """Probability of every class that has training clips, if the sound is of one of them; they sum to 1."""

    def row(self) -> dict[str, Any]:
        """Returns the columns of the output table."""
        return {name: getattr(self, name) for name in COLUMNS}


class GramClassifier:
    """A calibrated network, built and ready.

    Args:
        settings: Complete settings, as `configure` returns them.
        model: Identity, rule and weights.
        prior: How frequent each class is among the recordings; as in training if None.
        context: What the user named, whether the code of files is trusted, and progress.

    Raises:
        UsageError: The prior names another class, shares add up to more than 1, or no class is given a chance.
        UnsafeError: Cache or model names code or arguments that the user has not named or trusted.
    """

    def __init__(
        self,
        settings: Settings,
        model: ModelBundle,
        prior: Mapping[str, float] | None = None,
        context: RunContext | None = None,
    ) -> None:
        context = context or RunContext()
        self.progress = context.progress
        self._prior = None if prior is None else _prior(prior, model.rule)
        self.settings = settings
        self.model = model
        state = None
        if model.weights is not None:
            import torch

            state = {name: torch.from_numpy(array) for name, array in model.weights.items()}
        rule = model.rule
        self._ready: PreparedNetwork = prepare(
            settings, rule.classes, context, StoredNetwork(model.identity, rule.layers, state, model.origin)
        )

    @classmethod
    def load(
        cls,
        path: str | Path = ".gramcli",
        context: RunContext | None = None,
        prior: Mapping[str, float] | None = None,
    ) -> GramClassifier:
        """Loads a calibrated cache or an exported model.

        Args:
            path: Folder of a cache, or the file that `gramcli export` wrote.
            context: Settings of how to run, e.g. ``RunContext({"run": {"device": "cpu"}})``, progress, and whether to
                trust the code that cache or model name.
            prior: How frequent each class is among the recordings: shares that add up to at most 1, the rest being
                divided evenly among the classes not named, or weights of all classes; as in training if None.

        Raises:
            UsageError: The prior names another class, shares add up to more than 1, or no class is given a chance.
            ArtefactError: A stage has not run, or network, front end or classes do not fit the statistics.
            DamagedError: A file is not as it was written.
            ResourceError: The device is missing.
            UnsafeError: Cache or model names code or arguments that the user has not named or trusted.
        """
        return cls.of(bundle.load(Path(path)), context, prior)

    @classmethod
    def of(
        cls,
        model: ModelBundle,
        context: RunContext | None = None,
        prior: Mapping[str, float] | None = None,
    ) -> GramClassifier:
        """Builds a model that was read already; see `load` for arguments and errors."""
        context = context or RunContext()
        if model.weights is None:
            settings = configure(
                context, earlier=model.settings, origin=model.origin.name, metadata=checkpoint.settings_of_file
            )
        else:
            settings = configure_stored(context, model.settings, model.origin.name)
        return cls(settings, model, prior, context)

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels that it can give."""
        return self.model.rule.classes

    def predict(self, files: str | Path | Iterable[str | Path]) -> list[Prediction]:
        """Classifies recordings and folders of recordings; see `stream`."""
        return list(self.stream(files))

    def stream(self, files: str | Path | Iterable[str | Path]) -> Iterator[Prediction]:
        """Yields one prediction per window, in order of the files; a window that cannot be used has an error instead.

        Args:
            files: Recordings, folders (searched with all their sub-folders) and globs, or one of them.

        Raises:
            NoInputError: No recording is found.
        """
        progress = self.progress
        files = [files] if isinstance(files, str | Path) else files
        paths = find.audio_files([str(file) for file in files])
        progress.start("classifying", len(paths))
        self._ready.scorer.note = progress.note
        for _, windows in itertools.groupby(self._predictions(paths), key=lambda row: row.path):
            failed = False
            for row in windows:
                failed = failed or row.status != "ok"
                yield row
            progress.advance(1, failed)

    def _predictions(self, paths: Sequence[str]) -> Iterator[Prediction]:
        for batch in self.score_windows(paths):
            yield from self._rows(batch)

    def score_windows(self, paths: Sequence[str]) -> Iterator[WindowBatch]:
        """Yields descriptors and logits of the windows of some files, in their order; see `window_stream`."""
        return score_windows(paths, self.settings, self._ready)

    def _rows(self, batch: WindowBatch) -> Iterator[Prediction]:
        found: dict[int, Prediction] = {}
        if batch.logits is not None:
            parts = [batch.parts[n] for n in batch.sound]
            found = dict(zip(batch.sound, self._judge(parts, batch.descriptors, batch.logits), strict=True))
        for n, part in enumerate(batch.parts):
            yield (
                found[n]
                if n in found
                else Prediction(part.path, part.begin, part.stop, status="failed", error=batch.errors[n])
            )

    def _judge(
        self, parts: Sequence[WindowRef], descriptors: Mapping[str, Array], logits: Array
    ) -> Iterator[Prediction]:
        rule, own = self.model.rule, self.settings.network.head == "map"
        if not parts:
            return
        output = rule.judge(descriptors, logits if own else None, self._prior)
        choice, present = output.choice, np.flatnonzero(rule.present)
        for n, part in enumerate(parts):
            label, runner_up = int(choice.label[n]), int(choice.runner_up[n])
            # the margin to a class of prior 0 is infinite
            ahead = runner_up >= 0 and bool(np.isfinite(choice.margin[n]))
            network, confidence = _network(logits[n]) if own else (None, None)
            chances = None if output.log_p is None else np.exp(output.log_p[n])
            yield Prediction(
                part.path,
                part.begin,
                part.stop,
                label=rule.classes[label],
                probability_if_known=None if chances is None else float(chances[label]),
                unknown=None if output.unknown is None else bool(output.unknown[n]),
                deviation=float(output.deviations[n, label]),
                runner_up=rule.classes[runner_up] if runner_up >= 0 else None,
                margin=float(choice.margin[n]) if ahead else None,
                network_label=None if network is None else rule.classes[network],
                network_confidence=confidence,
                tied=bool(choice.tied[n]),
                strangeness=float(output.strangeness[n]),
                deviations={rule.classes[c]: float(output.deviations[n, c]) for c in present},
                probabilities=None if chances is None else {rule.classes[c]: float(chances[c]) for c in present},
            )


def _prior(prior: Mapping[str, float], rule: Rule) -> Array:
    """Returns the prior in the order of the classes, (C,)."""
    index = {label: n for n, label in enumerate(rule.classes)}
    values = np.zeros(len(index))
    for label, chance in prior.items():
        if label not in index:
            raise UsageError(f"prior: {shown(label)} is none of the classes; these are {shown(', '.join(index))}")
        if not (math.isfinite(chance) and chance >= 0):
            raise UsageError(f"prior: the share of {shown(label)} is {chance:g}; give 0 or more")
        values[index[label]] = chance
    left = [n for label, n in index.items() if label not in prior]
    if left:
        if values.sum() > 1 + 1e-9:
            raise UsageError(
                f"prior: the shares of {len(prior)} of {len(index)} classes add up to {values.sum():.4g}; give shares "
                "that add up to at most 1, or a weight for every class"
            )
        values[left] = max(0.0, 1.0 - values.sum()) / len(left)
    if not values[rule.present].sum() > 0:
        raise UsageError("prior: every class that has training clips has the share 0; give at least one of them more")
    return values


def _network(logits: Array) -> tuple[int, float]:
    """Returns the network's own class and its softmax."""
    wide = logits.astype(np.float64)
    chance = np.exp(wide - wide.max())
    best = int(np.argmax(wide))
    return best, float(chance[best] / chance.sum())
