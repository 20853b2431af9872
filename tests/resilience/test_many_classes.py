"""50,000 classes and 10,000 layers: memory grows in proportion to classes and layers, and stays below 2 GiB."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import gramcli.cache
from gramcli.calibration.calibrate import calibrate
from gramcli.calibration.select_layers import select_layers
from gramcli.evaluation import evaluate as evaluation
from gramcli.evaluation.evaluate import evaluate

VALIDATION, TEST = 60, 20


def write(cache, classes, layers, *, validation=VALIDATION, per_class=1):
    """Writes a cache of random descriptors; each class has some training clips, and the first ones have others."""
    rng = np.random.default_rng(0)
    of_split = {"train": classes * per_class, "validation": validation, "test": TEST}
    splits = [split for split, count in of_split.items() for _ in range(count)]
    labels = [f"c{n % classes}" for count in of_split.values() for n in range(count)]
    gramcli.cache.write(
        [f"k{n}" for n in range(len(splits))],
        {f"l{n}": rng.random((len(splits), 3), np.float32) for n in range(layers)},
        labels=labels,
        splits=splits,
        cache=cache,
    )


def peaks(cache):
    """Returns the peak of Python's and NumPy's memory in MiB, by command."""
    found = {}
    for command in (calibrate, select_layers, evaluate):
        tracemalloc.start()
        try:
            command(cache)
            found[command.__name__] = tracemalloc.get_traced_memory()[1] / 2**20
        finally:
            tracemalloc.stop()
    return found


@pytest.mark.parametrize("what", ["classes", "layers"])
def test_memory_grows_no_faster_than_classes_and_layers(tmp_path, what):
    grown = []
    for size in (1000, 4000):
        write(tmp_path / str(size), *((size, 2) if what == "classes" else (3, size // 10)), per_class=1)
        grown.append(peaks(tmp_path / str(size)))
    small, large = grown
    assert {command: large[command] <= 4.5 * small[command] for command in small} == dict.fromkeys(small, True)


def test_many_classes_have_a_list_of_cells_in_place_of_a_confusion_matrix(tmp_path, monkeypatch):
    write(tmp_path, 5, 2, per_class=4)
    calibrate(tmp_path)
    select_layers(tmp_path)
    whole = evaluate(tmp_path).clean
    assert whole.confused is None
    monkeypatch.setattr(evaluation, "MAX_MATRIX", 4)
    result = evaluate(tmp_path)
    assert result.clean.confusion is None
    matrix = np.zeros((5, 5), int)
    for label, guess, clips in result.clean.confused:
        matrix[label, guess] = clips
    assert matrix.tolist() == whole.confusion
    assert json.loads(json.dumps(result.as_dict()))["conditions"]["clean"]["confused"] == result.clean.confused


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "layers"), [(50_000, 2), (3, 10_000)])
def test_every_command_ends_within_2_gib_and_ten_minutes(tmp_path, classes, layers):
    write(tmp_path / ".gramcli", classes, layers, validation=300 if classes > 3 else VALIDATION)
    for command in (["calibrate"], ["select-layers"], ["evaluate", "--json"], ["cache", "info"], ["cache", "verify"]):
        ran = subprocess.run(
            [sys.executable, "-m", "gramcli", *command], cwd=tmp_path, capture_output=True, timeout=600, check=False
        )
        assert ran.returncode == 0, ran.stderr.decode()[-500:]
        assert max(map(len, ran.stderr.splitlines()), default=0) < 1000
    # the largest of all child processes so far, in KiB on Linux and bytes on macOS
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    assert peak < 2 * 2**30
