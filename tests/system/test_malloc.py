from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from gramcli.system import malloc
if sys.argv[1] == "keep":
    malloc.keep_freed()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(1 << 24)  # 128 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(), faults())
"""


def faults(*arguments: str, **environment: str) -> list[int]:
    """Page faults of taking a block for the first and for the second time, in a process of its own."""
    command = [sys.executable, "-c", FAULTS, *arguments]
    return list(map(int, subprocess.run(command, env=environment, capture_output=True, check=True).stdout.split()))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory in its own way")
def test_a_block_taken_again_costs_the_kernel_nothing() -> None:
    first, second = faults("keep")
    assert second < first / 10

    first, second = faults("as it is")
    assert second > first / 2, "glibc has learnt to keep it: gramcli/system/malloc.py is of no use any more"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory in its own way")
def test_what_the_user_has_set_for_malloc_stays() -> None:
    first, second = faults("keep", MALLOC_MMAP_THRESHOLD_="1000000")
    assert second > first / 2
