"""Training examples: batches of inputs or waveforms with their labels, from memory or decoded in every epoch."""

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
"""Clips that go through the front end at once while all are read for the first time."""

Change = Callable[[Samples], Samples]


class Examples(Protocol):
    """Labelled clips, in batches of any order."""

    labels: Tensor
    """(N,) number of the class."""
    front: nn.Module
    """Makes the network's input of a batch; the identity where batches are that input already."""

    def batches(self, order: Sequence[Tensor], change: Change | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (inputs or waveforms, labels) of each batch.

        Args:
            order: Indices of the clips of each batch.
            change: Applied to each clip's samples before they are cut or padded.
        """


class Inputs:
    """Log-mels of all clips in memory, (N, 1, bands, frames)."""

    front: nn.Module = nn.Identity()

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self.inputs, self.labels = inputs, labels

    def batches(self, order: Sequence[Tensor], change: Change | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Examples`; there are no samples to change."""
        if change is not None:
            raise ValueError("samples cannot be changed, as only log-mels are kept")
        for clips in order:
            yield self.inputs[clips], self.labels[clips]


class Waveforms:
    """Samples of clips, from memory or from the decoders.

    Args:
        fetch: Yields the samples of the clips of these indices, in this order.
        labels: (N,).
        front: Makes the network's input.
        length: Samples that a clip is cut or padded to.
        pad: How it is padded; see `gramcli.audio.reader.fit`.
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
        self.front = front
        self._fetch, self._length, self._pad = fetch, length, pad

    def batches(self, order: Sequence[Tensor], change: Change | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Examples`."""
        samples = self._fetch([clip for clips in order for clip in clips.tolist()])
        for clips in order:
            batch = (next(samples) for _ in range(len(clips)))
            changed = batch if change is None else map(change, batch)
            fitted = np.stack([reader.fit(one, self._length, self._pad) for one in changed])
            yield torch.from_numpy(fitted), self.labels[clips]


def seed_of(seed: int, epoch: int) -> int:
    """Returns the seed of an epoch's order, augmentation and dropout, so that it can be repeated by itself."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint32)[0])


def split(order: Tensor, size: int) -> list[Tensor]:
    """Cuts an order of clips into batches. A single last clip joins the batch before: no batch norm takes one clip.

    Args:
        order: (N,) indices of clips.
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
        """Returns both rounded to three decimals, as training uses them and the checkpoint states them."""
        std = (self._squares / max(self._count, 1)) ** 0.5
        return Measured(round(self._mean, 3), round(std, 3) or 1.0)


def input_bytes(front: FrontendSettings, segment: SegmentSettings) -> int:
    """Returns the size of one clip's input to the network, in bytes."""
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
    """Returns the front end's output of some clips, (N, 1, bands, frames)."""
    result: Tensor = front(torch.from_numpy(np.stack([reader.fit(one, length, pad) for one in samples])))
    return result
