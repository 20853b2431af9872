from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gramcli.errors import UsageError
from gramcli.training import augment


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(0, 1000), st.integers(2, 9))
def test_mixup_mixes_inputs_and_targets_alike(seed, count):
    """Clip i is all i: the mixed target says how much of which clips the mixed input must be."""
    inputs = torch.arange(1.0, count + 1).view(-1, 1, 1, 1).expand(count, 1, 3, 4).contiguous()
    mixed, targets = augment.mixup(inputs, torch.eye(count), generator(seed))
    assert torch.allclose(targets.sum(1), torch.ones(count))
    assert (targets >= 0).all()
    assert ((targets > 0).sum(1) <= 2).all()
    wanted = targets @ torch.arange(1.0, count + 1)
    assert torch.allclose(mixed, wanted.view(-1, 1, 1, 1).expand_as(mixed), rtol=1e-5)


def test_mixup_draws_its_share_from_a_beta_distribution():
    """Beta(α, α) has mean 1/2 and variance 1 / (4 (2α + 1))."""
    count = 20000
    targets = torch.zeros(count, 2)
    targets[::2, 0], targets[1::2, 1] = 1, 1
    _, mixed = augment.mixup(torch.zeros(count, 1), targets, generator())
    # those that were mixed with the other class show λ itself
    share = mixed[::2, 0].double().numpy()
    share = share[share < 1]
    alpha = augment.MIXUP_ALPHA
    # half of the partners are of the own class and show 1; of the others the mean is that of the distribution
    assert abs(share.mean() - 0.5) < 0.02
    assert abs(share.var() - 1 / (4 * (2 * alpha + 1))) < 0.01


@given(st.integers(0, 1000))
def test_specaugment_blanks_bands_and_frames_with_the_mean_of_the_clip(seed):
    bands, frames = 32, 48
    inputs = torch.randn(3, 1, bands, frames, generator=generator(seed + 1))
    out = augment.specaugment(inputs, generator(seed))
    for before, after in zip(inputs[:, 0], out[:, 0], strict=True):
        changed = before != after
        assert torch.allclose(after[changed], before.mean().expand(int(changed.sum())))
        whole_bands, whole_frames = changed.all(1), changed.all(0)
        assert torch.equal(changed, whole_bands[:, None] | whole_frames[None])
        assert whole_bands.sum() <= augment.MASKS * augment.MASK_SHARE * bands
        assert whole_frames.sum() <= augment.MASKS * augment.MASK_SHARE * frames


def test_specaugment_gives_each_clip_masks_of_its_own():
    inputs = torch.randn(1, 1, 64, 64, generator=generator()).expand(8, 1, 64, 64)
    out = augment.specaugment(inputs, generator())
    assert len({tuple((one != inputs[0]).flatten().tolist()) for one in out}) == 8


def test_noise_has_the_ratio_it_should_and_leaves_every_second_clip(rng):
    samples = rng.normal(0, 0.1, 8000).astype(np.float32)
    ratios = []
    for _ in range(400):
        out = augment.noise(samples, rng)
        assert out.dtype == np.float32
        added = out.astype(np.float64) - samples
        if added.any():
            ratios.append(10 * np.log10(np.mean(samples.astype(np.float64) ** 2) / np.mean(added**2)))
    assert 150 < len(ratios) < 250
    lowest, highest = augment.SNR_DB
    assert lowest - 0.3 < min(ratios) < lowest + 3
    assert highest - 3 < max(ratios) < highest + 0.3


def test_silence_stays_silent(rng):
    for _ in range(20):
        assert not augment.noise(np.zeros(100, np.float32), rng).any()
        assert augment.noise(np.zeros(0, np.float32), rng).size == 0


def test_the_same_seed_draws_the_same():
    inputs, targets = torch.randn(4, 1, 16, 16, generator=generator()), torch.eye(4)
    for draw in (lambda g: augment.specaugment(inputs, g), lambda g: augment.mixup(inputs, targets, g)[0]):
        assert torch.equal(draw(generator(3)), draw(generator(3)))
        assert not torch.equal(draw(generator(3)), draw(generator(4)))


def test_what_is_no_augmentation_is_refused():
    augment.check(["specaugment", "mixup", "noise"], "logmel")
    augment.check(["mixup", "noise"], "waveform")
    with pytest.raises(UsageError, match=r"train\.augment: there is no 'pitch'; there are specaugment, mixup, noise"):
        augment.check(["mixup", "pitch"], "logmel")
    with pytest.raises(UsageError, match="specaugment masks a log-mel"):
        augment.check(["specaugment"], "waveform")
