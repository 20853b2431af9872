"""The raw descriptor ĝ of a layer: the row sums of the Gram matrix of its feature maps, without the matrix (Eq. 4-5).

The sums are computed where the network runs. `gramcli.gram.descriptor` scales them for the method.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LARGE = 1 << 18
"""Size of one clip's maps above which clips are taken two at a time, as a batch would not fit into the caches."""
_LINE = 16
"""Number of float32 in a cache line."""


def row_sums(maps: Tensor, channel_dim: int = 1) -> Tensor:
    r"""Returns the accumulated correlations ĝ of every clip, without a Gram matrix (Eq. 4-5).

    With the feature maps of a clip as F, one row per channel, the inner sum moves past the outer one:

    $$\hat g_k = \sum_i \langle v_k, v_i\rangle = \langle v_k, \sum_i v_i\rangle, \qquad \hat g = F\,(F^T 1)$$

    which takes O(K·S) operations and no K×K buffer. Maps in channels_last memory are read without a copy. The result of
    a clip is the same, bit for bit, in any batch of at least two clips.

    Args:
        maps: Feature maps; dimension 0 are the clips. Half precisions are converted to float32 first.
        channel_dim: Dimension of the channels; all others are positions. Without others there is S = 1 position.

    Returns:
        ĝ, float32. A sum that is too large for float32 is infinite.

    Raises:
        ValueError: The maps have one dimension, or the channels are dimension 0.

    Shape:
        - maps: (N, K, *positions), or with the channels at `channel_dim`
        - returns: (N, K)
    """
    rows = _positions(maps, channel_dim)
    clips, positions, channels = rows.shape
    if clips < 3 or positions * channels < _LARGE or maps.device.type != "cpu":
        return _products(rows)
    # two at a time, so that maps that are read twice, or were converted, are still in the cache the second time
    *pairs, last = range(0, clips, 2)
    found = [_products(rows[first : first + 2]) for first in pairs]
    rest = clips - last  # 1 or 2; a product of one clip would round differently, so it is computed with the one before
    return torch.cat([*found, _products(rows[-2:])[-rest:]])


def _products(rows: Tensor) -> Tensor:
    """Returns ĝ of maps (N, S, K)."""
    rows = rows.float()
    over_channels = rows.sum(-1, keepdim=True)  # (N, S, 1), Fᵀ 1
    # On some processors the rounding of a product depends on where in a cache line a clip begins. In nearly every
    # network the maps of a clip fill whole cache lines, so that all clips begin alike. The other product does not
    # depend on it, but is ten times slower.
    if rows.shape[2] % _LINE == 0 and rows.is_contiguous() and rows.data_ptr() % (4 * _LINE) == 0:
        return over_channels.transpose(1, 2).bmm(rows).squeeze(1)
    return rows.transpose(1, 2).bmm(over_channels).squeeze(2)


def row_sums_and_means(maps: Tensor, channel_dim: int = 1) -> Tensor:
    """Returns ĝ as `row_sums` does, then the mean of every channel over its positions.

    The means are the input of a classifier on pooled maps; compared with them, ĝ shows what correlations add.

    Shape:
        - maps: (N, K, *positions), or with the channels at `channel_dim`
        - returns: (N, 2 K), float32
    """
    return torch.cat([row_sums(maps, channel_dim), _positions(maps, channel_dim).float().mean(1)], dim=1)


def _positions(maps: Tensor, channel_dim: int) -> Tensor:
    """Returns the maps as (N, S, K), without a copy if they are channels_last."""
    if maps.ndim < 2 or channel_dim % maps.ndim == 0:
        raise ValueError(f"clips and channels are two dimensions, not {tuple(maps.shape)} with channels {channel_dim}")
    rows = maps.movedim(channel_dim, -1)
    return rows.flatten(1, -2) if rows.ndim > 2 else rows.unsqueeze(1)
