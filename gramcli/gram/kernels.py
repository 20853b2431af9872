"""Loops in machine code, for more work than NumPy does in the time that compiling takes.

Each loop here is plain Python that gives the same bits as the NumPy expression it stands in for. `machine_code` turns
it into machine code by Numba, whose import and compiler take a second or two. So `worth` counts the work a process has
done and says when that has paid: one recording never waits for a compiler.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

WORTH = 1 << 30
"""Steps, an element of g̃ against one class each, that take NumPy about as long as Numba takes to start."""
WIDTH = 32
"""Clips worked on side by side: the innermost loop, which must be long enough not to be unrolled and of fixed length,
or it is not done by vector instructions."""
LEAF = 128
"""Terms that NumPy sums by eight running sums, before it sums pairs of such sums."""

_steps = 0


def worth(steps: int) -> bool:
    """Counts the steps of this process, and tells whether they are enough for machine code to pay."""
    global _steps
    _steps += steps
    return _steps >= WORTH


def announce(steps: int) -> None:
    """Counts work that is about to come, so that a long stage compiles at its start and not halfway."""
    worth(steps)


@functools.cache
def machine_code(function: Callable[..., None]) -> Callable[..., None]:
    """Returns a function of this module in machine code, which holds no lock while it runs."""
    import numba

    def translate(cache: bool) -> Callable[..., None]:
        translated: Callable[..., None] = numba.njit(nogil=True, error_model="numpy", cache=cache)(function)
        return translated

    try:
        return translate(cache=True)
    except RuntimeError:  # no folder in which it could be kept for the next process
        return translate(cache=False)


def side_by_side(work: Callable[[slice], None], clips: int, threads: int) -> None:
    """Does the work on all clips, in as many threads; a thread has whole blocks of `WIDTH` clips."""
    step = -(-clips // (threads * WIDTH)) * WIDTH if threads > 1 else clips
    if step >= clips:
        work(slice(0, clips))
        return
    first, *others = (slice(begin, min(begin + step, clips)) for begin in range(0, clips, step))
    elsewhere = [_pool(threads - 1).submit(work, part) for part in others]
    work(first)  # here: a thread that only waits would be in the way of one that is woken
    for one in elsewhere:
        one.result()


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that wait for work: starting them takes as long as a small layer does."""
    return ThreadPoolExecutor(threads, thread_name_prefix="gramcli kernel")


@functools.cache
def pairs(terms: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns how NumPy sums: stretches of at most `LEAF` terms as (start, length), then which sum is added to which.

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
    """Writes δ; see `gramcli.gram.deviation.deviations`. Comparisons are plain, as ``max`` would not be vectorised."""
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
    """Writes g̃; see `gramcli.gram.descriptor.normalise`. Extremes run side by side, as one would wait for itself."""
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
    """Writes whether all numbers of each row are finite."""
    clips, channels = values.shape
    for n in range(clips):
        sound = True
        for k in range(channels):
            sound &= (values[n, k] - values[n, k]) == 0
        result[n] = sound


def widen(
    lower: NDArray[np.float32], upper: NDArray[np.float32], scaled: NDArray[np.float32], labels: NDArray[np.int64]
) -> None:
    """Widens bounds in place; see `gramcli.gram.bounds.Bounds.update`."""
    clips, channels = scaled.shape
    for n in range(clips):
        c = labels[n]
        for k in range(channels):
            value = scaled[n, k]
            lower[c, k] = value if value < lower[c, k] else lower[c, k]
            upper[c, k] = value if value > upper[c, k] else upper[c, k]
