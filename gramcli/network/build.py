"""Builds a network from a timm name or the user's own factory, loads its weights, and puts it in eval mode."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gramcli.errors import UsageError
from gramcli.network import checkpoint, factory, torch_compat
from gramcli.network.code_trust import CodeOrigin
from gramcli.network.permission import permit
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import NetworkSettings
from gramcli.text import shown


@dataclass(frozen=True)
class BuiltNetwork:
    """A network and what tells it from others."""

    module: nn.Module
    """In eval mode, on the CPU, float32 unless the factory says otherwise."""
    architecture: str
    arguments: dict[str, Any]
    """Arguments that it was built with, besides the number of outputs. ``pretrained`` of a network of timm is among
    them also where weights are loaded, though it is left out then."""
    weights: str
    """SHA-256 of the checkpoint; without one, of the random weights."""
    outputs: int
    """Number of outputs."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """``gramcli`` metadata of the checkpoint, from the same bytes as the weights."""
    code: tuple[str, ...] = ()
    """Files of the project whose code has built it, relative to the project's folder."""


def build(
    network: NetworkSettings,
    num_classes: int | None,
    seed: int,
    context: RunContext,
    origin: CodeOrigin | None = None,
    *,
    stated_settings: Mapping[str, Mapping[str, Any]] | None = None,
    weights_follow: bool = False,
) -> BuiltNetwork:
    """Builds the network of the settings and loads its weights.

    Args:
        network: Name, arguments and weights.
        num_classes: Number of outputs; if None, ``args.num_classes`` or, for a network of timm, the checkpoint's.
        seed: Of the random weights, where no checkpoint is given.
        context: Folder of the project, what the user named, and whether the code of files is trusted; its progress
            is warned before somebody's code runs.
        origin: The cache or model that names the network, if one does.
        stated_settings: Settings that the metadata of the checkpoint must still state; None for any.
        weights_follow: Whether the caller loads weights afterwards.

    Raises:
        UsageError: Unknown network, arguments it does not take, or an unknown number of outputs.
        NoInputError, ArtefactError, UnsafeError: The checkpoint cannot be read or does not fit.
        UnsafeError: A file names code or arguments that the user has not named or trusted.
    """
    weighted = weights_follow or network.weights is not None
    permission = permit(network, context, origin, weights_follow=weighted, stated_settings=stated_settings)
    name = permission.name
    path = None if network.weights is None else Path(network.weights)
    opened = None if path is None else checkpoint.read(path)
    if opened is not None:
        opened.require_stated(stated_settings)
    state = None if opened is None else opened.weights()
    arguments, code = dict(network.args), tuple[str, ...]()
    stated = arguments.pop("num_classes", None)
    if None not in (num_classes, stated) and num_classes != stated:
        raise UsageError(
            f"network.args: num_classes = {shown(repr(stated))} contradicts the {num_classes} classes of "
            "network.classes or, where that is not set, of the manifest; leave num_classes out, or correct the classes"
        )
    with torch.random.fork_rng(devices=[]):  # leaves the caller's random numbers alone
        torch.manual_seed(seed)
        if ":" in name:
            outputs = _outputs(name, num_classes, stated, None)
            with factory.imported(permission, context) as make:
                if not _takes(make, "in_chans") and arguments.get("in_chans") == NetworkSettings().args["in_chans"]:
                    del arguments["in_chans"]
                module = _call(name, make, outputs, arguments)
                if context.remember_code:
                    permission.remember(context.progress)
                code = () if permission.code is None else tuple(sorted(permission.code.imported()))
        else:
            zoo = _zoo(name)
            stored = None if state is None else _classifier_outputs(zoo, name, state)
            outputs = _outputs(name, num_classes, stated, stored)
            module = _call(name, functools.partial(_create, zoo, name), outputs, permission.arguments)
            if context.remember_code:
                permission.remember(context.progress)
    if opened is None or state is None:
        weights, metadata = checkpoint.state_digest(module), {}
    else:
        checkpoint.load_into(module, state, opened.path)
        weights, metadata = opened.digest, dict(opened.metadata)
    return BuiltNetwork(module.eval(), name, arguments, weights, outputs, metadata, code)


def _outputs(name: str, *known: Any) -> int:
    """Returns the first number of outputs that is known."""
    number = next((one for one in known if one is not None), None)
    if number is None:
        raise UsageError(
            f"{shown(name)}: its number of outputs is not known; give --arg num_classes=N (num_classes in network.args)"
        )
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise UsageError(f"network.args: num_classes must be a whole number above 0, not {shown(repr(number))}")
    return number


def _zoo(name: str) -> Any:
    """Returns the module timm; raises a UsageError if it has no network of this name."""
    zoo = torch_compat.timm()
    if not zoo.is_model(name):
        near = difflib.get_close_matches(name, zoo.list_models(), n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "name a network of your own as package.module:factory"
        raise UsageError(f"network.name: timm has no {shown(repr(name))}; {hint}")
    return zoo


def _create(zoo: Any, name: str, outputs: int, **arguments: Any) -> Any:
    return zoo.create_model(name, num_classes=outputs, **arguments)


def _classifier_outputs(zoo: Any, name: str, state: Mapping[str, Tensor]) -> int | None:
    """Returns the rows of the classifier's weight in a checkpoint of a timm network."""
    config = zoo.get_pretrained_cfg(zoo.models.get_arch_name(name))
    names = getattr(config, "classifier", None)
    for classifier in (names,) if isinstance(names, str) else names or ():
        for key, tensor in state.items():
            if f".{key}".endswith(f".{classifier}.weight"):
                return len(tensor)
    return None


def _takes(make: Callable[..., Any], argument: str) -> bool:
    parameters = inspect.signature(make).parameters.values()
    return any(one.name == argument or one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)


def _call(name: str, make: Callable[..., Any], outputs: int, arguments: Mapping[str, Any]) -> nn.Module:
    what = f"cannot be built with {shown(dict(arguments))}: "
    module = factory.run(name, lambda: make(outputs, **arguments), what)
    if not isinstance(module, nn.Module):
        raise UsageError(f"{shown(name)}: returned {type(module).__name__}, not a torch.nn.Module")
    return module
