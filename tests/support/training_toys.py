"""Small networks for tests of training: with batch norm and dropout, on waveforms, and with an infinite loss."""

from __future__ import annotations

from torch import Tensor, nn


class Small(nn.Sequential):
    def __init__(self, num_classes: int = 3, width: int = 8) -> None:
        super().__init__(
            nn.Conv2d(1, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(2 * width, num_classes),
        )


class Samples(nn.Module):
    """Waveforms in."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 8, 32, stride=8)
        self.act = nn.ReLU()
        self.head = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.conv(x[:, None])).mean(2))


class Exploding(nn.Module):
    """Its loss is not finite."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.head = nn.Linear(1, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1).mean(1, keepdim=True)) / 0.0
