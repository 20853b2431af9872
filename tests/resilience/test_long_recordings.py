"""A recording of a day is classified in the memory of one of a minute."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support.commands import TOML
from tests.support.sets import ROOT, write_set

RATE = 8000
# of this process and its decoders, which are waited for when they end
PEAK = """
import resource, sys
from gramcli.cli.app import run
assert run(sys.argv[1:]) == 0
print(*(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
"""


def recording(path: Path, minutes: int) -> str:
    """Writes a recording whose minutes are all alike but for their loudness."""
    minute = np.random.default_rng(3).normal(size=RATE * 60).astype(np.float32) / 10
    with soundfile.SoundFile(path, "w", RATE, 1, format="FLAC") as file:
        for n in range(minutes):
            file.write(minute * (0.2 + 0.8 * (n % 7) / 7))
    return path.name


@pytest.mark.parametrize("minutes", [60, pytest.param(24 * 60, marks=pytest.mark.slow)])
def test_memory_is_the_same_for_a_minute_and_for_a_day(tmp_path, minutes):
    manifest = write_set(tmp_path / "sounds", clips=2)
    (tmp_path / "gramcli.toml").write_text(TOML.replace("seconds = 0.25", "seconds = 10"))
    listed = manifest.read_text()
    peaks = {}
    for length in (1, minutes):
        name = recording(tmp_path / "sounds" / f"{length}.flac", length)
        manifest.write_text(listed + f"{name},hum,test,day {length}\n")
        command = [
            sys.executable,
            "-c",
            PEAK,
            "extract",
            "--cache",
            f"cache-{length}",
            "--quiet",
            "--network",
            "tests.support.toys:ResNet",
        ]
        done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        peaks[length] = [int(peak) for peak in done.stdout.split()]
    print(f"{minutes} minutes: {peaks}")
    for short, long in zip(peaks[1], peaks[minutes], strict=True):
        assert abs(long - short) < 20 * 1024, peaks
