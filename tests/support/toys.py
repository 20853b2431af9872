"""Small networks, each of which calls its activations in one of the ways that are met in practice."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """A ResNet bottleneck with one ReLU object called three times."""

    def __init__(self, channels: int, inplace: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 4, 1)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.conv3 = nn.Conv2d(4, channels, 1)
        self.relu = nn.ReLU(inplace=inplace)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.conv2(y))
        y = self.conv3(y)
        y += x
        return self.relu(y)


class ResNet(nn.Module):
    def __init__(self, num_classes: int = 3, inplace: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.act1 = nn.ReLU(inplace=inplace)
        self.layer1 = nn.Sequential(Block(8, inplace), Block(8, inplace))
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer1(self.act1(self.conv1(x))).mean((2, 3)))


class ConvBlock(nn.Module):
    """As in PANNs: no activation module at all."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.bn1(self.conv1(x)))
        x = F.relu_(self.bn2(self.conv2(x)))
        return F.avg_pool2d(x, 2)


class Panns(nn.Module):
    """Waveforms in, a dict out; the spectrogram is made inside."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(64))
        self.conv_block1 = ConvBlock(1, 8)
        self.conv_block2 = ConvBlock(8, 16)
        self.fc1 = nn.Linear(16, 16)
        self.fc_audioset = nn.Linear(16, num_classes)

    def forward(self, waveforms: Tensor, mixup: Any = None) -> dict[str, Tensor]:
        spectra = torch.stft(waveforms, 64, 32, window=self.window, return_complex=True).abs()
        x = torch.log(spectra + 1e-3).transpose(1, 2)[:, None]
        x = self.conv_block2(self.conv_block1(x))
        x = F.relu_(self.fc1(x.amax((2, 3))))
        return {"embedding": x, "clipwise_output": torch.sigmoid(self.fc_audioset(x))}


class Cnn1d(nn.Module):
    """A 1-D CNN on waveforms, and an activation without a batch in dimension 0."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(1, 8, 9, stride=4), nn.LeakyReLU(0.1), nn.Conv1d(8, 12, 5, stride=4), nn.PReLU(12)
        )
        self.scale = nn.Parameter(torch.zeros(12, 1))
        self.fc = nn.Linear(12, num_classes)

    def forward(self, waveforms: Tensor) -> Tensor:
        x = self.features(waveforms[:, None]) * F.softplus(self.scale)
        return self.fc(x.mean(2))


class Transformer(nn.Module):
    """Patches, then torch's own encoder: a module with F.gelu inside, and a head with a module of its own."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.embed = nn.Linear(16, 8)
        self.act = nn.GELU()
        layer = nn.TransformerEncoderLayer(8, 2, 24, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(8)
        self.pool = nn.Tanh()
        self.fc = nn.Linear(8, num_classes)

    def forward(self, spectrogram: Tensor) -> Tensor:
        x = self.act(self.embed(spectrogram[:, 0].transpose(1, 2)))  # (N, frames, 8)
        x = self.norm(self.encoder(x))
        return self.fc(self.pool(x).mean(1))


class ConvNeXt(nn.Module):
    """Channels wander: first as convolutions have them, then last, then back."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 4, stride=4)
        self.stem_act = nn.SiLU(inplace=True)
        self.dwconv = nn.Conv2d(6, 6, 7, padding=3, groups=6)
        self.norm = nn.LayerNorm(6)
        self.pwconv1 = nn.Linear(6, 20)
        self.dropout = nn.Dropout(0.1)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(20, 6)
        self.last = nn.Hardswish()
        self.fc = nn.Linear(6, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem_act(self.stem(x))
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.pwconv2(self.act(self.dropout(self.pwconv1(y)) + 0.0))
        x = self.last(x + y.permute(0, 3, 1, 2))
        return self.fc(x.mean((2, 3)))


class Vgg(nn.Module):
    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(True), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(True)
        )
        self.classifier = nn.Sequential(nn.Linear(16 * 16, 32), nn.ReLU(True), nn.Dropout(), nn.Linear(32, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), 4).flatten(1))


class DenseNet(nn.Module):
    """Each step reads what all before it made; the in-place ReLU works on a concatenation."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8 + 4 * i) for i in range(3))
        self.acts = nn.ModuleList(nn.ReLU(inplace=True) for _ in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(8 + 4 * i, 4, 3, padding=1) for i in range(3))
        self.fc = nn.Linear(20, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for norm, act, conv in zip(self.norms, self.acts, self.convs, strict=True):
            x = torch.cat([x, conv(act(norm(x)))], 1)
        return self.fc(x.mean((2, 3)))


SPECTROGRAMS = {"resnet": ResNet, "transformer": Transformer, "convnext": ConvNeXt, "vgg": Vgg, "densenet": DenseNet}
WAVEFORMS = {"panns": Panns, "cnn1d": Cnn1d}


def make(kind: type[nn.Module], **arguments: Any) -> nn.Module:
    """Returns a network in eval mode with seeded weights; batch norms have statistics that do something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        module = kind(**arguments)
        for one in module.modules():
            if isinstance(one, nn.BatchNorm2d):
                nn.init.uniform_(one.running_mean, -0.1, 0.1)
                nn.init.uniform_(one.running_var, 0.5, 2)
    return module.eval()
