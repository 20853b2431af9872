"""Builds a network from a timm name or the user's own factory, loads its weights, and puts it in eval mode."""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import importlib.machinery
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gramcli.errors import UsageError
from gramcli.network import checkpoint, torch_compat
from gramcli.settings.schema import NetworkSettings
from gramcli.text import shown


@dataclass(frozen=True)
class BuiltNetwork:
    """A network and what tells it from others."""

    module: nn.Module
    """In eval mode, on the CPU, float32 unless the factory says otherwise."""
    architecture: str
    arguments: dict[str, Any]
    """Arguments that it was built with, besides the number of outputs."""
    weights: str
    """SHA-256 of the checkpoint; without one, of the random weights."""
    outputs: int
    """Number of outputs."""
    code: str = ""
    """File whose code ran to build it; empty for a network of timm."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """``gramcli`` metadata of the checkpoint, from the same bytes as the weights."""

    def notes(self) -> Iterator[str]:
        """Yields notes for the user on how it was built."""
        if self.code:
            yield f"{shown(self.architecture)}: ran the code of {shown(self.code)}; use only factories that you trust"


def require_name(network: NetworkSettings) -> str:
    """Returns the name of the network; raises a UsageError if none is set."""
    if network.name is None:
        raise UsageError(
            "no network given; name it with --network (extract, train) or as the argument of layers, or set "
            "network.name in gramcli.toml"
        )
    return network.name


def build(
    network: NetworkSettings,
    num_classes: int | None,
    seed: int,
    folder: Path,
    stated_settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> BuiltNetwork:
    """Builds the network of the settings and loads its weights.

    Args:
        network: Name, arguments and weights.
        num_classes: Number of outputs; if None, ``args.num_classes`` or, for a network of timm, the checkpoint's.
        seed: Of the random weights, where no checkpoint is given.
        folder: First on the import path while a factory is imported and called.
        stated_settings: Settings that the metadata of the checkpoint must still state; None for any.

    Raises:
        UsageError: Unknown network, arguments it does not take, or an unknown number of outputs.
        NoInputError, ArtefactError, UnsafeError: The checkpoint cannot be read or does not fit.
    """
    name = require_name(network)
    path = None if network.weights is None else Path(network.weights)
    opened = None if path is None else checkpoint.read(path)
    if opened is not None:
        opened.require_stated(stated_settings)
    state = None if opened is None else opened.weights()
    arguments = dict(network.args)
    stated = arguments.pop("num_classes", None)
    if None not in (num_classes, stated) and num_classes != stated:
        raise UsageError(f"network.args: num_classes = {stated!r} contradicts the {num_classes} classes of the network")
    code = ""
    with torch.random.fork_rng(devices=[]):  # leaves the caller's random numbers alone
        torch.manual_seed(seed)
        if ":" in name:
            outputs = _outputs(name, num_classes, stated, None)
            with _first_on_path(folder, name.partition(":")[0]):
                factory = _factory(name)
                code = _file_of(name)
                if not _takes(factory, "in_chans") and arguments.get("in_chans") == NetworkSettings().args["in_chans"]:
                    del arguments["in_chans"]
                module = _call(name, factory, outputs, arguments)
        else:
            zoo = _zoo(name)
            stored = None if state is None else _classifier_outputs(zoo, name, state)
            outputs = _outputs(name, num_classes, stated, stored)
            module = _call(name, functools.partial(_create, zoo, name), outputs, arguments)
    if opened is None or state is None:
        weights, metadata = checkpoint.state_digest(module), {}
    else:
        checkpoint.load_into(module, state, opened.path)
        weights, metadata = opened.digest, dict(opened.metadata)
    return BuiltNetwork(module.eval(), name, arguments, weights, outputs, code, metadata)


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


def _factory(name: str) -> Callable[..., Any]:
    module_name, _, attribute = name.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise UsageError(f"network.name: {shown(name)}: there is no module {shown(error.name)!r}") from None
    except AttributeError:
        raise UsageError(f"network.name: {shown(name)}: the module has no {shown(attribute)!r}") from None
    except Exception as error:  # importing somebody's module can raise anything
        raise UsageError(f"network.name: {shown(name)}: {_line(error)}") from error
    if not callable(factory):
        raise UsageError(f"network.name: {shown(name)}: is not a function or class")
    return factory  # type: ignore[no-any-return]


def _file_of(name: str) -> str:
    module = name.partition(":")[0]
    return str(getattr(sys.modules.get(module), "__file__", None) or module)


def _takes(factory: Callable[..., Any], argument: str) -> bool:
    parameters = inspect.signature(factory).parameters.values()
    return any(one.name == argument or one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)


def _call(name: str, factory: Callable[..., Any], outputs: int, arguments: Mapping[str, Any]) -> nn.Module:
    try:
        module = factory(outputs, **arguments)
    except Exception as error:  # a factory is somebody's code and can raise anything
        raise UsageError(f"{shown(name)}: cannot be built with {shown(dict(arguments))}: {_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise UsageError(f"{shown(name)}: returned {type(module).__name__}, not a torch.nn.Module")
    return module


@contextlib.contextmanager
def _first_on_path(folder: Path, module_name: str) -> Iterator[None]:
    """Puts the folder first on the import path; its module replaces one of the same name that was imported before."""
    top = module_name.partition(".")[0]
    importlib.invalidate_caches()
    here = importlib.machinery.PathFinder.find_spec(top, [str(folder)])
    if here is not None and here.origin is not None:
        imported = getattr(sys.modules.get(top), "__spec__", None)
        if imported is not None and imported.origin != here.origin:
            for name in [name for name in sys.modules if name == top or name.startswith(f"{top}.")]:
                del sys.modules[name]
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {shown(str(error).strip().partition(chr(10))[0])}"
