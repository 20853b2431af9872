"""Gram-OOD and Gram-OOD*, the detectors of unknown sounds that the Gram-Classifier grew from, by their authors' code.

Both take bounds from training clips by the class that the network *predicts*, and compare a new clip with the bounds of
its one predicted class. They differ in the descriptor, in ε and in the part of the confidence:

- Gram-OOD (Sastry & Oore 2020, VectorInstitute/gram-ood-detection): orders 1 to 10. The maps are raised to the power p
  element by element, the rows of their Gram matrix are summed, and the signed p-th root is taken of the sums.
  Deviations are divided by the largest softmax. ε = 1e-6.
- Gram-OOD* (Pacheco et al. 2020, paaatcha/gram-ood): order 1, min-max scaled over the channels of each clip. ε = 1e-5.

Two things differ from their code. E_l is the mean deviation of validation clips; they took a tenth of the test set. The
layers are the activations that gramcli records; they chose layers by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gramcli.network.capture import Layer
from gramcli.network.hooks import ActivationCall, ForwardHooks

ORDERS = tuple(range(1, 11))


@dataclass(frozen=True)
class Method:
    """What the two differ in."""

    orders: tuple[int, ...]
    epsilon: float
    scaled: bool
    """Whether row sums are min-max scaled over the channels of each clip."""
    confidence: bool
    """Whether deviations are divided by the largest softmax."""


GRAM_OOD = Method(ORDERS, 1e-6, scaled=False, confidence=True)
GRAM_OOD_STAR = Method((1,), 1e-5, scaled=True, confidence=False)


@dataclass(frozen=True, eq=False)
class Clips:
    """What a network makes of N clips."""

    roots: Mapping[str, np.ndarray]
    """Roots of the row sums of orders 1 to 10, by layer, (N, 10, K_l)."""
    log_p: np.ndarray
    """Log-softmax of the network, (N, C)."""


def roots(maps: Tensor, orders: Sequence[int] = ORDERS) -> Tensor:
    r"""Returns sgn(r) |r|^{1/p} with r the row sums of F^p (F^p)ᵀ, by order and channel.

    Computed in float64: the tenth power of a large activation, squared and summed, leaves float32.

    Shape:
        - maps: (N, K, ...)
        - returns: (N, P, K)
    """
    flat = maps.double().flatten(2) if maps.dim() > 2 else maps.double()[:, :, None]
    found = []
    for order in orders:
        powered = flat**order
        sums = torch.einsum("nks,ns->nk", powered, powered.sum(dim=1))
        found.append(sums.sign() * sums.abs() ** (1 / order))
    return torch.stack(found, dim=1)


def record(module: nn.Module, layers: Sequence[Layer], batches: Iterable[Tensor]) -> dict[str, np.ndarray]:
    """Runs a network on batches of inputs and returns the roots of every layer, (N, 10, K_l) each.

    Args:
        module: In eval mode.
        layers: What `gramcli.network.capture.survey` found.
        batches: What the network is fed.
    """
    channel_dims = {layer.name: layer.channel_dim for layer in layers}
    found: dict[str, list[np.ndarray]] = {name: [] for name in channel_dims}

    def seen(ended: ActivationCall) -> None:
        if ended.name in found:  # reduced at once: an activation that works in place overwrites these maps later
            maps = ended.output.movedim(channel_dims[ended.name], 1)
            found[ended.name].append(roots(maps).numpy())

    with torch.inference_mode():
        for batch in batches:
            with ForwardHooks(module, seen)(functions=any(layer.function is not None for layer in layers)):
                module(batch)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def score(method: Method, training: Clips, validation: Clips, judged: Clips) -> np.ndarray:
    """Returns the total deviation of the judged clips, Σ_l δ_l / (E_l + 1e-7), (N,); higher is more unknown.

    A class that no training clip is taken for has no bounds; clips are then compared with the likeliest class that has.
    """
    own = training.log_p.argmax(axis=1)
    classes = np.unique(own)
    boxes = {}
    for layer in training.roots:
        values = _values(method, training, layer)
        low, high = (
            np.stack([extreme(values[own == label], axis=0) for label in classes]) for extreme in (np.min, np.max)
        )
        boxes[layer] = low, high

    def deviations(clips: Clips) -> np.ndarray:
        nearest = clips.log_p[:, classes].argmax(axis=1)
        columns = []
        for layer, (lower, upper) in boxes.items():
            values, low, high = _values(method, clips, layer), lower[nearest], upper[nearest]
            below = np.maximum(low - values, 0) / np.abs(low + method.epsilon)
            above = np.maximum(values - high, 0) / np.abs(high + method.epsilon)
            columns.append((below + above).sum(axis=(1, 2)))
        far = np.stack(columns, axis=1)
        return far / np.exp(clips.log_p.max(axis=1))[:, None] if method.confidence else far

    expected = deviations(validation).mean(axis=0) + 1e-7
    total: np.ndarray = (deviations(judged) / expected).sum(axis=1)
    return total


def _values(method: Method, clips: Clips, layer: str) -> np.ndarray:
    """Returns descriptors of the method's orders, (N, P, K)."""
    values = clips.roots[layer][:, [ORDERS.index(order) for order in method.orders]]
    if not method.scaled:
        return values
    above = values - values.min(axis=2, keepdims=True)
    span = above.max(axis=2, keepdims=True)
    # theirs is 0/0 where all channels are equal; 0 here, as in the package
    return np.divide(above, span, out=np.zeros_like(above), where=span > 0)
