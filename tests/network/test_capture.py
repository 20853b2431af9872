from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gramcli.errors import ArtefactError, UsageError
from gramcli.network import capture, torch_compat
from gramcli.network.capture import Recorder, Survey, choose, survey
from tests.support import toys

SPECTROGRAM, WAVEFORM = (2, 1, 16, 24), (2, 800)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


def gram_row_sums(maps: Tensor) -> Tensor:
    """Eq. 4-5 as written, for maps (K, ...) of one clip, in float64."""
    rows = maps.double().flatten(1) if maps.dim() > 1 else maps.double()[:, None]
    return (rows @ rows.T).sum(1)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def names(found: Survey) -> list[str]:
    return [layer.name for layer in found.layers]


def test_one_relu_called_three_times() -> None:
    network = toys.make(toys.ResNet)
    found = survey(network, noise(*SPECTROGRAM))
    assert names(found) == [
        "act1",
        *("layer1.0.relu", "layer1.0.relu#1", "layer1.0.relu#2"),
        *("layer1.1.relu", "layer1.1.relu#1", "layer1.1.relu#2"),
    ]
    assert [layer.channels for layer in found.layers] == [8, 4, 4, 8, 4, 4, 8]
    assert {layer.calls for layer in found.layers} == {1, 3}
    assert found.missed == ()
    last = found.layers[-1]
    assert (last.path, last.function, last.call, last.kind) == ("layer1.1.relu", None, 2, "ReLU")
    assert (last.positions, last.channel_dim, last.bytes) == (8 * 12, 1, 32)


def test_in_place_activations_equal_their_twins() -> None:
    inputs = noise(*SPECTROGRAM)
    networks = [toys.make(toys.ResNet, inplace=inplace) for inplace in (True, False)]
    (_, inplace), (_, twin) = (Recorder(one, survey(one, inputs).layers)(inputs) for one in networks)
    assert list(inplace) == list(twin)
    assert all(torch.equal(inplace[name], twin[name]) for name in twin)


def test_descriptors_are_row_sums_of_the_gram_matrix() -> None:
    """Every layer of a network rebuilt by hand, in-place operations and all."""
    network = toys.make(toys.ResNet)
    inputs = noise(3, 1, 16, 24)
    outputs, found = Recorder(network, survey(network, inputs).layers)(inputs)
    with torch.no_grad():
        x = F.relu(network.conv1(inputs))
        maps = [x]
        for block in network.layer1:
            y = F.relu(block.bn1(block.conv1(x)))
            z = F.relu(block.conv2(y))
            x = F.relu(block.conv3(z) + x)
            maps += [y, z, x]
        torch.testing.assert_close(outputs, network.fc(x.mean((2, 3))))
    for one, descriptors in zip(maps, found.values(), strict=True):
        for clip in range(3):
            close(descriptors[clip], gram_row_sums(one[clip]))


def test_functions_and_a_front_end_inside() -> None:
    network = toys.make(toys.Panns)
    inputs = noise(*WAVEFORM)
    found = survey(network, inputs)
    assert names(found) == [
        *("conv_block1:relu_", "conv_block1:relu_#1", "conv_block2:relu_", "conv_block2:relu_#1", ":relu_")
    ]
    assert [layer.channels for layer in found.layers] == [8, 8, 16, 16, 16]
    assert [layer.positions for layer in found.layers] == [33 * 26, 33 * 26, 16 * 13, 16 * 13, 1]
    first = found.layers[1]
    assert (first.path, first.function, first.call, first.kind) == ("conv_block1", "relu_", 1, "relu_")
    assert found.missed == ((":sigmoid", "sigmoid", "a gate, not a feature map"),)
    outputs, descriptors = Recorder(network, found.layers)(inputs)
    with torch.no_grad():
        torch.testing.assert_close(outputs, network(inputs))
    close(descriptors[":relu_"][0], gram_row_sums(outputs["embedding"][0]))


def test_one_dimensional_network() -> None:
    found = survey(toys.make(toys.Cnn1d), noise(*WAVEFORM))
    assert [(one.name, one.kind, one.channels, one.positions) for one in found.layers] == [
        ("features.1", "LeakyReLU", 8, 198),
        ("features.3", "PReLU", 12, 49),
    ]
    assert found.missed == ((":softplus", "softplus", "dimension 0 is 12, not the batch of 2"),)


def test_transformer_has_channels_last() -> None:
    network = toys.make(toys.Transformer)
    inputs = noise(*SPECTROGRAM)
    found = survey(network, inputs)
    assert [(one.name, one.kind, one.channels, one.positions, one.channel_dim) for one in found.layers] == [
        ("act", "GELU", 8, 24, 2),
        ("encoder.layers.0:gelu", "gelu", 24, 24, 2),
        ("encoder.layers.1:gelu", "gelu", 24, 24, 2),
        ("pool", "Tanh", 8, 24, 2),
    ]
    _, descriptors = Recorder(network, found.layers)(inputs)
    with torch.no_grad():
        close(descriptors["act"][1], gram_row_sums(network.act(network.embed(inputs[1, 0].T)).T))
    # beyond rounding (torch fuses attention where no function is watched) the choice of layers changes none of them
    for layer in found.layers:
        close(Recorder(network, [layer])(inputs)[1][layer.name], descriptors[layer.name].double())


def test_channels_wander_in_convnext() -> None:
    found = survey(toys.make(toys.ConvNeXt), noise(*SPECTROGRAM))
    assert [(one.name, one.channels, one.channel_dim, one.positions) for one in found.layers] == [
        ("stem_act", 6, 1, 24),
        ("act", 20, 3, 24),
        ("last", 6, 1, 24),
    ]


class Plain(nn.Module):
    """A network from a function; `used` are its modules."""

    def __init__(self, forward: Callable[..., Any], **used: nn.Module) -> None:
        super().__init__()
        for name, module in used.items():
            self.add_module(name, module)
        self.run = forward

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


LINEAR = nn.Linear(5, 6)


@pytest.mark.parametrize(
    ("forward", "dim"),
    [
        (lambda _, x: F.relu(LINEAR(x)), 2),
        (lambda _, x: F.relu(F.dropout(LINEAR(x), 0.5, training=False).contiguous() + 1), 2),
        (lambda _, x: F.relu(1 + LINEAR(x)), 2),
        (lambda _, x: F.relu(torch.add(torch.ones(1, 4, 6), LINEAR(x))), 2),
        (lambda _, x: F.relu(F.layer_norm(x, (5,))), 2),
        (lambda _, x: F.relu(input=F.layer_norm(x, (5,)).mul_(2.0)), 2),
        (lambda _, x: F.relu(F.gelu(LINEAR(x))), 2),
        (lambda _, x: F.relu(LINEAR(x).chunk(2, dim=-1)[0]), 2),
        (lambda _, x: F.relu(LINEAR(x)[:, 1:]), 2),
        (lambda _, x: F.relu(LINEAR(x)[:, :, :, None]), 1),
        (lambda _, x: F.relu(LINEAR(x).transpose(1, 2)), 1),
        (lambda _, x: F.relu(LINEAR(x).transpose_(1, 2)), 1),
        (lambda _, x: F.relu(LINEAR(x).reshape(2, 6, 4)), 1),
        (lambda _, x: F.relu(torch.ones(2, 3, 4, 6) * LINEAR(x)[:, 1:2, :].contiguous()[:, None]), 1),
        (lambda _, x: F.relu(F.conv1d(LINEAR(x), torch.ones(3, 4, 1))), 1),
        (lambda _, x: F.relu(x), 1),
    ],
)
def test_dimension_of_the_channels(forward: Callable[..., Any], dim: int) -> None:
    found = survey(Plain(forward), noise(2, 4, 5))
    assert found.layers[-1].channel_dim == dim


def test_dimension_of_the_channels_by_glob() -> None:
    network, inputs = toys.make(toys.ConvNeXt), noise(*SPECTROGRAM)
    found = survey(network, inputs, {"*act": -1, "act": 2})
    assert [(one.name, one.channels, one.channel_dim) for one in found.layers] == [
        ("stem_act", 6, 3),
        ("act", 6, 2),
        ("last", 6, 1),
    ]
    maps = {}
    network.act.register_forward_hook(lambda *about: maps.update(act=about[2].clone()))
    _, descriptors = Recorder(network, found.layers)(inputs)
    close(descriptors["act"][0], gram_row_sums(maps["act"][0].movedim(1, 0)))


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ({"nothing*": 1}, "'nothing\\*' matches no layer"),
        ({"act": 0}, r"'act' = 0: act has shape \(2, 4, 6, 20\); give a dimension from 1 to 3"),
        ({"act": 4}, "give a dimension from 1 to 3"),
        ({"act": -4}, "give a dimension from 1 to 3"),
        ({"act": "last"}, "'act' = 'last'"),
        ({"act": True}, "'act' = True"),
    ],
)
def test_dimensions_that_hold_no_channels(dims: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        survey(toys.make(toys.ConvNeXt), noise(*SPECTROGRAM), dims)


@pytest.mark.parametrize(
    ("forward", "missed"),
    [
        (lambda _, x: F.relu(x.transpose(0, 1)), (":relu", "relu", "dimension 0 is 4, not the batch of 2")),
        (lambda _, x: F.relu(x.mean((1, 2))), (":relu", "relu", r"shape (2,) has no channels")),
        (lambda _, x: torch.relu((x * 9).int()), (":relu", "relu", "int32, not floating point")),
        (lambda _, x: x.softmax(1), (":softmax", "softmax", "weights or probabilities, not a feature map")),
        (lambda _, x: F.hardtanh(x), (":hardtanh", "hardtanh", "not among the activations that are captured")),
        (lambda net, x: net.gate(x), ("gate", "Hardsigmoid", "a gate, not a feature map")),
        (lambda _, x: x, ("unused", "GELU", "did not run")),
    ],
)
def test_what_is_missed_and_why(forward: Callable[..., Any], missed: tuple[str, str, str]) -> None:
    used = {missed[0]: getattr(nn, missed[1])()} if ":" not in missed[0] else {}
    assert survey(Plain(forward, **used), noise(2, 4, 5)) == Survey((), (missed,))


class Swish(nn.Module):
    """An activation of one's own, with functions and a module inside that must not count."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x) * torch.sigmoid(x) + self.inner(x)


def test_nothing_inside_an_activation_counts_twice() -> None:
    found = survey(Plain(lambda net, x: net.b(F.relu(net.a(x))), a=Swish(), b=nn.ReLU()), noise(2, 4, 5))
    assert [(one.name, one.kind) for one in found.layers] == [("a", "Swish"), (":relu", "relu"), ("b", "ReLU")]
    assert found.missed == (("a.inner", "Tanh", "did not run"),)


@pytest.mark.parametrize(
    "call",
    [F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.leaky_relu_, F.relu6, torch.selu, F.elu,
     F.celu_, F.gelu, F.silu, F.mish, F.hardswish, F.softplus, F.tanh, torch.tanh_, Tensor.tanh,
     lambda x: F.prelu(x, torch.ones(1)), lambda x: F.relu(x, inplace=True), lambda x: F.silu(x, inplace=True)],
)  # fmt: skip
def test_functions_count_once(call: Callable[[Tensor], Tensor]) -> None:
    found = survey(Plain(lambda _, x: call(x + 0)), noise(2, 4, 5))
    assert [(one.channels, one.positions, one.call) for one in found.layers] == [(4, 5, 0)]
    assert found.missed == ()


@pytest.mark.parametrize(
    "kind", ["ReLU", "ReLU6", "LeakyReLU", "PReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Hardswish",
             "Softplus", "Tanh"],
)  # fmt: skip
def test_modules_count_once(kind: str) -> None:
    found = survey(Plain(lambda net, x: net.act(x), act=getattr(nn, kind)()), noise(2, 4, 5))
    assert [(one.name, one.kind) for one in found.layers] == [("act", kind)]
    assert found.missed == ()


@pytest.mark.parametrize(
    "name", ["swish", "mish", "hard_swish", "hard_mish", "gelu_tanh", "quick_gelu", "prelu", "tanh"]
)
def test_activations_of_timm_count_once(name: str) -> None:
    layers = torch_compat.timm().layers
    found = survey(Plain(lambda net, x: net.act(x), act=layers.get_act_layer(name)()), noise(2, 4, 5))
    assert names(found) == ["act"]
    assert found.missed == ()


@pytest.mark.parametrize("name", ["sigmoid", "hard_sigmoid"])
def test_gates_of_timm_are_missed(name: str) -> None:
    layers = torch_compat.timm().layers
    found = survey(Plain(lambda net, x: net.act(x), act=layers.get_act_layer(name)()), noise(2, 4, 5))
    assert found.layers == ()
    assert [(one[0], one[2]) for one in found.missed] == [("act", "a gate, not a feature map")]


def test_one_module_under_two_names_is_one() -> None:
    relu = nn.ReLU()
    found = survey(Plain(lambda net, x: net.b(net.a(x)), a=relu, b=relu), noise(2, 4, 5))
    assert names(found) == ["a", "a#1"]


@pytest.mark.parametrize(
    ("name", "layers", "channels"),
    [("resnet50", 49, 22720), ("densenet121", 121, 41824), ("vgg16", 15, 12416), ("mobilenetv2_100", 35, 15552)],
)
def test_networks_of_the_paper(name: str, layers: int, channels: int) -> None:
    network = torch_compat.timm().create_model(name, in_chans=1, num_classes=4).eval()
    inputs = noise(2, 1, 64, 64)
    found = survey(network, inputs)
    assert (len(found.layers), sum(one.channels for one in found.layers)) == (layers, channels)
    assert found.missed == ()
    _, descriptors = Recorder(network, found.layers)(inputs)
    assert [one.shape for one in descriptors.values()] == [(2, one.channels) for one in found.layers]
    assert list(descriptors) == names(found)


def test_efficientnet_without_its_gates() -> None:
    network = torch_compat.timm().create_model("efficientnet_b0", in_chans=1, num_classes=4).eval()
    found = survey(network, noise(2, 1, 64, 64))
    assert {one.kind for one in found.layers} == {"SiLU"}
    assert "blocks.0.0.bn1.act" in names(found)
    assert len(found.missed) == 16
    assert ("blocks.0.0.se.gate", "Sigmoid", "a gate, not a feature map") in found.missed


def test_nothing_stays_on_the_network() -> None:
    network, inputs = toys.make(toys.Panns), noise(*WAVEFORM)
    Recorder(network, survey(network, inputs).layers)(inputs)
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in network.modules())
    with pytest.raises(RuntimeError):
        Recorder(network, ())(noise(2, 1, 1, 1))
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in network.modules())


def test_a_lone_probe_is_doubled() -> None:
    network = toys.make(toys.ResNet)
    assert survey(network, noise(1, 1, 16, 24)) == survey(network, noise(2, 1, 16, 24))


def test_half_precision_maps_are_summed_in_float32() -> None:
    network = Plain(lambda _, x: F.relu(x.bfloat16()))
    inputs = noise(2, 4, 3000) + 2
    found = survey(network, inputs)
    for layer, half in ((found.layers, inputs), (found.layers, inputs * 64)):
        with torch.autocast("cpu", torch.bfloat16):
            _, descriptors = Recorder(network, layer)(half)
        assert descriptors[":relu"].dtype == torch.float32
        close(descriptors[":relu"][0], gram_row_sums(F.relu(half[0].bfloat16().double())))


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda net, x: net.act(net.act(x)) if x.max() > 5 else net.act(x), "layer act: ran 2 times, not 1"),
        (lambda net, x: x if x.max() > 5 else net.act(x), "layer act: ran 0 times, not 1"),
        (lambda net, x: net.act(x[:, 1:]) if x.max() > 5 else net.act(x), r"layer act: shape \(2, 3, 5\) has not 4"),
        (lambda net, x: net.act(x[0]) if x.max() > 5 else net.act(x), "layer act: dimension 0 is 4, not the batch"),
        (lambda net, x: net.act(x[..., 0]) if x.max() > 5 else net.act(x.mT).mT, r"layer act: shape \(2, 4\) has not"),
    ],
)
def test_a_network_that_changes_between_inputs(forward: Callable[..., Any], message: str) -> None:
    network = Plain(forward, act=nn.ReLU())
    dims = {"act": 2} if "mT" in message or "(2, 4\\)" in message else {}
    found = survey(network, noise(2, 4, 5), dims)
    with pytest.raises(ArtefactError, match=message):
        Recorder(network, found.layers)(noise(2, 4, 5) + 100)


def test_a_layer_left_out_may_change() -> None:
    network = Plain(lambda net, x: net.b(net.a(net.a(x)) if x.max() > 5 else net.a(x)), a=nn.ReLU(), b=nn.Tanh())
    chosen = choose(survey(network, noise(2, 4, 5)).layers, ["b"])
    assert list(Recorder(network, chosen)(noise(2, 4, 5) + 100)[1]) == ["b"]


def test_a_network_that_does_not_run() -> None:
    with pytest.raises(ArtefactError, match=r"does not run on an input of shape \(2, 3, 16, 24\): RuntimeError: Given"):
        survey(toys.make(toys.ResNet), noise(2, 3, 16, 24))


def test_choosing_by_glob() -> None:
    layers = survey(toys.make(toys.ResNet), noise(*SPECTROGRAM)).layers
    assert choose(layers, ["*"]) == layers
    assert [one.name for one in choose(layers, ["layer1.1.*", "act1"])] == [
        *("act1", "layer1.1.relu", "layer1.1.relu#1", "layer1.1.relu#2")
    ]
    assert [one.name for one in choose(layers, ["*#1"])] == ["layer1.0.relu#1", "layer1.1.relu#1"]
    with pytest.raises(UsageError, match=r"'layer3\.\*' matches none of 7 layers"):
        choose(layers, ["act1", "layer3.*"])


def test_layers_are_plain_values() -> None:
    layer = survey(toys.make(toys.Cnn1d), noise(*WAVEFORM)).layers[0]
    assert capture.Layer(**dataclasses.asdict(layer)) == layer
