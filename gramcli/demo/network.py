"""The demo's CNN: six layers of convolution, batch norm and ReLU, a mean over all positions, and a linear layer."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def small_cnn(num_classes: int, in_chans: int = 1, width: int = 24) -> nn.Module:
    """Returns the network, with random weights.

    Args:
        num_classes: Number of outputs.
        in_chans: Channels of the input.
        width: Channels of the first two layers; there are twice as many in the next two, four times in the last.

    Shape:
        (N, in_chans, mels, frames) → (N, num_classes) logits
    """
    layers: list[tuple[str, nn.Module]] = []
    channels = in_chans
    for number, (factor, stride) in enumerate([(1, 2), (1, 1), (2, 2), (2, 1), (4, 2), (4, 1)], 1):
        layers.append((f"layer{number}", _layer(channels, factor * width, stride)))
        channels = factor * width
    head = [("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten()), ("fc", nn.Linear(channels, num_classes))]
    return nn.Sequential(OrderedDict([*layers, *head]))


def _layer(inputs: int, outputs: int, stride: int) -> nn.Module:
    # no bias: batch norm takes it away again
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(outputs), relu=nn.ReLU()))
