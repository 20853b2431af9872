"""Augments training clips by SpecAugment, mixup or noise, seeded by the caller. By default nothing is augmented."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gramcli.errors import UsageError
from gramcli.text import shown

NAMES = ("specaugment", "mixup", "noise")

MIXUP_ALPHA = 0.2
MASKS = 2
"""Number of stretches of frequency, and of time, that SpecAugment replaces in each clip."""
MASK_SHARE = 0.125
"""Largest share of the bands, or of the frames, that one stretch takes."""
SNR_DB = (0.0, 30.0)
"""Range in dB from which the signal-to-noise ratio is drawn uniformly."""

Samples = npt.NDArray[np.float32]


def check(names: Sequence[str], kind: str) -> None:
    """Checks the names of augmentations, and that they fit the front end.

    Args:
        names: The augmentations.
        kind: Kind of the front end, ``logmel`` or ``waveform``.

    Raises:
        UsageError: There is no such augmentation, or it does not fit; it is named.
    """
    for name in names:
        if name not in NAMES:
            raise UsageError(f"train.augment: there is no {shown(repr(name))}; there are {', '.join(NAMES)}")
    if "specaugment" in names and kind != "logmel":
        raise UsageError("train.augment: specaugment masks a log-mel; frontend.kind is 'waveform'")


def mixup(inputs: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mixes every clip of a batch with another: λ x_i + (1 - λ) x_j, λ ~ Beta(α, α), and the targets alike.

    Zhang et al., *mixup: Beyond Empirical Risk Minimization*, 2018.

    Args:
        inputs: (N, ...), the network's inputs.
        targets: (N, C), probabilities.
        generator: A generator of the CPU.
    """
    count = len(inputs)
    # λ from two gamma variates, since torch's Beta takes no generator
    alpha = torch.full((2, count), MIXUP_ALPHA, dtype=torch.float64)
    first, second = torch._standard_gamma(alpha, generator=generator).clamp(min=1e-300)
    share = (first / (first + second)).to(inputs)
    other = torch.randperm(count, generator=generator).to(inputs.device)
    share_in = share.view(-1, *[1] * (inputs.dim() - 1))
    share_out = share.view(-1, 1)
    return share_in * inputs + (1 - share_in) * inputs[other], share_out * targets + (1 - share_out) * targets[other]


def specaugment(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Replaces random stretches of frequency and of time by the clip's mean, other stretches for each clip.

    Park et al., *SpecAugment*, 2019, without time warping.

    Args:
        inputs: (N, 1, bands, frames).
        generator: Of the CPU.
    """
    count, _, bands, frames = inputs.shape
    blank = torch.zeros(count, bands, frames, dtype=torch.bool)
    for size, axis in ((bands, 1), (frames, 2)):
        positions = torch.arange(size)
        for _ in range(MASKS):
            drawn = torch.rand(2, count, 1, generator=generator)
            width = (drawn[0] * (MASK_SHARE * size + 1)).floor()
            start = (drawn[1] * (size - width + 1)).floor()
            hit = (positions >= start) & (positions < start + width)
            blank |= hit[:, :, None] if axis == 1 else hit[:, None, :]
    mean = inputs.mean(dim=(1, 2, 3), keepdim=True)
    return torch.where(blank[:, None].to(inputs.device), mean, inputs)


def noise(samples: Samples, random: np.random.Generator) -> Samples:
    """Adds white Gaussian noise to half of the clips; the SNR refers to the mean power of the clip itself.

    Args:
        samples: (n,) float32.
        random: Draws whether noise is added, its SNR, and the noise.
    """
    if random.random() < 0.5 or not samples.size:
        return samples
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    deviation = np.sqrt(power * 10 ** (-random.uniform(*SNR_DB) / 10))
    return samples + np.float32(deviation) * random.standard_normal(len(samples), dtype=np.float32)
