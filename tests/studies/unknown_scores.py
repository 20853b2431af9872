"""Scores for unknown (out-of-distribution) clips that the study of held-out classes compares; higher is more unknown.

Training clips set bounds, means and neighbours, validation clips E_l and scales; no score is fitted on anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from gramcli.evaluation.ood import detectors
from gramcli.evaluation.ood.scores import SPECTRUM, OnAudio, OnDescriptors, of_logits
from gramcli.fitting.conditional_logit import log_softmax
from gramcli.rule.fusion import evidence
from gramcli.rule.novelty import strangeness
from tests.studies import gram_ood
from tests.studies.gram_ood import GRAM_OOD, GRAM_OOD_STAR

OWN = "strangeness"

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class SplitClips:
    """The clips of one split."""

    labels: Array
    """True class; -1 for a clip of none, (N,)."""
    logits: Array
    """(N, C)."""
    descriptors: Mapping[str, Array]
    """ĝ by layer, (N, K_l)."""
    deviations: Array
    """δ of the layers that can be used, (N, L, C)."""
    roots: Mapping[str, Array]
    """See `gram_ood.record`."""
    spectra: Array
    """Mean log-mel, (N, bands)."""
    plain: Mapping[str, Array]
    """What the package measures of the audio alone, (N,) each."""


Score = Callable[[SplitClips], Array]
"""Takes N clips, returns (N,)."""


def others(training: SplitClips, validation: SplitClips, expected: Array) -> dict[str, Score]:
    """Returns the package's score, then those of others, fitted, by name.

    Args:
        training: Sets bounds, means and neighbours.
        validation: Sets E_l.
        expected: E_l of the layers that can be used, (L,).
    """
    layers = OnDescriptors.fit(training.descriptors, training.labels)
    audio = OnAudio.fit(training.plain, training.spectra, training.labels)

    def theirs(method: gram_ood.Method) -> Score:
        seen, held = _clips(training), _clips(validation)
        return lambda clips: gram_ood.score(method, seen, held, _clips(clips))

    def one(scores: Callable[[SplitClips], Mapping[str, Array]], name: str) -> Score:
        return lambda clips: scores(clips)[name]

    families = [
        (lambda clips: of_logits(clips.logits), ("max_softmax", "energy", "max_logit")),
        (lambda clips: layers.score(clips.descriptors), ("mahalanobis", "knn")),
        (lambda clips: audio.score(clips.plain, clips.spectra), (SPECTRUM, *training.plain)),
    ]
    return {
        OWN: lambda clips: strangeness(evidence(clips.deviations, expected)),
        "Gram-OOD": theirs(GRAM_OOD),
        "Gram-OOD*": theirs(GRAM_OOD_STAR),
        **{name: one(scores, name) for scores, names in families for name in names},
    }


def _clips(clips: SplitClips) -> gram_ood.Clips:
    return gram_ood.Clips(clips.roots, log_softmax(clips.logits))


def ways(validation: SplitClips, expected: Array) -> dict[str, Score]:
    """Returns other ways to form the strangeness, by name.

    Args:
        validation: Sets what is usual of a layer and of a score.
        expected: E_l of the layers that can be used, (L,).
    """
    own = evidence(validation.deviations, expected)[np.arange(len(validation.labels)), :, validation.labels]
    usual, spread = own.mean(axis=0)[:, None], own.std(axis=0)[:, None]
    by_class = np.full(validation.deviations.shape[2], own.mean())  # also of a class without validation clips
    for label in np.unique(validation.labels):
        by_class[label] = own[validation.labels == label].mean()
    half, quarter = len(expected) // 2, max(len(expected) // 4, 1)

    def logged(clips: SplitClips) -> Array:
        return evidence(clips.deviations, expected)

    def layers(some: slice) -> Score:
        return lambda clips: logged(clips)[:, some].mean(axis=1).min(axis=1)

    def standardised(score: Score) -> Score:
        known = score(validation)
        return lambda clips: (score(clips) - known.mean()) / known.std()

    def plus(score: Callable[[Array], Array]) -> Score:
        one, other = standardised(layers(slice(None))), standardised(lambda clips: score(clips.logits))
        return lambda clips: one(clips) + other(clips)

    return {
        "mean of δ/E, not of its logarithm": lambda clips: (
            (clips.deviations / expected[:, None]).mean(axis=1, dtype=np.float64).min(axis=1)
        ),
        "each layer's own nearest class": lambda clips: logged(clips).min(axis=2).mean(axis=1),
        "layers standardised": lambda clips: ((logged(clips) - usual) / spread).mean(axis=1).min(axis=1),
        "beyond what is usual of each class": lambda clips: (logged(clips).mean(axis=1) - by_class).min(axis=1),
        "early half of the layers": layers(slice(None, half)),
        "late half of the layers": layers(slice(half, None)),
        "late quarter of the layers": layers(slice(-quarter, None)),
        "the network's class, not the nearest": lambda clips: logged(clips).mean(axis=1)[
            np.arange(len(clips.logits)), clips.logits.argmax(axis=1)
        ],
        "with energy": plus(detectors.energy),
        "with max logit": plus(detectors.max_logit),
    }
