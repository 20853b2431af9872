"""Sets glibc's malloc to keep freed blocks, up to 1 GiB, which makes repeated forward passes faster."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_KEPT = 1 << 30


def keep_freed() -> None:
    """Makes malloc keep freed blocks of up to 1 GiB for the next allocation, until the process ends.

    By default glibc returns large blocks to the kernel, which clears every page before it hands out the next one. The
    feature maps of a network are such blocks, and clearing them can take as long as computing them. The process never
    holds more than it did at its peak. Does nothing with another C library, or if ``MALLOC_MMAP_THRESHOLD_`` is set.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_MMAP_THRESHOLD, _KEPT)
    mallopt(_TRIM_THRESHOLD, _KEPT)
