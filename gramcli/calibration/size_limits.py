"""The largest sizes that gramcli works with: numbers of classes, layers, channels and clips, checked before the work.

Below these limits each command takes less than 2 GiB of memory. Time grows in proportion to clips × classes × layers.
"""

from __future__ import annotations

from dataclasses import dataclass

from gramcli.errors import ResourceError

PREFERRED_NUMBERS = 1 << 23
"""Number of deviations (clips times layers times classes) that a fit or a block of work keeps to, 32 MiB."""
MIN_CLIPS = 500
"""Number of clips that a fit uses even with more deviations than `PREFERRED_NUMBERS`, as far as `MAX_FIT` allows."""
FEWEST_CLIPS = 20
"""With fewer clips nothing is fitted: there are too many layers and classes."""
MAX_FIT = 1 << 26
"""Largest number of evidence and scores in a fit, 512 MiB: clips times classes times layers and `SCORES_PER_CLASS`."""
SCORES_PER_CLASS = 8
"""Scores of a clip and class that are in memory at once: of network, discriminant and layers, and what joins them."""

MAX_RULE = 1 << 27
"""Largest number of classes times channels of all layers. Each takes 12 bytes of a rule: lower and upper bound, and a
weight of the discriminant."""
MAX_BOUNDS = 7 << 25
"""Largest number of classes and subsamples times channels, while calibrate collects their bounds. Each takes 8 bytes:
lower and upper bound."""
MAX_LAYER = 1 << 27
"""Largest number of validation clips times classes: the deviations of one layer are ranked in memory."""
MAX_DEVIATIONS = 1 << 32
"""Largest number of validation clips times classes times layers: 16 GiB on disk."""
MAX_NEGATIVES = 1 << 32
"""Largest number of training clips times classes times layers for the paper's ranking, which compares them all."""
MAX_RIVALS = 1 << 25
"""Largest number of clips times classes for the other classifiers of ``evaluate --rivals``; more would take more than
ten minutes."""

MAX_DISCRIMINANT_BYTES = 7 << 28
"""Largest memory of a discriminant's fit; see `discriminant_bytes`."""
MAX_HELD_OUT = 1 << 23
"""Largest number of validation clips times classes with which a discriminant is cross-fitted."""


@dataclass(frozen=True)
class Size:
    """The numbers that time and memory depend on."""

    classes: int
    layers: int
    channels: int
    """Channels of all layers."""
    validation: int
    """Validation clips."""

    def require_possible(self) -> None:
        """Checks that calibrate, select-layers, evaluate and classify can work with this size.

        Raises:
            ResourceError: They cannot. The message states the size and the limit.
        """
        fewest = MAX_FIT // FEWEST_CLIPS
        for numbers, most, what, advice in (
            (self.classes * self.channels, MAX_RULE, "classes × {channels} channels", "layers"),
            (
                self.classes * (self.layers + SCORES_PER_CLASS),
                fewest,
                f"classes × ({{layers}} layers + {SCORES_PER_CLASS} scores)",
                "layers",
            ),
            (self.classes * self.validation, MAX_LAYER, "classes × {validation} validation clips", "validation clips"),
            (
                self.classes * self.validation * self.layers,
                MAX_DEVIATIONS,
                "classes × {validation} validation clips × {layers} layers",
                "layers or validation clips",
            ),
        ):
            if numbers > most:
                raise ResourceError(
                    f"too large: {self.classes} {what.format_map(vars(self))} is {numbers}, and gramcli works with at "
                    f"most {most}; use fewer classes or {advice}"
                )


def require_subsamples(classes: int, subsamples: int, channels: int) -> None:
    """Checks that the bounds of classes and of subsamples, which the size correction needs, fit into memory together.

    Raises:
        ResourceError: They do not.
    """
    if (numbers := (classes + subsamples) * channels) > MAX_BOUNDS:
        raise ResourceError(
            f"too large to correct for class sizes: {classes} classes and {subsamples} subsamples of them × {channels} "
            f"channels is {numbers}, and gramcli works with at most {MAX_BOUNDS}; set calibrate.class_size to ignore, "
            "or use fewer layers"
        )


def require_negatives(clips: int, classes: int, layers: int) -> None:
    """Checks that the paper's ranking can compare all training clips with all classes.

    Raises:
        ResourceError: They are too many.
    """
    if (numbers := clips * classes * layers) > MAX_NEGATIVES:
        raise ResourceError(
            f"too large for the paper's ranking: {clips} training clips × {classes} classes × {layers} layers is "
            f"{numbers}, and it compares at most {MAX_NEGATIVES}; set decision.ranking to rank, or use fewer layers"
        )


def require_rivals(clips: int, classes: int) -> None:
    """Checks that the other classifiers of ``evaluate --rivals`` can be fitted on so many clips.

    Raises:
        ResourceError: They cannot.
    """
    if (numbers := clips * classes) > MAX_RIVALS:
        raise ResourceError(
            f"too large for rivals: {clips} training and validation clips × {classes} classes is {numbers}, and they "
            f"are fitted with at most {MAX_RIVALS}; leave out --rivals"
        )


def clips_of_fit(layers: int, classes: int) -> int:
    """Returns the largest number of validation clips that a rule of so many layers and classes is fitted on."""
    fits = MAX_FIT // (classes * (layers + SCORES_PER_CLASS))
    return max(1, PREFERRED_NUMBERS // (layers * classes), min(MIN_CLIPS, fits))


def discriminant_bytes(clips: int, channels: int, classes: int) -> int:
    """Returns about how much memory it takes to fit a discriminant on so many clips and channels of all layers."""
    rank = min(clips, channels)
    # float32: descriptors, their standardised logarithms, and the basis of the clips' space
    of_channels = 3 * 4 * clips * channels
    if channels < clips:  # float64, where there is no basis: coordinates, those of a part, and their residuals
        of_channels += 3 * 8 * clips * channels
    # float64: eigenvectors and class means of the five parts and of all clips, and three times as much under way
    of_coordinates = (5 + 1 + 3) * 8 * rank * (rank + min(classes, clips))
    return of_channels + of_coordinates
