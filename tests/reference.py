"""A reference of the method (Eq. 4-14) in plain loops and float64. It imports nothing of gramcli.

Where the paper leaves a point open, the reference follows the same choices as gramcli. Denominators are at least ε. The
descriptor of a constant layer is 0. E_l is measured on validation clips against their own class, and layers with
E_l = 0 are left out. Layers are ranked by W1 on pooled ranks. Ties are broken by the logits and then by class order.
Classes without training clips are never chosen.

A clip is a list of feature maps, one array (K_l, *positions) for each layer. Classes are 0 to C - 1.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

Vector = list[float]
Range = tuple[Vector, Vector]


def gram_matrix(maps: np.ndarray) -> np.ndarray:
    """Eq. 4: F Fᵀ of maps (K, *positions)."""
    rows = np.asarray(maps, np.float64).reshape(len(maps), -1)
    return rows @ rows.T


def row_sums(maps: np.ndarray) -> Vector:
    """Eq. 5: the sum of each row of the Gram matrix, diagonal included."""
    return [math.fsum(row) for row in gram_matrix(maps).tolist()]


def normalise(row_sums: Sequence[float]) -> Vector:
    """Eq. 6, with 0/0 = 0."""
    low, high = min(row_sums), max(row_sums)
    if low == high:
        return [0.0] * len(row_sums)
    return [(float(g) - low) / (high - low) for g in row_sums]


def descriptor(maps: np.ndarray) -> Vector:
    """Eq. 4-6: g̃ of one clip at one layer."""
    return normalise(row_sums(maps))


def bounds(scaled: Sequence[Vector], labels: Sequence[int], classes: int) -> list[Range | None]:
    """Eq. 7-8 for each class: (λ, Λ), or None for a class without clips."""
    ranges: list[Range | None] = []
    for c in range(classes):
        own = [clip for clip, label in zip(scaled, labels, strict=True) if label == c]
        ranges.append(
            ([min(g) for g in zip(*own, strict=True)], [max(g) for g in zip(*own, strict=True)]) if own else None
        )
    return ranges


def channel_deviation(lower: float, upper: float, g: float, epsilon: float) -> float:
    """Eq. 9, with denominators of at least ε."""
    if g < lower:
        return (lower - g) / max(abs(lower), epsilon)
    if g > upper:
        return (g - upper) / max(abs(upper), epsilon)
    return 0.0


def layer_deviation(scaled: Vector, own: Range | None, epsilon: float) -> float:
    """Eq. 10, on g̃; NaN for a class without clips."""
    if own is None:
        return math.nan
    return math.fsum(channel_deviation(*triple, epsilon) for triple in zip(*own, scaled, strict=True))


def expected(own_deviations: Sequence[float]) -> float:
    """E_l of Eq. 11: the mean deviation of validation clips from their own class."""
    return math.fsum(own_deviations) / len(own_deviations)


def total(deviations: Sequence[float], expected: Sequence[float]) -> float:
    """Δ̄ of Eq. 11 and 13 for one class: the mean over layers of δ_l / E_l, without layers that have E_l = 0."""
    terms = [delta / scale for delta, scale in zip(deviations, expected, strict=True) if scale > 0]
    return math.fsum(terms) / len(terms)


def wasserstein(one: Sequence[float], other: Sequence[float]) -> float:
    """W1 = ∫ |F - G|, the area between two empirical distribution functions."""
    points = sorted([*one, *other])
    area = 0.0
    for left, right in pairwise(points):
        below_one = sum(value <= left for value in one) / len(one)
        below_other = sum(value <= left for value in other) / len(other)
        area += abs(below_one - below_other) * (right - left)
    return area


def pooled_ranks(deviations: Sequence[Vector]) -> list[Vector]:
    """Ranks among all entries of a table, scaled to [0, 1]. Equal entries share their mean rank."""
    pool = [value for row in deviations for value in row]

    def rank(value: float) -> float:
        below = sum(other < value for other in pool)
        equal = sum(other == value for other in pool)
        return below + (equal - 1) / 2  # from 0

    return [[rank(value) / max(len(pool) - 1, 1) for value in row] for row in deviations]


def separation(deviations: Sequence[Vector], labels: Sequence[int]) -> float:
    """Eq. 12: the mean over classes of W1 between own and other clips. `deviations` is by clip and class."""
    distances = []
    for c in range(len(deviations[0])):
        own = [row[c] for row, label in zip(deviations, labels, strict=True) if label == c]
        others = [row[c] for row, label in zip(deviations, labels, strict=True) if label != c]
        if own and others:
            distances.append(wasserstein(own, others))
    return math.fsum(distances) / len(distances) if distances else math.nan


def layer_score(deviations: Sequence[Vector], labels: Sequence[int], ranking: str) -> float:
    """I_l. Rankings "wasserstein" and "rank" use validation clips; "paper" is Eq. 12 on training clips."""
    return separation(pooled_ranks(deviations) if ranking == "rank" else deviations, labels)


def decide(scores: Sequence[float], logits: Sequence[float] | None = None) -> tuple[int, int]:
    """Eq. 14: the class of smallest score and the next one. NaN is never chosen; -1 if there is no class."""
    tie_break = logits if logits is not None else [0.0] * len(scores)
    order = sorted((score, -tie_break[c], c) for c, score in enumerate(scores) if not math.isnan(score))
    classes = [c for *_, c in order] + [-1, -1]
    return classes[0], classes[1]


@dataclass
class Statistics:
    """The result of calibration: bounds by layer and class, E_l by layer, and I_l by ranking and layer."""

    bounds: list[list[Range | None]]
    expected: Vector
    scores: dict[str, Vector]
    epsilon: float

    def deviations(self, clip: Sequence[np.ndarray]) -> list[Vector]:
        """δ by layer and class of one clip's feature maps."""
        return [
            [layer_deviation(descriptor(maps), own, self.epsilon) for own in ranges]
            for maps, ranges in zip(clip, self.bounds, strict=True)
        ]

    def totals(self, clip: Sequence[np.ndarray], layers: Sequence[int] | None = None) -> Vector:
        """Δ̄ by class over the given layers; all if None."""
        table = self.deviations(clip)
        chosen = range(len(table)) if layers is None else layers
        scales = [self.expected[layer] for layer in chosen]
        return [total([table[layer][c] for layer in chosen], scales) for c in range(len(table[0]))]


def calibrate(
    train: Sequence[Sequence[np.ndarray]],
    train_labels: Sequence[int],
    validation: Sequence[Sequence[np.ndarray]],
    validation_labels: Sequence[int],
    classes: int,
    epsilon: float,
) -> Statistics:
    """Computes all statistics from the feature maps of training and validation clips."""
    layers = range(len(train[0]))
    ranges = [bounds([descriptor(clip[layer]) for clip in train], train_labels, classes) for layer in layers]
    statistics = Statistics(ranges, [], {"rank": [], "wasserstein": [], "paper": []}, epsilon)
    present = [c for c in range(classes) if c in train_labels]
    tables = [statistics.deviations(clip) for clip in validation]
    train_tables = [statistics.deviations(clip) for clip in train]
    for layer in layers:
        own = [table[layer][c] for table, c in zip(tables, validation_labels, strict=True) if c in present]
        statistics.expected.append(expected(own))
        for ranking, source, labels in (
            ("rank", tables, validation_labels),
            ("wasserstein", tables, validation_labels),
            ("paper", train_tables, train_labels),
        ):
            columns = [[table[layer][c] for c in present] for table in source]
            renamed = [present.index(c) if c in present else -1 for c in labels]
            statistics.scores[ranking].append(layer_score(columns, renamed, ranking))
    return statistics


def discriminant(rows, labels, part_of, more, classes, shrinkage):
    """Scores of new clips before the temperature, with the full covariance over all channels."""
    training = part_of < 0

    def vectors(of):
        columns = []
        for layer in rows:
            fitted_on = rows[layer].astype(float)
            floor = 1e-4 * abs(fitted_on[training]).mean()
            logs, new_logs = np.log1p(fitted_on / floor), np.log1p(of[layer].astype(float) / floor)
            deviation = logs[training].std(axis=0)
            divisor = deviation + 1e-3 * np.sqrt((deviation**2).mean())
            columns.append((new_logs - logs[training].mean(axis=0)) / divisor)
        return np.concatenate(columns, axis=1)

    def fit(mask):
        points = vectors(rows)[mask]
        means = [points[labels[mask] == c].mean(axis=0) for c in range(classes)]
        covariance = np.zeros((points.shape[1],) * 2)
        for point, label in zip(points, labels[mask], strict=True):
            covariance += np.outer(point - means[label], point - means[label]) / len(points)
        variance = np.trace(covariance) / len(covariance)
        inverse = np.linalg.inv((1 - shrinkage) * covariance + shrinkage * variance * np.eye(len(covariance)))
        counts = [int((labels[mask] == c).sum()) for c in range(classes)]
        return means, inverse, counts, lambda x, m: float((x - m) @ inverse @ (x - m))

    own_distances = []
    for part in sorted(set(part_of[~training])):
        means, _, counts, distance = fit(part_of != part)
        for x, label in zip(vectors(rows)[part_of == part], labels[part_of == part], strict=True):
            own_distances.append(distance(x, means[label]) / (1 + 1 / counts[label]))
    kappa = math.fsum(own_distances) / len(own_distances)
    means, inverse, counts, distance = fit(np.ones(len(labels), bool))
    clips = sum(counts)
    middle = sum(n * m for n, m in zip(counts, means, strict=True)) / clips
    between = sum(n * distance(m, middle) for n, m in zip(counts, means, strict=True)) - (classes - 1) * kappa
    tau_squared = max(0.0, between / (clips - sum(n * n for n in counts) / clips))
    scores = []
    for x in vectors(more):
        row = []
        for n, m in zip(counts, means, strict=True):
            factor = math.sqrt((tau_squared + kappa / max(counts)) / (tau_squared + kappa / n))
            score = float(2 * (m - middle) @ inverse @ (x - middle)) - distance(m, middle)
            row.append(factor * (score + kappa * (1 / n - 1 / clips)))
        scores.append(row)
    return np.array(scores)


def moments(evidence: np.ndarray, labels: Sequence[int], sizes: Sequence[Vector], classes: list[int], n: int) -> Vector:
    """Mean, variance and degrees of freedom of the evidence (clips, draws) against own bounds of n clips."""
    of_clips, squares, freedom = [], [], 0
    for c in classes:
        own = [row for row, label in zip(evidence.tolist(), labels, strict=True) if label == c]
        draws = [d for d, size in enumerate(sizes[c]) if size == n]
        for row in own:
            of_clips.append(math.fsum(row[d] for d in draws) / len(draws))
            means = [math.fsum(other[d] for other in own) / len(own) for d in draws]
            squares.append(math.fsum((row[d] - m) ** 2 for d, m in zip(draws, means, strict=True)) / len(draws))
        freedom += max(len(own) - 1, 0)
    return [math.fsum(of_clips) / max(len(of_clips), 1), math.fsum(squares) / max(freedom, 1), freedom]


def interpolated(table: dict[int, float], n: float) -> float:
    """The value at n, linear in log n between the sizes of a table, and constant outside them."""
    below, above = max((s for s in table if s <= n), default=min(table)), min((s for s in table if s >= n), default=0)
    if not above or above == below:
        return table[below]
    share = math.log(n / below) / math.log(above / below) if below <= n else 0.0
    return table[below] + share * (table[above] - table[below])


def size_correction(
    evidence: np.ndarray, labels: Sequence[int], sizes: Sequence[Vector], counts: Sequence[int]
) -> list[list[tuple[float, float]]]:
    """The correction of evidence (clips, layers, draws) for class sizes: (scale, shift) by layer and class.

    The shift includes the median, over clips and pairs of draws, of the difference that is left in the layers' mean.
    """
    known = sorted({int(size) for row in sizes for size in row if size})
    layers = range(evidence.shape[1])
    mean, spread = [{known[0]: 0.0} for _ in layers], [{known[0]: 0.0} for _ in layers]
    for small, large in pairwise(known):
        classes = [c for c, row in enumerate(sizes) if large in row]
        for layer in layers:
            one, other = (moments(evidence[:, layer], labels, sizes, classes, n) for n in (small, large))
            if small == known[0]:
                mean[layer][small] = one[0]
            mean[layer][large] = mean[layer][small] + other[0] - one[0]
            spread[layer][large] = spread[layer][small]
            if one[2] >= 4 and min(one[1], other[1]) > 1e-12:
                spread[layer][large] += math.log(other[1] / one[1]) / 2
    top = known[-1]

    def centred(row: np.ndarray, d: int, n: int) -> float:
        return math.fsum(math.exp(spread[i][top] - spread[i][n]) * (row[i, d] - mean[i][n]) for i in layers)

    excess = {top: 0.0}
    for small, large in reversed(list(pairwise(known))):
        pairs = [
            (centred(row, d, small) - centred(row, e, large)) / len(layers)
            for row, c in zip(evidence, labels, strict=True)
            for d, one in enumerate(sizes[c])
            for e, other in enumerate(sizes[c])
            if one == small and other == large
        ]
        excess[small] = excess[large] + (statistics.median(pairs) if pairs else 0.0)
    found = []
    for layer in layers:
        scales = [math.exp(spread[layer][top] - interpolated(spread[layer], n)) for n in counts]
        shifts = [
            mean[layer][top] - scale * interpolated(mean[layer], n) - interpolated(excess, n)
            for scale, n in zip(scales, counts, strict=True)
        ]
        found.append(list(zip(scales, shifts, strict=True)))
    return found
