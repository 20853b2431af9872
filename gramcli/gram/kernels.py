"""Compiled loops for scaling, bounds and deviations, and the choice between compiled loops and NumPy.

Each loop is plain Python, and `machine_code` compiles it with Numba. It gives the same bits as the NumPy expression
that it replaces. Importing Numba and compiling take one or two seconds, so compiled loops are faster only for much
work. `plan` decides by the amount of work alone, and never by what the process has done before.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STEPS_TO_COMPILE = 1 << 30
"""Number of steps from which on compiled loops are used. NumPy takes about as long for them as Numba takes to start. A
step is one channel of one clip against one class."""
WIDTH = 32
"""How many clips the innermost loop processes. The compiler uses vector instructions only if this loop has a fixed
length and is too long to be unrolled."""
LONGEST_RUN = 128
"""Longest run of terms that NumPy sums in eight running sums. It splits longer sums and adds the parts in pairs."""


@dataclass(frozen=True)
class Plan:
    """Whether NumPy or compiled loops compute arrays, and in how many threads. The bits are always the same."""

    compiled: bool
    """True for compiled loops, False for NumPy."""
    threads: int = 1
    """Largest number of threads."""


def plan(steps: int, threads: int = 1) -> Plan:
    """Decides how to compute a number of steps.

    A caller that works shard by shard makes one plan for the steps of all shards together.

    Args:
        steps: Number of clips times channels times classes.
        threads: Largest number of threads.
    """
    return Plan(steps >= STEPS_TO_COMPILE, threads)


@functools.cache
def machine_code(function: Callable[..., None]) -> Callable[..., None]:
    """Compiles a loop of this module with Numba. The compiled loop releases the interpreter's lock."""
    import numba

    def compiled(cache: bool) -> Callable[..., None]:
        result: Callable[..., None] = numba.njit(nogil=True, error_model="numpy", cache=cache)(function)
        return result

    try:
        return compiled(cache=True)
    except RuntimeError:  # Numba found no folder in which to keep the code for the next process
        return compiled(cache=False)


def in_threads(work: Callable[[slice], None], clips: int, threads: int) -> None:
    """Runs `work` on all clips in several threads. Each thread gets whole blocks of `WIDTH` clips."""
    step = -(-clips // (threads * WIDTH)) * WIDTH if threads > 1 else clips
    if step >= clips:
        work(slice(0, clips))
        return
    first, *others = (slice(begin, min(begin + step, clips)) for begin in range(0, clips, step))
    running = [_pool(threads - 1).submit(work, part) for part in others]
    work(first)  # in this thread, which would otherwise only wait
    for one in running:
        one.result()


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Returns threads that are kept for later calls. Starting threads takes as long as computing a small layer."""
    return ThreadPoolExecutor(threads, thread_name_prefix="gramcli kernel")


@functools.cache
def summation_order(terms: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the order in which NumPy sums terms, so that compiled sums are rounded in the same way.

    The first array holds runs of at most `LONGEST_RUN` terms as (start, length). The second holds pairs (i, j): the sum
    of run j is added to the sum of run i.

    Shape:
        - returns: (P, 2) and (P - 1, 2)
    """
    runs: list[tuple[int, int]] = []
    additions: list[tuple[int, int]] = []

    def split(start: int, length: int) -> int:
        if length <= LONGEST_RUN:
            runs.append((start, length))
            return len(runs) - 1
        half = length // 2
        half -= half % 8
        left, right = split(start, half), split(start + half, length - half)
        additions.append((left, right))
        return left

    split(0, terms)
    return np.array(runs, np.int64).reshape(-1, 2), np.array(additions, np.int64).reshape(-1, 2)


def deviate(
    scaled: NDArray[np.float32],
    lower: NDArray[np.float32],
    upper: NDArray[np.float32],
    floor: np.float32,
    runs: NDArray[np.int64],
    additions: NDArray[np.int64],
    result: NDArray[np.float32],
) -> None:
    """Writes δ to `result`; see `gramcli.gram.deviation.deviations`.

    Comparisons are written out, because the compiler makes no vector instructions of ``max``.

    Args:
        scaled: g̃, (N, K).
        lower: λ, (C, K).
        upper: Λ, (C, K).
        floor: ε, the smallest denominator.
        runs: First array of `summation_order`.
        additions: Second array of `summation_order`.
        result: δ, (N, C).
    """
    clips, channels = scaled.shape
    zero = np.float32(0)
    block = np.empty((channels, WIDTH), np.float32)
    running, sums = np.empty((8, WIDTH), np.float64), np.empty((len(runs), WIDTH), np.float64)
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
            for p in range(len(runs)):
                start, length = runs[p]
                whole = length - length % 8
                for j in range(8):
                    for i in range(WIDTH):
                        running[j, i] = 0
                for first_of_8 in range(start, start + whole, 8):
                    for j in range(8):
                        low, up = lower[c, first_of_8 + j], upper[c, first_of_8 + j]
                        below, above = max(abs(low), floor), max(abs(up), floor)
                        for i in range(WIDTH):
                            over, under = block[first_of_8 + j, i] - up, low - block[first_of_8 + j, i]
                            denominator = above if over > zero else below
                            difference = over if over > zero else under
                            difference = zero if difference < zero else difference  # NaN stays
                            running[j, i] += difference / denominator
                for i in range(WIDTH):
                    sums[p, i] = ((running[0, i] + running[1, i]) + (running[2, i] + running[3, i])) + (
                        (running[4, i] + running[5, i]) + (running[6, i] + running[7, i])
                    )
                for k in range(start + whole, start + length):
                    low, up = lower[c, k], upper[c, k]
                    below, above = max(abs(low), floor), max(abs(up), floor)
                    for i in range(WIDTH):
                        over, under = block[k, i] - up, low - block[k, i]
                        denominator = above if over > zero else below
                        difference = over if over > zero else under
                        difference = zero if difference < zero else difference
                        sums[p, i] += difference / denominator
            for j in range(len(additions)):
                for i in range(WIDTH):
                    sums[additions[j, 0], i] += sums[additions[j, 1], i]
            for i in range(filled):
                result[first + i, c] = sums[0, i]


def scale(descriptors: NDArray[np.float32], result: NDArray[np.float32]) -> None:
    """Writes g̃ to `result`; see `gramcli.gram.descriptor.normalise`.

    `WIDTH` running minima and maxima are kept. With a single one, each step would have to wait for the step before.
    """
    clips, channels = descriptors.shape
    whole = channels - channels % WIDTH
    least, most, not_finite = np.empty(WIDTH, np.float32), np.empty(WIDTH, np.float32), np.empty(WIDTH, np.float32)
    for n in range(clips):
        for i in range(WIDTH):
            least[i] = most[i] = descriptors[n, 0]
            not_finite[i] = 0
        for first in range(0, whole, WIDTH):
            for i in range(WIDTH):
                value = descriptors[n, first + i]
                least[i] = value if value < least[i] else least[i]
                most[i] = value if value > most[i] else most[i]
                not_finite[i] += value - value  # NaN if the value is not finite, else 0
        for k in range(whole, channels):
            value = descriptors[n, k]
            least[0] = value if value < least[0] else least[0]
            most[0] = value if value > most[0] else most[0]
            not_finite[0] += value - value
        half = WIDTH // 2
        while half:
            for i in range(half):
                least[i] = least[half + i] if least[half + i] < least[i] else least[i]
                most[i] = most[half + i] if most[half + i] > most[i] else most[i]
                not_finite[i] += not_finite[half + i]
            half //= 2
        low = np.float64(least[0])
        span = np.float64(most[0]) - low if most[0] > least[0] else np.float64(1)
        span += np.float64(not_finite[0])
        for k in range(channels):
            result[n, k] = (np.float64(descriptors[n, k]) - low) / span


def finite(values: NDArray[np.float32], result: NDArray[np.bool_]) -> None:
    """Writes to `result` for each row whether all its numbers are finite."""
    clips, channels = values.shape
    for n in range(clips):
        all_finite = True
        for k in range(channels):
            all_finite &= (values[n, k] - values[n, k]) == 0
        result[n] = all_finite


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
