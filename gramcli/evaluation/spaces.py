"""Feature spaces of the baselines: standardised logarithms, scaled descriptors or channel means, as coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramcli.fitting.features import LOG, PLAIN, ClipSpan, Standardiser
from gramcli.gram.descriptor import normalise

Array = NDArray[Any]

SCALED = "scaled"
"""Kind of feature: scaled descriptors g̃."""
KINDS = (LOG, SCALED)
"""Kinds of feature that are tried on descriptors."""

_STORED = {LOG: LOG, SCALED: PLAIN, PLAIN: PLAIN}
"""Kind for the standardiser, by kind of feature. g̃ is computed before it."""


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Coordinates of clips in the space that training and validation clips span."""

    values: NDArray[np.float64]
    """(N, R), divided by √D, so that a clip is at a distance of about 1 from the centre."""
    features: int
    """D, the number of features."""


@dataclass(frozen=True, eq=False)
class Spaces:
    """One space for each kind of feature."""

    standards: Mapping[str, Standardiser]
    spans: Mapping[str, ClipSpan]
    fitted: Mapping[str, Coordinates]
    """Coordinates of the training and validation clips, by kind."""

    @staticmethod
    def fit(descriptors: Mapping[str, Array], training: NDArray[np.bool_], kinds: Sequence[str] = KINDS) -> Spaces:
        """Standardises on training clips, and rotates training and validation clips.

        The rotation uses no labels, and changes no length or angle. So a baseline that is fitted on some of the
        validation clips gets no information about the others.

        Args:
            descriptors: ĝ (or channel means) by layer, of training and validation clips.
            training: Which clips are training clips.
            kinds: Kinds of feature.

        Raises:
            ValueError: There is no training clip, or a descriptor is not finite.

        Shape:
            - descriptors: (N, K_l) each
            - training: (N,)
        """
        standards, spans, fitted = {}, {}, {}
        for kind in kinds:
            values = _of_kind(descriptors, kind)
            standards[kind] = Standardiser.fit({layer: one[training] for layer, one in values.items()}, _STORED[kind])
            vectors = standards[kind].apply(values)
            spans[kind] = ClipSpan.fit(vectors)
            fitted[kind] = _coordinates(spans[kind], vectors)
        return Spaces(standards, spans, fitted)

    def of(self, descriptors: Mapping[str, Array]) -> dict[str, Coordinates]:
        """Returns the coordinates of other clips, by kind.

        Shape:
            - descriptors: (N, K_l) each
        """
        return {
            kind: _coordinates(self.spans[kind], one.apply(_of_kind(descriptors, kind)))
            for kind, one in self.standards.items()
        }


def _coordinates(span: ClipSpan, vectors: Array) -> Coordinates:
    features = vectors.shape[1]
    return Coordinates(span.coordinates(vectors)[0] / np.sqrt(features), features)


def _of_kind(descriptors: Mapping[str, Array], kind: str) -> Mapping[str, Array]:
    """Returns g̃ for the kind `SCALED`, and the descriptors themselves for other kinds."""
    return {layer: normalise(raw) for layer, raw in descriptors.items()} if kind == SCALED else descriptors
