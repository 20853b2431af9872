from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gramcli.network import frontend
from gramcli.settings.schema import FrontendSettings, SegmentSettings
from gramcli.training.examples import Inputs, Meter, Waveforms, input_bytes, unscaled


@given(st.lists(st.lists(st.floats(-200, 100, width=32), min_size=1, max_size=20), min_size=1, max_size=8))
def test_a_meter_measures_what_numpy_does(parts):
    meter = Meter()
    for part in parts:
        meter.add(torch.tensor(part))
    whole = np.concatenate([np.array(part, np.float64) for part in parts])
    found = meter.measured()
    assert abs(found.mean - whole.mean()) < 1e-3
    assert abs(found.std - whole.std()) < 1e-3 or (whole.std() < 1e-3 and found.std == 1.0)


@pytest.mark.parametrize("kind", ["logmel", "waveform"])
@pytest.mark.parametrize("hop", [10.0, 33.0])
def test_the_size_of_a_clip_is_foretold(kind, hop):
    front = FrontendSettings(kind=kind, n_mels=40, hop_ms=hop)
    segment = SegmentSettings(seconds=1.3)
    samples = torch.zeros(1, frontend.samples(front, segment))
    assert frontend.build(front)(samples).numpy().nbytes == input_bytes(front, segment)


def test_inputs_come_in_the_order_asked_for():
    inputs = Inputs(torch.arange(5.0).view(5, 1, 1, 1), torch.arange(5))
    batches = list(inputs.batches([torch.tensor([4, 0]), torch.tensor([2])]))
    assert [batch[0].flatten().tolist() for batch in batches] == [[4, 0], [2]]
    assert [batch[1].tolist() for batch in batches] == [[4, 0], [2]]
    with pytest.raises(ValueError, match="only log-mels are kept"):
        next(inputs.batches([torch.tensor([0])], lambda samples: samples))


def test_waveforms_are_changed_before_they_are_padded():
    def fetch(order):
        return (np.full(2 + place, place, np.float32) for place in order)

    waves = Waveforms(fetch, torch.arange(3), torch.nn.Identity(), 4, "zero")
    ((batch, labels),) = waves.batches([torch.tensor([2, 0])], lambda samples: samples + 1)
    assert batch.tolist() == [[3, 3, 3, 3], [1, 1, 0, 0]]
    assert labels.tolist() == [2, 0]


def test_unscaled_leaves_the_rest():
    front = FrontendSettings(n_mels=32, mean=3.0, std=2.0)
    assert unscaled(front) == FrontendSettings(n_mels=32)
