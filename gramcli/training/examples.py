"""Clips as a network is trained on them: kept in memory where they fit, decoded anew in every epoch where not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from gramcli.audio import reader
from gramcli.audio.reader import Samples
from gramcli.network import frontend
from gramcli.settings.schema import FrontendSettings, SegmentSettings

CHUNK = 64
"""Clips that go through the front end at once while everything is read for the first time."""

Change = Callable[[Samples], Samples]


class Examples(Protocol):
    """Labelled clips, in batches of any order."""

    labels: Tensor
    """(N,) number of the class."""
    front: nn.Module | None
    """What makes the network's input of a batch; None where batches are that input already."""

    def batches(self, order: Sequence[Tensor], change: Change | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (inputs or waveforms, labels) for each batch of places in `order`.

        `change` is applied to each clip's samples before they are cut or padded.
        """


class Inputs:
    """What the network is fed, all of it in memory, (N, 1, bands, frames)."""

    front: nn.Module | None = None

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self.inputs, self.labels = inputs, labels

    def batches(self, order: Sequence[Tensor], change: Change | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Examples`; there are no samples to change."""
        if change is not None:
            raise ValueError("the samples are not kept")
        for places in order:
            yield self.inputs[places], self.labels[places]


class Waveforms:
    """Samples, from memory or from the decoders.

    Args:
        fetch: Yields the samples of clips in the order asked for.
        labels: (N,).
        front: Makes the network's input.
        length: Samples that a clip is cut or padded to.
        pad: How.
    """

    def __init__(
        self,
        fetch: Callable[[Sequence[int]], Iterator[Samples]],
        labels: Tensor,
        front: nn.Module,
        length: int,
        pad: str,
    ) -> None:
        self.labels = labels
        self.front: nn.Module | None = front
        self._fetch, self._length, self._pad = fetch, length, pad

    def batches(self, order: Sequence[Tensor], change: Change | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Examples`."""
        samples = self._fetch([place for places in order for place in places.tolist()])
        for places in order:
            batch = (next(samples) for _ in range(len(places)))
            changed = batch if change is None else map(change, batch)
            fitted = np.stack([reader.fit(one, self._length, self._pad) for one in changed])
            yield torch.from_numpy(fitted), self.labels[places]


def seed_of(seed: int, epoch: int) -> int:
    """Returns the seed of all that is drawn in one epoch, so that an epoch can be repeated by itself."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint32)[0])


def split(order: Tensor, size: int) -> list[Tensor]:
    """Cuts an order of clips into batches; a last clip that is alone, which no batch norm can take, joins the others.

    Args:
        order: (N,) places.
        size: Clips a batch.
    """
    batches = list(torch.split(order, size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


@dataclass(frozen=True)
class Measured:
    """Mean and standard deviation of the log-mel over all bands and frames of the training clips."""

    mean: float
    std: float


class Meter:
    """Accumulates mean and variance of tensors in float64 by Chan's update, so that no second pass is needed."""

    def __init__(self) -> None:
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    def add(self, values: Tensor) -> None:
        """Takes all elements of a tensor."""
        count = values.numel()
        wide = values.double()
        mean = float(wide.mean())
        squares = float((wide - mean).square().sum())
        total = self._count + count
        gap = mean - self._mean
        self._mean += gap * count / total
        self._squares += squares + gap**2 * self._count * count / total
        self._count = total

    def measured(self) -> Measured:
        """Returns both, to three decimals, which is what the checkpoint says and training uses."""
        std = (self._squares / max(self._count, 1)) ** 0.5
        return Measured(round(self._mean, 3), round(std, 3) or 1.0)


def input_bytes(front: FrontendSettings, segment: SegmentSettings) -> int:
    """Returns the size of what one clip becomes, in bytes."""
    length = frontend.samples(front, segment)
    if front.kind == "waveform":
        return 4 * length
    hop = max(1, round(front.hop_ms * front.sample_rate / 1000))
    return 4 * front.n_mels * (1 + length // hop)


def unscaled(front: FrontendSettings) -> FrontendSettings:
    """Returns the front end without mean and standard deviation."""
    return replace(front, mean=0.0, std=1.0)


@torch.no_grad()
def log_mels(samples: Sequence[Samples], front: nn.Module, length: int, pad: str) -> Tensor:
    """Returns what the front end makes of some clips."""
    result: Tensor = front(torch.from_numpy(np.stack([reader.fit(one, length, pad) for one in samples])))
    return result
