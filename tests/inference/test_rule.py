from __future__ import annotations

import numpy as np

from gramcli.cache import decision as decisions
from gramcli.cache import statistics
from gramcli.calibration.select_layers import select_layers
from gramcli.evaluation import comparison
from gramcli.evaluation.evaluate import evaluate
from gramcli.inference import rule as rules
from gramcli.inference.rule import Rule
from gramcli.settings.schema import DecisionSettings
from tests.support.informative_caches import write_cache


def test_blocks_of_clips_are_judged_to_the_bit_as_all_at_once(tmp_path, monkeypatch):
    descriptors, logits, _ = write_cache(tmp_path)
    some = {layer: values.astype(np.float32) for layer, values in descriptors.items()}
    for name in ("fused", "gram"):
        decision, known = select_layers(tmp_path, DecisionSettings(rule=name))
        rule = Rule.of(known, decision)
        monkeypatch.setattr(rules, "_BLOCK", 1 << 22)
        whole = rule.judge(some, logits)
        monkeypatch.setattr(rules, "_BLOCK", 40)  # six clips
        of_blocks = rule.judge(some, logits)
        for field in ("deviations", "log_p", "strangeness", "unknown"):
            np.testing.assert_array_equal(getattr(of_blocks, field), getattr(whole, field))
        for field, values in vars(whole.choice).items():
            np.testing.assert_array_equal(getattr(of_blocks.choice, field), values)


def test_evaluate_gives_the_same_measures_in_blocks(tmp_path, monkeypatch):
    write_cache(tmp_path)
    select_layers(tmp_path)
    whole = evaluate(tmp_path)
    monkeypatch.setattr(comparison, "_BLOCK", 10)
    assert evaluate(tmp_path) == whole
    assert decisions.load(tmp_path, statistics.load(tmp_path)).rule.threshold is not None
