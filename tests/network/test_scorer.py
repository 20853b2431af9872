from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gramcli.errors import ArtefactError, ResourceError, UsageError
from gramcli.network import capture, execution, frontend, row_sums
from gramcli.network.capture import survey
from gramcli.network.execution import Execution, check_precision
from gramcli.network.scorer import AudioNetwork, Scorer, Scores
from tests.support import toys
from tests.support.scorers import NETWORKS, scorer_of, scorer_of_samples


def arrays(scores: Scores) -> dict[str, np.ndarray]:
    return {**scores.descriptors, "logits": scores.logits}


# A Linear is one matrix product over all rows of the batch, and its kernel depends on how many there are: from there on
# clips agree to rounding only. In convolutions, batches of two and more agree to the bit.
AFTER_A_LINEAR = {
    ("vgg", "classifier.1"),
    ("vgg", "logits"),
    # on some processors GELU rounds the last numbers of a batch otherwise, where they do not fill a register
    *(("convnext", name) for name in ("stem_act", "act", "last", "logits")),
    *(("panns", name) for name in (":relu_", "logits")),
    *(("transformer", name) for name in ("act", "encoder.layers.0:gelu", "encoder.layers.1:gelu", "pool", "logits")),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_clip_never_depends_on_the_others(name: str, clips: np.ndarray, rng: np.random.Generator) -> None:
    one = scorer_of(name)
    expected = arrays(one.score(clips))
    for size in (1, 2, 3, 4, 5, 6, 7, 8):
        rows = rng.choice(9, size, replace=False)
        for layer, found in arrays(one.score(clips[rows])).items():
            rounding = 1e-5 if (name, layer) in AFTER_A_LINEAR else 0.0
            atol = rounding * np.abs(expected[layer]).max()
            np.testing.assert_allclose(found, expected[layer][rows], rtol=0, atol=atol, err_msg=layer)


def test_means_come_beside_descriptors_that_they_do_not_change(clips: np.ndarray) -> None:
    clips[4] = np.nan
    alone, both = (scorer_of("resnet", with_means=wanted).score(clips) for wanted in (False, True))
    assert alone.means == {}
    assert list(both.means) == list(both.descriptors) == list(alone.descriptors)
    assert both.errors == alone.errors
    assert both.errors[4]
    for layer, descriptors in alone.descriptors.items():
        np.testing.assert_array_equal(both.descriptors[layer], descriptors)
        assert both.means[layer].shape == descriptors.shape
        assert np.isnan(both.means[layer][4]).all()
        assert (np.delete(both.means[layer], 4, axis=0) >= 0).all()  # of ReLUs


@pytest.mark.parametrize("name", ["resnet", "panns"])
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5])
def test_batches_make_no_difference(name: str, batch: int, clips: np.ndarray) -> None:
    expected = arrays(scorer_of(name, 8).score(clips))
    for layer, found in arrays(scorer_of(name, batch).score(clips)).items():
        rounding = 1e-5 if (name, layer) in AFTER_A_LINEAR else 0.0
        atol = rounding * np.abs(expected[layer]).max()
        np.testing.assert_allclose(found, expected[layer], rtol=0, atol=atol, err_msg=layer)


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_are_those_of_the_network(name: str, clips: np.ndarray) -> None:
    found = scorer_of(name, 4, outputs=3).score(clips)
    kind, about = NETWORKS[name]
    network = toys.make(kind)
    with torch.no_grad():
        inputs = frontend.build(about)(torch.from_numpy(clips))
        outputs = network(inputs)
        _, descriptors = capture.Recorder(network, capture.survey(network, inputs).layers)(inputs)
    outputs = outputs["clipwise_output"] if name == "panns" else outputs
    np.testing.assert_allclose(found.logits, outputs.numpy(), rtol=1e-4, atol=1e-5)
    assert list(found.descriptors) == list(descriptors)
    for layer, one in found.descriptors.items():
        assert one.dtype == np.float32
        largest = np.abs(descriptors[layer].numpy()).max(1, keepdims=True)
        assert (np.abs(one - descriptors[layer].numpy()) <= 1e-5 * largest + 1e-12).all()
    assert found.errors == ("",) * 9


def test_a_clip_that_overflows_fails_alone(clips: np.ndarray) -> None:
    one = scorer_of("cnn1d", 4)
    expected = arrays(one.score(clips))
    clips[2] = 1e25  # its squares are beyond float32
    clips[7] = np.nan
    found = one.score(clips)
    assert found.errors[2] == found.errors[7] == "activation not finite in features.1"
    good = [0, 1, 3, 4, 5, 6, 8]
    assert all(found.errors[clip] == "" for clip in good)
    for layer, array in arrays(found).items():
        assert np.array_equal(array[good], expected[layer][good])
        assert np.isnan(array[[2, 7]]).all()


def test_logits_that_are_not_finite() -> None:
    one = scorer_of_samples(Returns(lambda x: x[:, :3] / x[:, 3:6]))
    found = one.score(np.array([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 0, 6]], dtype=np.float32))
    assert found.errors == ("", "output not finite")


class Returns(nn.Module):
    def __init__(self, forward: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.run = forward

    def forward(self, x: Tensor) -> Any:
        return self.run(x)


@pytest.mark.parametrize(
    ("forward", "outputs"),
    [
        (lambda x: x[:, :3], None),
        (lambda x: (x[:, :3], x), None),
        (lambda x: [x[:, None], x[0], None, x[:, :3]], None),
        (lambda x: {"embedding": x, "clipwise_output": x[:, :3]}, 3),
        (lambda x: {"clipwise_output": x[:, :3], "embedding": x}, None),
    ],
)
def test_outputs_of_all_kinds(forward: Callable[[Tensor], Any], outputs: int | None, clips: np.ndarray) -> None:
    one = scorer_of_samples(Returns(forward), outputs=outputs)
    assert np.array_equal(one.score(clips).logits, clips[:, :3])
    assert np.array_equal(one.score(clips[:1]).logits, clips[:1, :3])


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda x: x[:, :4], r"returns \(8, 4\) for 8 clips, not \(8, 3\)"),
        (lambda x: (x[:, :3, None], x[0]), r"returns \(8, 3, 1\), \(4000,\) for 8 clips"),
        (lambda x: None, "returns no tensor for 8 clips"),
    ],
)
def test_outputs_that_are_no_scores(forward: Callable[[Tensor], Any], message: str, clips: np.ndarray) -> None:
    with pytest.raises(ArtefactError, match=message):
        scorer_of_samples(Returns(forward), 8, outputs=3).score(clips)


def test_half_the_batch_where_memory_runs_out(clips: np.ndarray) -> None:
    sizes = []

    def forward(x: Tensor) -> Tensor:
        sizes.append(len(x))
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x[:, :3]

    one = scorer_of_samples(Returns(forward), 8)
    notes: list[str] = []
    one.note = notes.append
    assert np.array_equal(one.score(clips).logits, clips[:, :3])
    assert sizes == [8, 4, 2, 2, 2, 2, 2]
    assert notes == [f"cpu: out of memory: goes on with {n} clips at once" for n in (4, 2)]


@pytest.mark.parametrize("message", ["DefaultCPUAllocator: can't allocate memory: you tried", "shapes do not match"])
def test_memory_for_two_clips(message: str, clips: np.ndarray) -> None:
    def forward(_: Tensor) -> Tensor:
        raise RuntimeError(message)

    one = scorer_of_samples(Returns(forward), 8)
    if "memory" in message:
        with pytest.raises(ResourceError, match="cpu: out of memory with two clips of 4000 samples"):
            one.score(clips)
    else:
        with pytest.raises(RuntimeError, match=message):
            one.score(clips)


def test_bf16_is_near(clips: np.ndarray) -> None:
    full, half = scorer_of("resnet").score(clips), scorer_of("resnet", precision="bf16").score(clips)
    assert half.logits.dtype == np.float32
    assert not np.array_equal(full.logits, half.logits)
    np.testing.assert_allclose(half.logits, full.logits, rtol=0, atol=0.05 * np.abs(full.logits).max())
    for name, one in half.descriptors.items():
        np.testing.assert_allclose(one, full.descriptors[name], rtol=0, atol=0.1 * full.descriptors[name].max())


def test_waveforms_of_the_wrong_shape() -> None:
    one = scorer_of("cnn1d")
    for shape in ((4000,), (0, 4000)):
        with pytest.raises(ValueError, match="waveforms must be"):
            one.score(np.zeros(shape, dtype=np.float32))


def test_samples_that_cannot_be_written_to(clips: np.ndarray) -> None:
    clips.flags.writeable = False
    assert scorer_of("cnn1d").score(clips).errors == ("",) * 9


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, found in (("auto", "cuda"), ("cpu", "cpu"), ("cuda", "cuda"), ("cuda:1", "cuda:1")):
        assert str(execution.device(name)) == found
    with pytest.raises(ResourceError, match=r"there is no cuda:2: torch .* sees 2 CUDA devices; use auto or cpu"):
        execution.device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert str(execution.device("auto")) == "cpu"
    with pytest.raises(ResourceError, match=r"run.device: there is no cuda: "):
        execution.device("cuda")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:1x", "mps", "Cuda\n"])
def test_devices_that_do_not_exist(name: str) -> None:
    with pytest.raises(UsageError, match=r"run.device must be auto, cpu, cuda or cuda:N") as caught:
        execution.device(name)
    assert "\n" not in str(caught.value)


def test_a_processor_without_bfloat16_says_so(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    check_precision("fp32", torch.device("cpu"))
    with pytest.raises(ResourceError, match=r"run\.precision: cpu cannot compute in bfloat16; use fp32"):
        check_precision("bf16", torch.device("cpu"))


def test_one_channel_of_input_takes_the_whole_network_channels_last():
    """Of one channel both layouts are one in memory, and torch takes the strides for what is meant."""
    seen = []
    module = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 1), nn.ReLU())
    for one in module:
        one.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    head = nn.Sequential(module, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    front = nn.Unflatten(1, (1, 8, -1))
    layers = survey(head, torch.randn(2, 1, 8, 20)).layers
    seen.clear()
    Scorer(AudioNetwork(head, front), layers, Execution(torch.device("cpu"))).score(np.zeros((4, 160), np.float32))
    assert len(seen) == 4
    assert all(one.is_contiguous(memory_format=torch.channels_last) for one in seen)


def test_large_maps_taken_by_twos_are_those_taken_at_once(monkeypatch):
    maps = torch.rand(7, 32, 9, 5).contiguous(memory_format=torch.channels_last)
    at_once = {n: row_sums.row_sums(maps[:n]) for n in range(2, 8)}
    monkeypatch.setattr(row_sums, "_LARGE", 1)
    for n, wanted in at_once.items():
        assert torch.equal(row_sums.row_sums(maps[:n]), wanted)
        halves = row_sums.row_sums(maps[:n].bfloat16())
        assert halves.dtype == torch.float32
        torch.testing.assert_close(halves, wanted, rtol=2e-2, atol=0)
