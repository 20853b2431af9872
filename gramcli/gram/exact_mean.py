"""An exact mean for the paper's ranking (`gramcli.calibration.paper_ranking`): the same bits for any order of clips.

The paper's ranking averages the deviations of all training clips, shard by shard. There are too many of them to keep in
memory for `math.fsum`, so the sum is kept in whole numbers and rounded once at the end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

LIMB = 32
"""Bits of one digit of a sum."""
LIMBS = 9
"""Digits of a sum. A float32 is between 2^-149 and 2^128, which takes 277 bits. 2^40 terms fit."""
UNIT_EXPONENT = 149
"""Sums are in units of 2^-149, the smallest float32."""


class ExactMean:
    r"""Element-wise mean of many float32 arrays. Its bits do not depend on the order of the arrays.

    Every finite float32 is a whole number m·2^s of units 2^-149. The shifted m is split into 32-bit digits, and each
    digit is added in int64, so nothing is rounded. Carries move to the next digit after each call:

        digit      8        7      ...      1        0
        bits    256..    224-255         32-63     0-31      m·2^s covers two digits at most (m < 2^24)

    Only `mean` rounds. It rounds the sum once, so that it equals `math.fsum` of all terms, and then the quotient by the
    count. An element takes 9 int64 numbers of memory, for any number of terms.

    Args:
        shape: Shape of one array; () for single numbers.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.counts: NDArray[np.int64] = np.zeros(shape, np.int64)
        """Number of terms added to each element, of shape `shape`."""
        self._digits = np.zeros((LIMBS, self.counts.size), np.int64)

    def add(self, values: NDArray[np.float32], mask: ArrayLike | None = None) -> None:
        """Adds one or more arrays of shape `shape`. Further dimensions of `values` come first.

        Args:
            values: Terms, float32, (..., *shape).
            mask: Which terms to add; all if None. Its shape broadcasts to that of `values`.

        Raises:
            ValueError: The type is not float32, the shape does not fit, or a term is not finite.
        """
        lead = values.ndim - len(self.shape)
        if values.dtype != np.float32 or lead < 0 or values.shape[lead:] != self.shape:
            raise ValueError(f"expected float32 of (..., *{self.shape}), not {values.dtype} of {values.shape}")
        counted = np.broadcast_to(np.asarray(True if mask is None else mask, np.bool_), values.shape)
        terms = values[counted]
        if not np.isfinite(terms).all():
            raise ValueError("terms of a mean are not finite; leave failed clips out")
        self.counts += counted.sum(axis=tuple(range(lead)), dtype=np.int64)
        element = np.broadcast_to(np.arange(self.counts.size).reshape(self.shape), values.shape)[counted]

        bits = terms.view(np.int32).astype(np.int64)
        exponent = (bits >> 23) & 0xFF
        units = (bits & 0x7FFFFF) | ((exponent > 0).astype(np.int64) << 23)  # the leading 1 of normal numbers
        shift = np.maximum(exponent, 1) - 1
        units <<= shift % LIMB
        sign = np.where(bits < 0, -1, 1)
        position = shift // LIMB * self.counts.size + element
        flat = self._digits.reshape(-1)
        np.add.at(flat, position, sign * (units & (2**LIMB - 1)))
        np.add.at(flat, position + self.counts.size, sign * (units >> LIMB))
        self._carry()

    def mean(self) -> NDArray[np.float64]:
        """Returns the means, of shape `shape`; 0 where `counts` is 0."""
        means = np.zeros(self.counts.size, np.float64)
        for i, count in enumerate(self.counts.reshape(-1).tolist()):
            units = sum(digit << (LIMB * n) for n, digit in enumerate(self._digits[:, i].tolist()))
            means[i] = units / 2**UNIT_EXPONENT / max(count, 1)  # Python rounds a quotient of whole numbers once
        return means.reshape(self.shape)

    def _carry(self) -> None:
        """Brings all digits back to the range 0 to 2^32 - 1, except the last one, which holds the sign."""
        for low, high in zip(self._digits[:-1], self._digits[1:], strict=True):
            high += low >> LIMB
            low &= 2**LIMB - 1
