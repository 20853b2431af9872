"""The same scores on a GPU as on a processor, up to rounding; skipped where there is none."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from gramcli.gram.descriptor import normalise
from gramcli.network import capture
from gramcli.network.execution import Execution, check_precision
from gramcli.network.row_sums import row_sums
from gramcli.network.scorer import AudioNetwork, Scorer
from gramcli.system.profiler import Stopwatch
from tests.support.scorers import NETWORKS, scorer_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


@pytest.fixture
def _whole_memory() -> Iterator[None]:
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("name", NETWORKS)
def test_descriptors_are_those_of_the_processor(name: str, clips: np.ndarray) -> None:
    here, there = (scorer_of(name, device=device).score(clips) for device in ("cpu", "cuda"))
    assert here.errors == there.errors == ("",) * 9
    np.testing.assert_allclose(there.logits, here.logits, rtol=1e-4, atol=1e-4 * np.abs(here.logits).max())
    assert list(here.descriptors) == list(there.descriptors)
    for layer, one in here.descriptors.items():
        np.testing.assert_allclose(normalise(there.descriptors[layer]), normalise(one), rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_clip_depends_on_the_others_by_rounding_at_most(name: str, clips: np.ndarray) -> None:
    one = scorer_of(name, device="cuda")
    expected = one.score(clips).descriptors
    for size in range(1, 9):
        for layer, found in one.score(clips[:size]).descriptors.items():
            np.testing.assert_allclose(normalise(found), normalise(expected[layer][:size]), rtol=0, atol=5e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("with_means", [False, True])
def test_the_host_waits_once_a_batch(precision: str, with_means: bool, clips: np.ndarray) -> None:
    """For the descriptors of all layers, which leave the GPU together."""
    check_precision(precision, torch.device("cuda"))
    one = scorer_of("resnet", device="cuda", precision=precision, with_means=with_means)
    one.score(clips[:8])
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as waited:
            warnings.simplefilter("always")
            one.score(clips[:8])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert ["synchronizing" in str(one.message) for one in waited] == [True], [str(one.message) for one in waited]


def test_bf16_is_near(clips: np.ndarray) -> None:
    full, half = (scorer_of("resnet", device="cuda", precision=one).score(clips) for one in ("fp32", "bf16"))
    assert not np.array_equal(full.logits, half.logits)
    np.testing.assert_allclose(half.logits, full.logits, rtol=0, atol=0.05 * np.abs(full.logits).max())
    for name, one in half.descriptors.items():
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, full.descriptors[name], rtol=0, atol=0.1 * full.descriptors[name].max())


def test_sums_are_as_exact_as_on_the_processor() -> None:
    """No TensorFloat-32: its ten bits would be some 1e-3 off."""
    maps = torch.rand(3, 64, 40, 50, generator=torch.Generator().manual_seed(0))
    rows = maps.double().flatten(2)
    wanted = (rows @ rows.sum(1)[:, :, None]).squeeze(2)
    for layout in (torch.contiguous_format, torch.channels_last):
        found = row_sums(maps.cuda().contiguous(memory_format=layout)).cpu().double()
        assert float((found - wanted).abs().max()) <= 1e-5 * float(wanted.max())


@pytest.mark.usefixtures("_whole_memory")
def test_half_the_batch_where_the_memory_of_the_gpu_runs_out() -> None:
    """Eight clips of a wide layer do not fit into what is allowed, two or four do."""
    wide = nn.Sequential(nn.Conv1d(1, 256, 1), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(256, 3))
    network = nn.Sequential(nn.Unflatten(1, (1, -1)), wide)
    waveforms = np.ones((8, 200_000), np.float32)  # 200 MB a clip and layer
    layers = capture.survey(network, torch.zeros(2, 1000)).layers
    one = Scorer(AudioNetwork(network, nn.Identity()), layers, Execution(torch.device("cuda"), 8))
    notes: list[str] = []
    one.note = notes.append
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(2.2e9 / torch.cuda.get_device_properties(0).total_memory)
    scores = one.score(waveforms)
    assert scores.errors == ("",) * 8
    assert notes
    assert notes[0] == "cuda: out of memory: goes on with 4 clips at once"


def test_steps_are_timed_to_their_end_on_the_gpu(clips: np.ndarray) -> None:
    one = scorer_of("resnet", device="cuda")
    one.score(clips)
    one.time_with(stopwatch := Stopwatch())
    one.score(clips)
    assert set(stopwatch.seconds) == {"mel", "forward", "reduce"}
    assert all(seconds > 0 for seconds in stopwatch.seconds.values())
