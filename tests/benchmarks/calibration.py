"""Speed of calibrate against reading and hashing the same files, and the growth of its memory."""

from __future__ import annotations

import hashlib
import statistics
import time
from pathlib import Path

from tests.benchmarks import synthetic
from tests.benchmarks.kernel import CHANNELS
from tests.benchmarks.measure import Figure, with_peak

CLIPS, CLASSES = 20_000, 10
LAYERS = {f"act{n:02d}": channels for n, channels in enumerate(CHANNELS)}
# inside the process: a few seconds of work, and how long Python takes to start is another figure
SCRIPT = """
import sys, time
from pathlib import Path
from gramcli.system import malloc
from gramcli.calibration.calibrate import calibrate
malloc.keep_freed()  # as the program does
began = time.perf_counter()
calibrate(Path(sys.argv[1]))
print(time.perf_counter() - began)
"""


def calibrated(cache: Path) -> tuple[float, float]:
    """Returns seconds and peak MiB."""
    ran, peak = with_peak(cache, code=SCRIPT)
    return float(ran.stdout), peak


def hashed(cache: Path) -> float:
    """Returns the seconds that reading and hashing its shards take."""
    began = time.perf_counter()
    for path in sorted(cache.rglob("*.h5")):
        hashlib.sha256(path.read_bytes())
    return time.perf_counter() - began


def measure(folder: Path, _data: Path | None) -> list[Figure]:
    """Takes the figures."""
    small, large, huge = folder / "small", folder / "large", folder / "huge"
    for cache, clips in ((small, CLIPS // 4), (large, CLIPS), (huge, 4 * CLIPS)):
        synthetic.write(cache, clips, LAYERS, CLASSES, validation=clips // 4)
    # the first round compiles, or loads what was compiled before
    rounds = [(hashed(large), calibrated(large), calibrated(small)) for _ in range(4)][1:]
    base = min(one[0] for one in rounds)
    took, quarter = (min(one[column][0] for one in rounds) for column in (1, 2))
    peaks = [statistics.median(one[1][1] for one in rounds), calibrated(huge)[1]]
    size = sum(path.stat().st_size for path in large.rglob("*.h5"))
    about = {"GB": size / 1e9, "reading and SHA-256, s": base, "calibrate, s": took, "of a quarter, s": quarter}
    more = f"peak memory for {4 * CLIPS} clips over {CLIPS}"
    what = f"calibrate {CLIPS} clips of a resnet50: bytes a second over reading and SHA-256"
    steady = 0.75 * base / (took - quarter)
    return [
        Figure(6, what, base / took, least=0.6, about=about),
        Figure(6, "the same, once the first quarter is done", steady, about=about),
        Figure(6, more, peaks[1] / peaks[0], most=1.05, about={"MiB": peaks}),
    ]
