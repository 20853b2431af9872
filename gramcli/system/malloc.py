"""What becomes of memory that the process has freed."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_KEPT = 1 << 30


def keep_freed() -> None:
    """Has malloc use freed blocks of up to 1 GiB again, from here to the end of the process.

    glibc gives large blocks back to the kernel, which then clears every page of the next one. The feature maps of a
    network are such blocks, and clearing them can take as long as computing them. The process holds no more than it
    did at its peak. Does nothing with another C library, or where the user has set ``MALLOC_MMAP_THRESHOLD_``.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_MMAP_THRESHOLD, _KEPT)
    mallopt(_TRIM_THRESHOLD, _KEPT)
