"""Decides which modules and functions of a network are activations whose feature maps are recorded.

Both are known by name: torch's classes, timm's equivalents (whose classes do not derive from torch's), and the
functional twins, whether called as ``torch.relu_``, ``F.relu_`` or ``x.relu_()``.
"""

from __future__ import annotations

from typing import Any

from torch import nn

# fmt: off
MODULES = frozenset((
    "ReLU", "ReLU6", "LeakyReLU", "PReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Hardswish", "Softplus",
    "Tanh",
    # timm
    "Swish", "SwishMe", "MishMe", "HardSwish", "HardSwishMe", "HardMish", "HardMishMe", "GELUTanh", "QuickGELU",
))
"""Classes that are recorded, subclasses included."""

FUNCTIONS = frozenset((
    "relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish", "softplus",
    "tanh",
))
"""Functions that are recorded, and their in-place twins."""

_REFUSED = {
    "a gate, not a feature map": (
        "Sigmoid", "Hardsigmoid", "LogSigmoid", "HardSigmoid", "HardSigmoidMe", "GLU",
        "sigmoid", "hardsigmoid", "logsigmoid", "glu",
    ),
    "weights or probabilities, not a feature map": (
        "Softmax", "Softmax2d", "Softmin", "LogSoftmax",
        "softmax", "softmin", "log_softmax", "gumbel_softmax",
    ),
    "not among the activations that are captured": (
        "Hardtanh", "Hardshrink", "Softshrink", "Tanhshrink", "Softsign", "Threshold", "RReLU",
        "hardtanh", "hardshrink", "softshrink", "tanhshrink", "softsign", "threshold", "rrelu",
    ),
}
# fmt: on
REFUSED = {name: reason for reason, names in _REFUSED.items() for name in names}
"""Classes and functions that are never recorded, and why."""


def refusal_of_module(module: nn.Module) -> str | None:
    """Returns "" for an activation to record, the reason for one that is never recorded, None for other modules."""
    for kind in type(module).__mro__:  # the nearest class decides: ReLU6 derives from Hardtanh
        if kind.__name__ in MODULES:
            return ""
        if kind.__name__ in REFUSED:
            return REFUSED[kind.__name__]
    return None


def refusal_of_function(function: Any) -> str | None:
    """Returns the same as `refusal_of_module` for a function of torch."""
    name = plain_name(function)
    return "" if name in FUNCTIONS else REFUSED.get(name)


def plain_name(function: Any) -> str:
    """Returns the name of a function without the underscores of its in-place or operator form."""
    return str(getattr(function, "__name__", "")).strip("_")
