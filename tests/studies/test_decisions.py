"""The parts of the study of decisions that need no recordings."""

import numpy as np
import pytest

from gramcli.fitting.conditional_logit import log_softmax
from tests.studies import candidates, decisions

pytestmark = pytest.mark.no_cover  # the package has tests of its own

CONDITIONS = ("clean", *decisions.REPORTED)
LAYERS = {"early": 12, "late": 20}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def clips(rng, centres, count=60, network=0.0):
    """Returns clips whose layers know the class, and whose network knows it `network` times as well."""
    labels = np.arange(count) % 3
    logits = rng.normal(size=(count, 3)) + network * np.eye(3)[labels]
    rows = {
        layer: (centre[labels] * np.exp(0.5 * rng.normal(size=(count, centre.shape[1])))).astype(np.float32)
        for layer, centre in centres.items()
    }
    means = {layer: np.sqrt(values) for layer, values in rows.items()}
    return candidates.Clips(rows, means, log_softmax(logits), labels, np.array([f"{n}" for n in range(count)]))


@pytest.fixture
def by_condition(rng):
    centres = {layer: np.abs(rng.normal(1, 0.5, (3, channels))) for layer, channels in LAYERS.items()}
    found = {name: {split: clips(rng, centres) for split in ("validation", "test")} for name in CONDITIONS}
    found["clean"]["train"] = clips(rng, centres, 90)
    return found


def scores(by_condition):
    found = candidates.candidates(by_condition)
    return {
        name: {condition: score(splits["test"]) for condition, splits in by_condition.items()}
        for name, score in found.items()
    }


def test_every_candidate_scores_every_condition(by_condition):
    found = scores(by_condition)
    assert next(iter(found)) == decisions.NETWORK
    assert list(found)[-1] == decisions.DEFAULT
    for scored in found.values():
        assert all(np.isfinite(each).all() and each.shape == (60, 3) for each in scored.values())
    labels = by_condition["clean"]["test"].labels
    right = {name: (by["clean"].argmax(axis=1) == labels).mean() for name, by in found.items()}
    assert all(share > 0.55 for name, share in right.items() if not name.startswith(("network", "rival: vector")))
    assert right["network"] < 0.5


def test_the_default_is_the_package_s_own_rule(by_condition, tmp_path):
    import gramcli.cache
    from gramcli.calibration.calibrate import calibrate
    from gramcli.calibration.select_layers import select_layers
    from gramcli.inference.rule import Rule
    from gramcli.settings.schema import DecisionSettings

    parts = [by_condition["clean"][split] for split in ("train", "validation")]
    whole = candidates.Clips.joined(parts)
    splits = ["train"] * len(parts[0].labels) + ["validation"] * len(parts[1].labels)
    gramcli.cache.write(
        [f"{split} {n}" for n, split in enumerate(splits)],
        whole.descriptors,
        whole.log_p,
        labels=["abc"[label] for label in whole.labels],
        splits=splits,
        classes=tuple("abc"),
        cache=tmp_path,
    )
    calibrate(tmp_path)
    decision, known = select_layers(tmp_path, DecisionSettings())
    test = by_condition["clean"]["test"]
    log_p = Rule.of(known, decision).judge(test.descriptors, test.log_p).log_p
    expected = log_softmax(candidates.candidates(by_condition)["fused"](test))
    # parts are dealt in another order of the clips here, so ridge, weights and shrinkage differ a little
    assert (log_p.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.9
    assert np.abs(np.exp(log_p) - np.exp(expected)).mean() < 0.05


def test_no_candidate_reads_test_labels(by_condition):
    test = by_condition["clean"]["test"]
    for name, score in candidates.candidates(by_condition).items():
        np.testing.assert_array_equal(score(test), score(candidates.without_labels(test)), err_msg=name)


def test_only_those_that_say_so_are_fitted_on_altered_clips(by_condition, rng):
    before = scores(by_condition)
    centres = {layer: np.abs(rng.normal(1, 0.5, (3, channels))) for layer, channels in LAYERS.items()}
    for name in candidates.TUNED:
        by_condition[name]["validation"] = clips(rng, centres, network=5.0)
    changed = {
        name
        for name, found in scores(by_condition).items()
        if not np.array_equal(found["clean"], before[name]["clean"])
    }
    assert changed == {name for name in before if "altered clips" in name}


def test_range_denominators_and_quantile_bounds_by_hand(rng):
    centres = {"early": np.ones((3, 4))}
    training, one = clips(rng, centres, 30), clips(rng, centres, 1)
    from gramcli.gram.descriptor import normalise

    known, new = normalise(training.descriptors["early"]), normalise(one.descriptors["early"])[0]
    far = candidates._measure(training, 0.05, spans=True, quantile=0.1)(one)[0, 0]
    for label in range(3):
        own = known[training.labels == label].astype(float)
        expected = 0.0
        for k in range(4):
            low, high = np.quantile(own[:, k], [0.1, 0.9])
            expected += max(low - new[k], new[k] - high, 0) / max(high - low, 0.05)
        assert far[label] == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_the_report_pools_clips_and_compares_with_the_network():
    def one(right, groups):
        result = {}
        for condition in CONDITIONS:
            for name, found in (("network", [0.0] * 10 + [1.0] * 10), ("fused", right)):
                result[f"{name}/{condition}/right"] = np.array(found)
                result[f"{name}/{condition}/log_p"] = np.log(np.full(20, 0.5))
            result[f"groups/{condition}"] = np.array(groups)
        return result

    groups = [str(n) for n in range(20)]
    table = decisions.report([one([1.0] * 20, groups), one([0.0] * 10 + [1.0] * 10, groups)])
    lines = table.splitlines()
    assert lines[0].startswith("| 2 networks | clean | noise:20 |")
    assert lines[2].startswith("| network | 50.0 | ")
    assert "| 0.69 | +25.0, +" in lines[2]
    assert lines[3].startswith("| fused | 75.0 (+25.0, +")
    assert lines[3].endswith("| 0.69 |  |")
