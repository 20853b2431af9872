"""Decides whether a network may be built from a name and arguments that a file may have given.

A file is a settings file, the metadata of a checkpoint, a cache or an exported model: somebody else may have written
it. Only what the user typed (flags, environment variables, values that a Python caller passes) was certainly meant.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

from gramcli.errors import UnsafeError
from gramcli.identity import canonical
from gramcli.settings.user_network import UserNetwork
from gramcli.text import shown


class Verdict(Enum):
    """Why a network may be built, or that it may not."""

    REFUSED = auto()
    """A file names code, or an argument that could load something."""
    TIMM = auto()
    """A network of timm, with arguments that load nothing or that the user gave."""
    BUNDLED = auto()
    """It comes with gramcli."""
    NAMED = auto()
    """The user named the factory."""
    TRUSTED = auto()
    """The user trusts all code that a file names."""
    REMEMBERED = auto()
    """The user trusted this code for good, and it has not changed."""


@dataclass(frozen=True)
class CodeOrigin:
    """The file that names a network, where that is a cache or an exported model."""

    name: str
    """Its path, for messages."""
    folder: Path | None = None
    """Folder of the project whose code it may name; None for the folder of the context."""


_LARGEST = 65536
"""Largest number that a file may give as an argument: networks are far smaller, and larger ones exhaust memory."""
_LONGEST = 64
"""Numbers in a list that a file may give as an argument."""
_LONGEST_SHOWN = 200
"""Characters of a name or value that a message repeats."""
_WORD = re.compile(r"[A-Za-z0-9_]{0,32}", re.ASCII)
"""Words that a file may give as an argument: no path, address or module fits."""

_TRUST = "--trust-code (from Python trust_code of RunContext)"

# fmt: off
TIMM_VALUES = frozenset((
    # sizes
    "in_chans", "img_size", "patch_size", "window_size", "num_features", "head_hidden_size", "embed_dim", "embed_dims",
    "dims", "depth", "depths", "channels", "widths", "width", "layers", "num_heads", "head_dim", "kernel_sizes",
    "stem_size", "stem_width", "stem_kernel_size", "down_kernel_size", "base_width", "cardinality", "growth_rate",
    "block_config", "bn_size", "block_reduce_first", "output_stride", "reg_tokens", "mlp_ratio", "mlp_ratios",
    "qkv_bias", "layer_scale_init_value", "ls_init_value", "init_values", "head_init_scale", "norm_eps", "bn_eps",
    "bn_momentum",
    # drop rates
    "drop_rate", "drop_path_rate", "drop_block_rate", "proj_drop_rate", "attn_drop_rate", "pos_drop_rate",
    "patch_drop_rate",
    # switches
    "dynamic_img_size", "dynamic_img_pad", "strict_img_size", "always_partition", "avg_down", "replace_stem_pool",
    "zero_init_last", "fix_stem", "aa_stem_only", "conv_mlp", "conv_bias", "use_grn", "head_bias", "head_norm",
    "head_norm_first", "qk_norm", "proj_bias", "class_token", "no_embed_class", "pre_norm", "final_norm", "fc_norm",
    "memory_efficient", "bn_tf", "se_from_exp",
))
"""Arguments of timm's networks that a file may give as a number, true or false, or a list of numbers."""
TIMM_WORDS = frozenset(("global_pool", "pad_type", "act_layer", "norm_layer", "weight_init", "pos_embed"))
"""Arguments that a file may also give as a short plain word."""
# fmt: on

BUNDLED_FACTORIES: dict[str, frozenset[str]] = {"gramcli.demo.network:small_cnn": frozenset(("in_chans", "width"))}
"""The only factories that a file may name, as they come with gramcli, and their arguments: numbers of channels."""


def verdict(name: str, arguments: Mapping[str, Any], user: UserNetwork, *, trusted: bool = False) -> Verdict:
    """Returns why a network may be built, or `Verdict.REFUSED`. Imports and opens nothing.

    Args:
        name: Name of a network of timm, or ``module:attribute``.
        arguments: All arguments of its constructor, besides the number of outputs.
        user: What the user named.
        trusted: Whether the user trusts all code that a file names.
    """
    if ":" not in name:
        if not refused_arguments(arguments, user):
            return Verdict.TIMM
    elif name in BUNDLED_FACTORIES and all(
        key in BUNDLED_FACTORIES[name] and _is_count(value) for key, value in arguments.items()
    ):
        return Verdict.BUNDLED
    elif user.name == name:
        return Verdict.NAMED
    return Verdict.TRUSTED if trusted else Verdict.REFUSED


def refused_arguments(arguments: Mapping[str, Any], user: UserNetwork) -> list[str]:
    """Returns the arguments of a network of timm that a file may not give and that the user has not given either."""
    return [key for key, value in arguments.items() if not (_is_harmless(key, value) or _is_given(key, value, user))]


def refusal(
    name: str, arguments: Mapping[str, Any], user: UserNetwork, named_by: str, *, only_installed: bool = False
) -> UnsafeError:
    """Returns the error for a network that is refused.

    Args:
        name: As for `verdict`.
        arguments: As for `verdict`.
        user: As for `verdict`.
        named_by: What names the network, e.g. ``gramcli.toml``.
        only_installed: Whether the factory is installed and in no project.
    """
    short = shown(name[:_LONGEST_SHOWN])
    if ":" in name and only_installed:
        return UnsafeError(
            f"network.name = {short} (named by {named_by}): is not built, as it would run code of an installed "
            f"package: if you trust it with these arguments, {name_it(name)}"
        )
    if ":" in name:
        return UnsafeError(
            f"network.name = {short} (named by {named_by}): is not built, as it would run code: if you trust that "
            f"code, give {_TRUST}, or {name_it(name)}"
        )
    first = refused_arguments(arguments, user)[0]
    near = difflib.get_close_matches(first[:_LONGEST_SHOWN], TIMM_VALUES | TIMM_WORDS, n=1, cutoff=0.8)
    question = f" (did you mean {near[0]}?)" if near and near[0] != first else ""
    value = shown(repr(arguments[first])[:_LONGEST_SHOWN])
    return UnsafeError(
        f"network.args: {shown(first[:_LONGEST_SHOWN])} = {value} (for {short}): is not among the "
        f"arguments that a settings file, checkpoint, cache or model may give{question}, as it could load or fetch "
        f"something: if you trust it, give {_TRUST}, or give it yourself in GRAMCLI_NETWORK_ARGS (extract, train, "
        "layers: --arg; from Python network.args)"
    )


def name_it(name: str) -> str:
    """Returns how the user can name a factory, so that its code may run, for messages."""
    short = shown(name[:_LONGEST_SHOWN])
    return (
        f"name it yourself: --network {short} (in layers the argument), GRAMCLI_NETWORK_NAME, from Python network.name"
    )


def is_factory_name(name: str) -> bool:
    """Returns whether a name is ``package.module:attribute`` of plain names; those with two underscores are not."""
    module, _, attribute = name.partition(":")
    return all(part.isidentifier() and "__" not in (part[:2], part[-2:]) for part in [*module.split("."), attribute])


def _is_harmless(key: str, value: Any) -> bool:
    if key == "pretrained":
        return value is False
    if key in TIMM_WORDS and isinstance(value, str):
        return _WORD.fullmatch(value) is not None
    if key not in TIMM_VALUES | TIMM_WORDS:
        return False
    if isinstance(value, list | tuple):
        return len(value) <= _LONGEST and all(_is_number(one) for one in value)
    return value is None or _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= _LARGEST  # which NaN is not, either


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LARGEST


def _is_given(key: str, value: Any, user: UserNetwork) -> bool:
    # as JSON, so that 1 and true differ
    return key in user.args and canonical(user.args[key]) == canonical(value)
