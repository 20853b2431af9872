"""Scores for unknown sounds that the strangeness is compared with, by name; higher is more unknown.

They are fitted on training clips alone, so the score of a clip does not depend on other clips that are scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramcli.evaluation.ood import detectors
from gramcli.evaluation.ood.detectors import Mahalanobis, Neighbours
from gramcli.fitting.features import Standardiser

Array = NDArray[Any]
Scores = dict[str, NDArray[np.float64]]
"""Scores of N clips by name, (N,) each."""

# the value is the key in JSON of the earlier name; it is kept so that programs that read it go on working
STRANGENESS = "deviation"
"""The package's own score, the strangeness: see `gramcli.rule.novelty.strangeness`."""
SPECTRUM = "mahalanobis_log_mel"
ZEROS = "zero_samples"
TRIVIAL = ("duration", "level", "bandwidth", ZEROS)
"""Scores that need no network: see `gramcli.evaluation.ood.measures`."""


def of_logits(logits: Array) -> Scores:
    """Returns the scores that are computed from the network's outputs.

    Shape:
        - logits: (N, C)
    """
    return {
        "max_softmax": detectors.max_softmax(logits),
        "energy": detectors.energy(logits),
        "max_logit": detectors.max_logit(logits),
    }


@dataclass(frozen=True, eq=False)
class OnDescriptors:
    """Mahalanobis's distance and the distance to the k-th neighbour, on log ĝ of all layers, standardised."""

    standard: Standardiser
    mahalanobis: Mahalanobis
    neighbours: Neighbours

    @staticmethod
    def fit(descriptors: Mapping[str, Array], labels: NDArray[np.integer]) -> OnDescriptors:
        """Fits both on training clips.

        Raises:
            ValueError: No clips, shapes do not fit, or a number is not finite.

        Shape:
            - descriptors: ĝ by layer, (N, K_l) each
            - labels: (N,)
        """
        standard = Standardiser.fit(descriptors, "log")
        vectors = standard.apply(descriptors)
        return OnDescriptors(standard, Mahalanobis.fit(vectors, labels), Neighbours.fit(vectors))

    def score(self, descriptors: Mapping[str, Array]) -> Scores:
        """Returns both scores of other clips.

        Shape:
            - descriptors: (N, K_l) each
        """
        vectors = self.standard.apply(descriptors)
        return {"mahalanobis": self.mahalanobis.score(vectors), "knn": self.neighbours.score(vectors)}


@dataclass(frozen=True, eq=False)
class OnAudio:
    """Scores without any network: distance of the mean log-mel, and of measures such as length and level."""

    spectrum: Mahalanobis | None
    usual: Mapping[str, float]
    """Median of each measure."""

    @staticmethod
    def fit(measures: Mapping[str, Array], spectra: Array | None, labels: NDArray[np.integer]) -> OnAudio:
        """Fits all on training clips.

        Args:
            measures: One number per clip, by name.
            spectra: Mean log-mel; None where there is none.
            labels: True classes.

        Raises:
            ValueError: No clips, shapes do not fit, or a number is not finite.

        Shape:
            - measures: (N,) each
            - spectra: (N, B)
            - labels: (N,)
        """
        spectrum = None if spectra is None else Mahalanobis.fit(spectra, labels)
        return OnAudio(spectrum, {name: float(np.median(values)) for name, values in measures.items()})

    def score(self, measures: Mapping[str, Array], spectra: Array | None) -> Scores:
        """Returns the scores of other clips; the score of a measure is its distance from the median.

        Shape:
            - measures: (N,) each
            - spectra: (N, B)
        """
        found = {} if self.spectrum is None or spectra is None else {SPECTRUM: self.spectrum.score(spectra)}
        return found | {name: np.abs(measures[name] - usual) for name, usual in self.usual.items()}
