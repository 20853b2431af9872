"""Compiled loops for scaling, bounds and deviations, and the choice between them and NumPy.

Each loop here is plain Python and gives the same bits as the NumPy expression that it replaces. `machine_code` compiles
it with Numba. Importing Numba and compiling take a second or two, so compiled loops pay only for much work. `plan`
decides that from the amount of work alone; nothing here remembers what a process has done before.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WORTH = 1 << 30
"""Steps for which NumPy takes about as long as Numba takes to start. A step is one channel of one clip against one
class."""
WIDTH = 32
"""Clips that the innermost loop works on side by side. The loop must be long enough not to be unrolled, and of fixed
length, or the compiler does not use vector instructions."""
LEAF = 128
"""Terms that NumPy adds up in eight running sums, before it adds pairs of such sums."""


@dataclass(frozen=True)
class Plan:
    """How a piece of work is computed. Every plan gives the same bits."""

    compiled: bool
    """Whether compiled loops do it; NumPy if not."""
    threads: int = 1
    """Threads at most."""


def plan(steps: int, threads: int = 1) -> Plan:
    """Returns how to compute so many steps.

    A stage that calls the functions of this package again and again plans once, for all of its steps together.

    Args:
        steps: Clips times channels times classes.
        threads: Threads that may work on it.
    """
    return Plan(steps >= WORTH, threads)


@functools.cache
def machine_code(function: Callable[..., None]) -> Callable[..., None]:
    """Returns a loop of this module compiled by Numba; it releases the interpreter's lock while it runs."""
    import numba

    def translate(cache: bool) -> Callable[..., None]:
        translated: Callable[..., None] = numba.njit(nogil=True, error_model="numpy", cache=cache)(function)
        return translated

    try:
        return translate(cache=True)
    except RuntimeError:  # there is no folder in which Numba could keep the code for the next process
        return translate(cache=False)


def side_by_side(work: Callable[[slice], None], clips: int, threads: int) -> None:
    """Runs `work` on all clips, split among threads in whole blocks of `WIDTH` clips."""
    step = -(-clips // (threads * WIDTH)) * WIDTH if threads > 1 else clips
    if step >= clips:
        work(slice(0, clips))
        return
    first, *others = (slice(begin, min(begin + step, clips)) for begin in range(0, clips, step))
    elsewhere = [_pool(threads - 1).submit(work, part) for part in others]
    work(first)  # in this thread, which would only wait otherwise
    for one in elsewhere:
        one.result()


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Returns threads that are kept: starting them takes as long as the work on a small layer."""
    return ThreadPoolExecutor(threads, thread_name_prefix="gramcli kernel")


@functools.cache
def pairs(terms: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the order in which NumPy adds up terms, so that compiled sums have the same roundings.

    The first array has stretches of at most `LEAF` terms as (start, length), the second which sum is added to which.

    Shape:
        - returns: (P, 2) and (P - 1, 2)
    """
    stretches: list[tuple[int, int]] = []
    joins: list[tuple[int, int]] = []

    def part(start: int, length: int) -> int:
        if length <= LEAF:
            stretches.append((start, length))
            return len(stretches) - 1
        half = length // 2
        half -= half % 8
        left, right = part(start, half), part(start + half, length - half)
        joins.append((left, right))
        return left

    part(0, terms)
    return np.array(stretches, np.int64).reshape(-1, 2), np.array(joins, np.int64).reshape(-1, 2)


def deviate(
    scaled: NDArray[np.float32],
    lower: NDArray[np.float32],
    upper: NDArray[np.float32],
    floor: np.float32,
    stretches: NDArray[np.int64],
    joins: NDArray[np.int64],
    result: NDArray[np.float32],
) -> None:
    """Writes δ to `result`; see `gramcli.gram.deviation.deviations`.

    Comparisons are written out, since ``max`` would not become vector instructions.
    """
    clips, channels = scaled.shape
    zero = np.float32(0)
    block = np.empty((channels, WIDTH), np.float32)
    running, sums = np.empty((8, WIDTH), np.float64), np.empty((len(stretches), WIDTH), np.float64)
    for first in range(0, clips, WIDTH):
        filled = min(WIDTH, clips - first)
        if filled == WIDTH:
            for k in range(channels):
                for i in range(WIDTH):
                    block[k, i] = scaled[first + i, k]
        else:
            for k in range(channels):
                for i in range(WIDTH):
                    block[k, i] = scaled[first + min(i, filled - 1), k]
        for c in range(len(lower)):
            for p in range(len(stretches)):
                start, length = stretches[p]
                whole = length - length % 8
                for j in range(8):
                    for i in range(WIDTH):
                        running[j, i] = 0
                for eight in range(start, start + whole, 8):
                    for j in range(8):
                        low, up = lower[c, eight + j], upper[c, eight + j]
                        below, above = max(abs(low), floor), max(abs(up), floor)
                        for i in range(WIDTH):
                            over, under = block[eight + j, i] - up, low - block[eight + j, i]
                            by = above if over > zero else below
                            far = over if over > zero else under
                            far = zero if far < zero else far  # NaN stays
                            running[j, i] += far / by
                for i in range(WIDTH):
                    sums[p, i] = ((running[0, i] + running[1, i]) + (running[2, i] + running[3, i])) + (
                        (running[4, i] + running[5, i]) + (running[6, i] + running[7, i])
                    )
                for k in range(start + whole, start + length):
                    low, up = lower[c, k], upper[c, k]
                    below, above = max(abs(low), floor), max(abs(up), floor)
                    for i in range(WIDTH):
                        over, under = block[k, i] - up, low - block[k, i]
                        by = above if over > zero else below
                        far = over if over > zero else under
                        far = zero if far < zero else far
                        sums[p, i] += far / by
            for j in range(len(joins)):
                for i in range(WIDTH):
                    sums[joins[j, 0], i] += sums[joins[j, 1], i]
            for i in range(filled):
                result[first + i, c] = sums[0, i]


def scale(descriptors: NDArray[np.float32], result: NDArray[np.float32]) -> None:
    """Writes g̃ to `result`; see `gramcli.gram.descriptor.normalise`.

    `WIDTH` running extremes are kept, since a single one would make each step wait for the one before.
    """
    clips, channels = descriptors.shape
    whole = channels - channels % WIDTH
    least, most, odd = np.empty(WIDTH, np.float32), np.empty(WIDTH, np.float32), np.empty(WIDTH, np.float32)
    for n in range(clips):
        for i in range(WIDTH):
            least[i] = most[i] = descriptors[n, 0]
            odd[i] = 0
        for first in range(0, whole, WIDTH):
            for i in range(WIDTH):
                value = descriptors[n, first + i]
                least[i] = value if value < least[i] else least[i]
                most[i] = value if value > most[i] else most[i]
                odd[i] += value - value  # NaN from what is not finite
        for k in range(whole, channels):
            value = descriptors[n, k]
            least[0] = value if value < least[0] else least[0]
            most[0] = value if value > most[0] else most[0]
            odd[0] += value - value
        half = WIDTH // 2
        while half:
            for i in range(half):
                least[i] = least[half + i] if least[half + i] < least[i] else least[i]
                most[i] = most[half + i] if most[half + i] > most[i] else most[i]
                odd[i] += odd[half + i]
            half //= 2
        low = np.float64(least[0])
        span = np.float64(most[0]) - low if most[0] > least[0] else np.float64(1)
        span += np.float64(odd[0])
        for k in range(channels):
            result[n, k] = (np.float64(descriptors[n, k]) - low) / span


def finite(values: NDArray[np.float32], result: NDArray[np.bool_]) -> None:
    """Writes to `result` whether all numbers of each row are finite."""
    clips, channels = values.shape
    for n in range(clips):
        sound = True
        for k in range(channels):
            sound &= (values[n, k] - values[n, k]) == 0
        result[n] = sound


def widen(
    lower: NDArray[np.float32], upper: NDArray[np.float32], scaled: NDArray[np.float32], labels: NDArray[np.int64]
) -> None:
    """Widens `lower` and `upper` in place; see `gramcli.gram.bounds.Bounds.update`."""
    clips, channels = scaled.shape
    for n in range(clips):
        c = labels[n]
        for k in range(channels):
            value = scaled[n, k]
            lower[c, k] = value if value < lower[c, k] else lower[c, k]
            upper[c, k] = value if value > upper[c, k] else upper[c, k]
