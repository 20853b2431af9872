"""Every benchmark runs, at a size at which its figures mean nothing, and says whether a target is reached."""

from __future__ import annotations

import contextlib
import json
import os
import sys

import pytest
from torch import nn

from tests.benchmarks import calibration, extraction, forward, kernel, many_classes, measure, resume
from tests.benchmarks.measure import Figure
from tests.conftest import shared

pytestmark = pytest.mark.no_cover  # the package has tests of its own

LAYERS = {"act0": 24, "act1": 40}


@pytest.mark.parametrize(
    ("figure", "target", "reached"),
    [
        (Figure(1, "", 0.8, most=0.8), "≤ 0.8", True),
        (Figure(1, "", 0.81, most=0.8), "≤ 0.8", False),
        (Figure(1, "", 24.9, least=25), "≥ 25", False),
        (Figure(1, "", 3.0), "stated", True),
    ],
)
def test_a_figure_knows_whether_it_is_reached(figure, target, reached):
    assert (figure.target, figure.reached) == (target, reached)


def test_figures_as_table_and_as_json(tmp_path):
    figures = [Figure(2, "memory", 1.5, "GiB"), Figure(1, "time", 0.5, most=0.8, about={"s": [1, 2]})]
    assert measure.table(figures).splitlines()[2:] == [
        "| 1 | time | ≤ 0.8 | 0.5 | reached |",
        "| 2 | memory | stated | 1.5 GiB |  |",
    ]
    measure.save(figures, tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text())[1]["about"] == {"s": [1, 2]}


def test_jobs_take_turns():
    order = []
    took = measure.seconds({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b"] * 3
    assert all(0 <= one < 1 for one in took.values())


def answers(path):
    """A job that writes which process does it."""
    return lambda: path.write_text(f"{path.read_text() if path.exists() else ''}{os.getpid()} ")


def test_a_job_apart_runs_in_one_process_of_its_own(tmp_path):
    path = tmp_path / "answers"
    with measure.apart(answers, path) as job:
        job()
        job()
    first, second = path.read_text().split()
    assert first == second != str(os.getpid())


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_the_peak_is_that_of_the_process_alone():
    _, little = measure.with_peak(code="pass")
    _, much = measure.with_peak(code="x = bytearray(200 << 20)")
    assert 150 < much - little < 250


def test_a_command_that_fails_says_so():
    with pytest.raises(RuntimeError, match="ended with 3: it broke"):
        measure.run(sys.executable, "-c", "import sys; sys.stderr.write('it broke'); sys.exit(3)")


def numbers(figures):
    assert all(one.value > 0 for one in figures)
    return [one.number for one in figures]


def test_the_kernel_is_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(kernel, "CHANNELS", (8, 20))
    monkeypatch.setattr(kernel, "SIZES", ((40, 3),))
    assert numbers(kernel.measure(tmp_path, None)) == [5]


def test_calibrate_is_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(calibration, "LAYERS", LAYERS)
    monkeypatch.setattr(calibration, "CLIPS", 320)
    figures = calibration.measure(tmp_path, None)
    assert [one.number for one in figures] == [6, 6, 6]  # of so few clips the difference may be negative
    assert figures[0].value > 0


def test_many_classes_are_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(many_classes, "LAYERS", LAYERS)
    seconds, peak = many_classes.both(tmp_path, 4, 40)
    assert seconds > 0
    assert 20 < peak < 2000


def test_a_finished_cache_is_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(resume, "SHARDS", 3)
    monkeypatch.setattr(resume, "ROWS", 10)
    assert numbers(resume.measure(tmp_path, None)) == [10]


def test_the_forward_is_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(forward, "NETWORKS", ("resnet50",))
    monkeypatch.setattr(forward, "BATCH", 2)
    monkeypatch.setattr(forward, "SHAPE", (1, 32, 40))
    monkeypatch.setattr(forward, "network", lambda name: small())
    # another process would not know of the small sizes
    monkeypatch.setattr(forward, "apart", lambda make, *arguments: contextlib.nullcontext(make(*arguments)))
    assert numbers(forward.measure(tmp_path, None)) == [1, 2, 4]


def small():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()


def test_extraction_needs_recordings(monkeypatch, tmp_path):
    monkeypatch.setattr(extraction, "CLIPS", 4)
    assert extraction.measure(tmp_path, None) == []
    manifest = extraction.recordings(tmp_path, shared("data", "esc10"))
    assert len(manifest.read_text().splitlines()) == extraction.CLIPS + 1
