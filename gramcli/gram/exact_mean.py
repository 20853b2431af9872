"""Means that do not depend on the order of their terms: sums in whole numbers, rounded once at the end."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

LIMB = 32
"""Bits of one digit of the sums."""
LIMBS = 9
"""Digits: float32 spans 2^-149 to 2^128, 277 bits; the last digit is a whole int64, so 2^40 terms fit."""
LEAST = 149
"""Sums count units of 2^-149, the smallest float32."""


class ExactMean:
    r"""Element-wise mean of many arrays of float32, the same bits for any order and any sharding.

    Every finite float32 is a whole number m·2^s of units 2^-149. The shifted m is cut at the borders of 32-bit digits
    and added there in int64, so nothing is ever rounded; carries move up after each call:

        digit      8        7      ...      1        0
        bits    256..    224-255         32-63     0-31      m·2^s covers two digits at most (m < 2^24)

    Only `mean` rounds: the sum once (so it equals `math.fsum` of all terms), and its quotient by the count.
    Memory is 9 int64 an element, whatever the number of terms.

    Args:
        shape: Shape of one array; () for single numbers.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.counts: NDArray[np.int64] = np.zeros(shape, np.int64)
        """Terms an element, of the shape given."""
        self._digits = np.zeros((LIMBS, self.counts.size), np.int64)

    def add(self, values: NDArray[np.float32], mask: ArrayLike | None = None) -> None:
        """Adds arrays of the mean's shape, one for each index of the leading dimensions.

        Args:
            values: Terms, float32, (..., *shape).
            mask: Which elements to count (all), of a shape that broadcasts to that of `values`.

        Raises:
            ValueError: The type is not float32, the shape does not fit, or a counted number is not finite.
        """
        lead = values.ndim - len(self.shape)
        if values.dtype != np.float32 or lead < 0 or values.shape[lead:] != self.shape:
            raise ValueError(f"float32 of (..., *{self.shape}) expected, not {values.dtype} of {values.shape}")
        counted = np.broadcast_to(np.asarray(True if mask is None else mask, np.bool_), values.shape)
        terms = values[counted]
        if not np.isfinite(terms).all():
            raise ValueError("a mean of numbers that are not finite: leave failed clips out")
        self.counts += counted.sum(axis=tuple(range(lead)), dtype=np.int64)
        element = np.broadcast_to(np.arange(self.counts.size).reshape(self.shape), values.shape)[counted]

        bits = terms.view(np.int32).astype(np.int64)
        exponent = (bits >> 23) & 0xFF
        units = (bits & 0x7FFFFF) | ((exponent > 0).astype(np.int64) << 23)  # the leading 1 of normal numbers
        shift = np.maximum(exponent, 1) - 1
        units <<= shift % LIMB
        sign = np.where(bits < 0, -1, 1)
        place = shift // LIMB * self.counts.size + element
        flat = self._digits.reshape(-1)
        np.add.at(flat, place, sign * (units & (2**LIMB - 1)))
        np.add.at(flat, place + self.counts.size, sign * (units >> LIMB))
        self._carry()

    def merge(self, other: ExactMean) -> None:
        """Adds, in place, the terms of another mean.

        Raises:
            ValueError: Shapes differ.
        """
        if self.shape != other.shape:
            raise ValueError(f"a mean of shape {other.shape} does not fit one of {self.shape}")
        self.counts += other.counts
        self._digits += other._digits
        self._carry()

    def mean(self) -> NDArray[np.float64]:
        """Returns the means, of the shape given; 0 where `counts` is 0."""
        means = np.zeros(self.counts.size, np.float64)
        for i, count in enumerate(self.counts.reshape(-1).tolist()):
            units = sum(digit << (LIMB * place) for place, digit in enumerate(self._digits[:, i].tolist()))
            means[i] = units / 2**LEAST / max(count, 1)  # Python divides whole numbers with one rounding
        return means.reshape(self.shape)

    def _carry(self) -> None:
        """Brings all digits but the last, which keeps the sign, back to 0 ... 2^32 - 1."""
        for low, high in zip(self._digits[:-1], self._digits[1:], strict=True):
            high += low >> LIMB
            low &= 2**LIMB - 1
