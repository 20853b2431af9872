"""Feature spaces of the baselines: descriptors as logarithms, scaled, or as they are, each as coordinates of clips."""

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
"""Kind of feature: g̃, descriptors scaled to the range 0 to 1."""
KINDS = (LOG, SCALED)

_STORED = {LOG: LOG, SCALED: PLAIN, PLAIN: PLAIN}
"""How the standardiser sees each kind; g̃ is computed before."""


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Clips in the space of the clips that baselines are fitted on."""

    values: NDArray[np.float64]
    """In units in which a clip is about 1 from the centre, whatever D is, (N, R)."""
    features: int
    """D."""


@dataclass(frozen=True, eq=False)
class Spaces:
    """The spaces of every kind of feature."""

    standards: Mapping[str, Standardiser]
    spans: Mapping[str, ClipSpan]
    fitted: Mapping[str, Coordinates]
    """Of the clips that it was fitted on, by kind."""

    @staticmethod
    def fit(descriptors: Mapping[str, Array], training: NDArray[np.bool_], kinds: Sequence[str] = KINDS) -> Spaces:
        """Standardises on training clips and turns all: labels are not used, and no length or angle changes.

        So whichever validation clips a rival is fitted on, it sees nothing of those held out.

        Args:
            descriptors: ĝ (or channel means) by layer, of training and validation clips.
            training: Which are training clips.
            kinds: Of feature.

        Raises:
            ValueError: No training clip, or a descriptor that is not finite.

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
    """Returns g̃ for the kind `SCALED`, and descriptors as they are for others."""
    return {layer: normalise(raw) for layer, raw in descriptors.items()} if kind == SCALED else descriptors
