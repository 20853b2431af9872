"""The number of processor cores that this process may use.

It sets how many decoders run by default. In a container or under ``taskset`` it is smaller than the machine's.
"""

from __future__ import annotations

import os


def cores() -> int:
    """Returns the number of cores that the process may run on; of all cores where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
