"""The parts of the study that need no recordings."""

import numpy as np
import pytest

from gramcli.decide.likelihood import log_softmax
from tests.benchmarks import study


def heard(rng, clips=40, layers=4, classes=3, network=0.0):
    """Returns clips whose layers know the class, and whose network knows it `network` times as well."""
    labels = np.arange(clips) % classes
    far = rng.gamma(2.0, 1.0, (clips, layers, classes))
    far[np.arange(clips), :, labels] *= 0.3
    logits = rng.normal(size=(clips, classes)) + network * np.eye(classes)[labels]
    return {
        "deviations": far.astype(np.float32),
        "log_p": log_softmax(logits),
        "labels": labels,
        "groups": np.arange(clips),
    }


@pytest.fixture
def sets(rng):
    return {
        name: {"validation": heard(rng), "test": heard(rng)} for name in ("clean", *study.REPORTED)
    }  # fmt: skip


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_every_candidate_scores_every_condition(sets):
    found = study.candidates(sets)
    assert "fused" in found
    for by_condition in found.values():
        assert list(by_condition) == ["clean", *study.REPORTED]
        assert all(np.isfinite(scores).all() and scores.shape == (40, 3) for scores in by_condition.values())


def test_no_candidate_reads_test_labels(sets):
    before = study.candidates(sets)
    for splits in sets.values():
        splits["test"]["labels"] = splits["test"]["labels"][::-1]
    for name, by_condition in study.candidates(sets).items():
        np.testing.assert_array_equal(by_condition["clean"], before[name]["clean"])


def test_only_the_one_that_says_so_is_fitted_on_altered_clips(sets, rng):
    before = study.candidates(sets)
    for name in study.TUNED:
        sets[name]["validation"] = heard(rng, network=5.0)
    changed = [
        name
        for name, found in study.candidates(sets).items()
        if not np.array_equal(found["clean"], before[name]["clean"])
    ]
    assert changed == ["fused, fitted on altered clips too"]


def test_the_report_pools_clips_and_compares_with_the_network():
    conditions = ["clean", *study.REPORTED]

    def one(right, groups):
        result = {}
        for condition in conditions:
            for name, found in (("network", [0.0] * 10 + [1.0] * 10), ("fused", right)):
                result[f"{name}/{condition}/right"] = np.array(found)
                result[f"{name}/{condition}/log_p"] = np.log(np.full(20, 0.5))
            result[f"groups/{condition}"] = np.array(groups)
        return result

    groups = [str(n) for n in range(20)]
    table = study.report([one([1.0] * 20, groups), one([0.0] * 10 + [1.0] * 10, groups)])
    lines = table.splitlines()
    assert lines[0].startswith("| 2 networks | clean | noise:20 |")
    assert lines[2].startswith("| network | 50.0 | ")
    assert lines[3].startswith("| fused | 75.0 (+25.0, +")
    assert lines[3].endswith("| 0.69 |")
