"""The rule that is fitted on validation clips, in a cache with synthetic descriptors."""

import numpy as np
import pytest

import gramcli.cache
from gramcli.cache import decision as decisions
from gramcli.cache import statistics
from gramcli.calibration import size_limits
from gramcli.calibration.calibrate import calibrate
from gramcli.calibration.select_layers import select_layers
from gramcli.errors import UsageError
from gramcli.evaluation.evaluate import evaluate
from gramcli.fitting.conditional_logit import log_softmax
from gramcli.inference.classifier import _prior
from gramcli.inference.rule import Rule
from gramcli.progress import Silent
from gramcli.settings.schema import DecisionSettings
from tests.support.informative_caches import CLASSES, LAYERS, SPLITS, write_cache


def rule_of(cache, **wanted):
    decision, known = select_layers(cache, DecisionSettings(**wanted))
    return Rule.of(known, decision), decision


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    cache = tmp_path_factory.mktemp("both")
    return cache, *write_cache(cache)


def test_if_only_the_layers_separate_the_classes_the_rule_uses_them(tmp_path):
    write_cache(tmp_path, network_knows=False)
    select_layers(tmp_path)
    result = evaluate(tmp_path)
    assert result.clean.comparison.low > 0.3
    assert result.verdict.startswith("Use fused on this data: it beats the network alone (+")


def test_if_only_the_network_is_right_the_layers_do_no_harm(tmp_path):
    write_cache(tmp_path, layers_know=False)
    rule, _ = rule_of(tmp_path)
    assert rule.fitted.fusion.network_weight > 10 * rule.fitted.fusion.weights.max()
    result = evaluate(tmp_path)
    measures = result.clean.decisions  # many Δ̄ of 0 tie, and the logits decide these
    assert measures["gram"]["accuracy"] < measures["map"]["accuracy"] - 0.2
    assert abs(result.clean.comparison.mean) < 0.05
    assert result.verdict.startswith("A difference between fused and the network alone is not shown (")


def test_the_paper_s_rule_can_be_worse_than_the_network(tmp_path):
    write_cache(tmp_path, layers_know=False)
    select_layers(tmp_path, DecisionSettings(rule="gram"))
    assert evaluate(tmp_path).verdict.startswith("Use the network alone on this data: gram is worse (-")


def test_probabilities_are_those_of_the_formula(both):
    cache, descriptors, logits, _ = both
    rule, decision = rule_of(cache)
    found = rule.judge({layer: values[-5:].astype(np.float32) for layer, values in descriptors.items()}, logits[-5:])
    far = rule.deviations({layer: values[-5:].astype(np.float32) for layer, values in descriptors.items()})
    fused = decision.rule.fusion
    together = decision.rule.discriminant.log_probabilities(
        {layer: values[-5:] for layer, values in descriptors.items()}
    )
    for n in range(5):
        own = logits[n - 5] - np.log(np.exp(logits[n - 5]).sum())
        scores = [
            (
                fused.network_weight * own[c]
                + fused.discriminant_weight * together[n, c]
                - sum(
                    weight * np.log(0.1 + far[n, layer, c] / rule.fitted.expected[layer])
                    for layer, weight in enumerate(fused.weights)
                )
            )
            for c in range(3)
        ]
        np.testing.assert_allclose(np.exp(found.log_p[n]), np.exp(scores) / np.exp(scores).sum(), rtol=1e-6)
        assert found.choice.label[n] == np.argmax(scores)


def test_a_fused_probability_is_better_than_the_scaled_network(both):
    cache = both[0]
    select_layers(cache)
    found = evaluate(cache).clean.decisions
    assert found["fused"]["negative_log_likelihood"] < found["temperature"]["negative_log_likelihood"]
    assert found["temperature"]["negative_log_likelihood"] <= found["map"]["negative_log_likelihood"] + 0.02


def test_the_rule_gram_has_probabilities_in_the_order_of_its_deviations(both):
    cache, descriptors, logits, _ = both
    rule, decision = rule_of(cache, rule="gram", top_k="all")
    assert (decision.rule.name, decision.rule.fusion) == ("gram", None)
    assert decision.rule.inverse_temperature > 0
    assert set(evaluate(cache).clean.decisions) == {"map", "temperature", "gram"}
    found = rule.judge({layer: values[-9:].astype(np.float32) for layer, values in descriptors.items()}, logits[-9:])
    assert (found.log_p.argmax(axis=1) == found.deviations.argmin(axis=1)).all()
    np.testing.assert_allclose(
        found.log_p, log_softmax(-decision.rule.inverse_temperature * np.log1p(found.deviations))
    )


@pytest.mark.parametrize("rule", ["fused", "gram"])
def test_clips_far_from_all_classes_are_unknown(both, rule):
    cache, descriptors, logits, _ = both
    found, decision = rule_of(cache, rule=rule)
    assert (decision.rule.threshold.groups, decision.rule.threshold.false_reject) == (90, 0.05)
    test = found.judge({layer: values[210:].astype(np.float32) for layer, values in descriptors.items()}, logits[210:])
    assert test.unknown.mean() < 0.2
    rng = np.random.default_rng(5)
    odd = {layer: rng.exponential(size=(30, channels)).astype(np.float32) for layer, channels in LAYERS.items()}
    assert found.judge(odd, np.zeros((30, 3))).unknown.mean() > 0.9


def test_if_memory_is_too_small_some_clips_fit_the_rule_and_all_set_the_threshold(both, monkeypatch):
    cache = both[0]
    whole, _ = select_layers(cache)
    monkeypatch.setattr(size_limits, "PREFERRED_NUMBERS", 1)
    monkeypatch.setattr(size_limits, "MIN_CLIPS", 40)
    progress = Silent()
    some, _ = select_layers(cache, progress=progress)
    assert any(note.startswith("the rule is fitted on 40 of 90 validation clips") for note in progress.notes)
    assert some.rule.threshold == whole.rule.threshold
    assert some.rule.fusion.weights.tolist() != whole.rule.fusion.weights.tolist()
    assert evaluate(cache).clean.decisions["fused"]["accuracy"] > 0.8


def test_with_too_few_groups_there_is_no_threshold_but_a_note(tmp_path):
    write_cache(tmp_path, groups=[f"{split} {n % 12}" for n, split in enumerate(SPLITS)])
    progress = Silent()
    decision, _ = select_layers(tmp_path, progress=progress)
    assert decision.rule.threshold is None
    assert any("takes 19 groups, and there are 12 in validation" in note for note in progress.notes)
    wide, _ = select_layers(tmp_path, DecisionSettings(false_reject=0.25))
    assert wide.rule.threshold.groups == 12


def test_with_one_group_the_rule_is_gram(tmp_path):
    write_cache(tmp_path, groups=[split if split != "test" else f"test {n}" for n, split in enumerate(SPLITS)])
    progress = Silent()
    decision, known = select_layers(tmp_path, progress=progress)
    assert (decision.rule.name, decision.rule.fusion, decision.rule.threshold) == ("gram", None, None)
    assert any("fewer than two groups" in note for note in progress.notes)
    read = decisions.load(tmp_path, known)
    assert (read.ranking, read.held_out) == (decision.ranking, None)
    assert read.rule.expected.tolist() == decision.rule.expected.tolist()
    assert evaluate(tmp_path).default == "gram"


def test_equal_statistics_give_equal_bytes(both):
    cache = both[0]
    select_layers(cache)
    first = (cache / decisions.FILE).read_bytes()
    select_layers(cache)
    assert (cache / decisions.FILE).read_bytes() == first


def test_permuted_test_labels_give_accuracy_at_chance(tmp_path):
    rng = np.random.default_rng(3)
    _, _, labels = write_cache(tmp_path)
    keys = [f"clip {n}" for n in range(len(labels))]
    moved = labels.copy()
    moved[210:] = rng.permutation(moved[210:])
    gramcli.cache.write(
        keys, {layer: np.zeros((len(keys), channels)) for layer, channels in LAYERS.items()}, np.zeros((len(keys), 3)),
        labels=[CLASSES[label] for label in moved], splits=SPLITS, classes=CLASSES, cache=tmp_path,
    )  # fmt: skip
    select_layers(tmp_path)
    for measures in evaluate(tmp_path).clean.decisions.values():
        assert abs(measures["accuracy"] - 1 / 3) < 0.15


def test_a_prior_changes_probabilities_by_bayes_rule(both):
    cache, descriptors, logits, _ = both
    rule, _ = rule_of(cache)
    some = {layer: values[-20:].astype(np.float32) for layer, values in descriptors.items()}
    plain = rule.judge(some, logits[-20:])
    prior = _prior({"a": 0.8}, rule)
    np.testing.assert_allclose(prior, [0.8, 0.1, 0.1])
    moved = rule.judge(some, logits[-20:], prior)
    wanted = np.exp(plain.log_p) * prior  # training clips are equally many
    np.testing.assert_allclose(np.exp(moved.log_p), wanted / wanted.sum(axis=1, keepdims=True))
    same = rule.judge(some, logits[-20:], _prior({}, rule))
    np.testing.assert_allclose(same.log_p, plain.log_p)
    never = rule.judge(some, logits[-20:], _prior({"a": 0}, rule))
    assert (never.choice.label != 0).all()


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ({"d": 0.5}, "prior: d is none of the classes"),
        ({"a": -1.0}, "prior: the share of a is -1; give 0 or more"),
        ({"a": float("nan")}, "prior: the share of a is nan"),
        ({"a": 30}, "prior: the shares of 1 of 3 classes add up to 30; give shares that add up to at most 1"),
        ({"a": 0.7, "b": 0.7}, "the shares of 2 of 3 classes add up to 1.4"),
        ({"a": 0.0, "b": 0.0, "c": 0.0}, "every class that has training clips has the share 0"),
    ],
)
def test_invalid_priors_are_refused(both, prior, message):
    rule, _ = rule_of(both[0])
    with pytest.raises(UsageError, match=message):
        _prior(prior, rule)


def test_a_class_without_training_clips_is_never_chosen(tmp_path):
    rng = np.random.default_rng(0)
    labels = ["a", "b"] * 30
    splits = ["train"] * 30 + ["validation"] * 20 + ["test"] * 10
    gramcli.cache.write(
        [f"clip {n}" for n in range(60)],
        {"relu": np.exp(rng.normal(size=(60, 8)) + [[n % 2] * 4 + [0] * 4 for n in range(60)])},
        rng.normal(size=(60, 3)) + np.array([0, 0, 9]),
        labels=labels, splits=splits, classes=CLASSES, cache=tmp_path,
    )  # fmt: skip
    calibrate(tmp_path)
    rule, _ = rule_of(tmp_path)
    found = rule.judge(
        {"relu": np.exp(rng.normal(size=(50, 8))).astype(np.float32)}, rng.normal(size=(50, 3)) + np.array([0, 0, 9])
    )
    assert set(found.choice.label) <= {0, 1}
    assert np.isneginf(found.log_p[:, 2]).all()
    np.testing.assert_allclose(np.exp(found.log_p).sum(axis=1), 1)


def test_select_layers_does_not_change_the_statistics(both):
    cache = both[0]
    before = statistics.load(cache).basis, (cache / statistics.FILE).read_bytes()
    select_layers(cache)
    assert (statistics.load(cache).basis, (cache / statistics.FILE).read_bytes()) == before
