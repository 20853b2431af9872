"""Finds the activations of a network, and records their descriptors while it runs.

A layer is one call of one activation: (module path, call index), or (module path : function, call index) where the
network calls a function. The descriptor is computed at the end of the activation, before an in-place operation can
overwrite the feature maps, and no feature maps are kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from gramcli.errors import ArtefactError, UsageError
from gramcli.network import activations
from gramcli.network.hooks import ActivationCall, ChannelsLast, ForwardHooks, base_name
from gramcli.network.row_sums import row_sums
from gramcli.system.profiler import NoStopwatch, Stopwatch
from gramcli.text import shown


@dataclass(frozen=True)
class Layer:
    """One call of one activation."""

    name: str
    """``layer1.0.relu``, its second call ``layer1.0.relu#1``; ``conv_block1:relu_`` for a function."""
    path: str
    """Path of the module; for a function, of the module that calls it ("" for the network itself)."""
    function: str | None
    """Name of the function; None for a module."""
    call: int
    """Index of the call, from 0."""
    kind: str
    """Class of the module, or name of the function."""
    channels: int
    """K, the length of the descriptor."""
    positions: int
    """S, for an input of the length of one window."""
    channel_dim: int
    """Dimension of the feature maps that holds the channels."""
    calls: int = 1
    """How often the network calls this module or function in one forward pass."""

    @property
    def bytes(self) -> int:
        """Size of one clip's descriptor."""
        return 4 * self.channels


@dataclass(frozen=True)
class Survey:
    """The activations that ran in one forward pass."""

    layers: tuple[Layer, ...]
    """Those that can be recorded, in the order they ran."""
    missed: tuple[tuple[str, str, str], ...]
    """Those that cannot: name, type, reason."""


def survey(module: nn.Module, inputs: Tensor, channel_dims: Mapping[str, Any] | None = None) -> Survey:
    """Runs a network once and lists its activations.

    Channels are the last dimension where the activation follows a Linear or a LayerNorm, else dimension 1.

    Args:
        module: The network, in eval mode.
        inputs: Its input, (N, ...); a single clip is doubled.
        channel_dims: Channel dimension by glob of layer names, where that rule is wrong; if several globs match, the
            last one counts.

    Raises:
        UsageError: A glob of `channel_dims` matches no layer, or its dimension holds no channels.
        ArtefactError: The network does not run on these inputs.
    """
    inputs = inputs if len(inputs) > 1 else torch.cat([inputs, inputs])
    dims = dict(channel_dims or {})
    layers: list[Layer] = []
    missed: list[tuple[str, str, str]] = []
    tags = ChannelsLast()

    def seen(call: ActivationCall) -> None:
        maps = call.output
        reason = call.refusal or _unusable(maps, len(inputs))
        if reason:
            missed.append((call.name, call.kind, reason))
            return
        dim = maps.dim() - 1 if call.source in tags else 1
        for glob in (glob for glob in dims if fnmatchcase(call.name, glob)):
            dim = _checked(dims[glob], maps, glob, call.name)
        channels = maps.shape[dim]
        positions = maps[0].numel() // channels
        layers.append(Layer(call.name, call.path, call.function, call.call, call.kind, channels, positions, dim))

    watch = ForwardHooks(module, seen, tags)
    try:
        with torch.inference_mode(), watch(functions=True):
            module(inputs)
    except UsageError:
        raise
    except Exception as error:  # whatever somebody's network raises
        raise ArtefactError(
            f"the network does not run on an input of shape {tuple(inputs.shape)}: "
            f"{type(error).__name__}: {shown(str(error).strip().partition(chr(10))[0])}"
        ) from error
    for glob in dims:
        if not any(fnmatchcase(layer.name, glob) for layer in layers):
            raise UsageError(f"network.channel_dims: {shown(glob)!r} matches no layer; gramcli layers lists all layers")
    for path, one in module.named_modules():
        if activations.refusal_of_module(one) == "" and not watch.calls[path]:
            missed.append((path, type(one).__name__, "did not run"))
    counted = (dataclasses.replace(one, calls=watch.calls[base_name(one.path, one.function)]) for one in layers)
    return Survey(tuple(counted), tuple(missed))


def choose(layers: Sequence[Layer], globs: Sequence[str]) -> tuple[Layer, ...]:
    """Returns the layers that any of the globs matches, in the order they run.

    Raises:
        UsageError: A glob matches no layer.
    """
    for glob in globs:
        if not any(fnmatchcase(layer.name, glob) for layer in layers):
            raise UsageError(
                f"network.layers: {shown(glob)!r} matches none of {len(layers)} layers; gramcli layers lists them"
            )
    return tuple(layer for layer in layers if any(fnmatchcase(layer.name, glob) for glob in globs))


class Recorder:
    """Runs a network and records the descriptors of chosen layers.

    Args:
        module: The network, in eval mode.
        layers: Layers that a `survey` of it found.
        measure: Computes (N, ...) from the feature maps of N clips and their channel dimension.
    """

    def __init__(
        self,
        module: nn.Module,
        layers: Sequence[Layer],
        measure: Callable[[Tensor, int], Tensor] = row_sums,
    ) -> None:
        self.module = module
        self.measure = measure
        self.stopwatch: Stopwatch = NoStopwatch()
        """Times the computation of descriptors, as the step ``reduce``."""
        self.layers = {layer.name: layer for layer in layers}
        self._functions = any(layer.function is not None for layer in layers)

    def __call__(self, inputs: Tensor) -> tuple[Any, dict[str, Tensor]]:
        """Runs the network once, without gradients.

        Returns:
            What the network returns, and `measure` (ĝ, (N, K_l) float32) by layer, in the order of the layers given.

        Raises:
            ArtefactError: Layers run differently than in the survey: other shapes, or another number of calls.
        """
        found: dict[str, Tensor] = {}

        def seen(call: ActivationCall) -> None:
            layer = self.layers.get(call.name)
            if layer is None:
                return
            maps = call.output
            reason = _unusable(maps, len(inputs))
            if not reason and (maps.dim() <= layer.channel_dim or maps.shape[layer.channel_dim] != layer.channels):
                reason = f"shape {tuple(maps.shape)} has not {layer.channels} channels in dimension {layer.channel_dim}"
            if reason:
                raise _changed(layer, reason)
            # sums are float32, whatever the network computes in
            with self.stopwatch.step("reduce"), torch.autocast(maps.device.type, enabled=False):
                found[layer.name] = self.measure(maps, layer.channel_dim)

        watch = ForwardHooks(self.module, seen)
        with torch.inference_mode(), watch(functions=self._functions):
            outputs = self.module(inputs)
        for layer in self.layers.values():
            calls = watch.calls[base_name(layer.path, layer.function)]
            if calls != layer.calls:
                raise _changed(layer, f"ran {calls} times, not {layer.calls}")
        return outputs, {name: found[name] for name in self.layers}


def _unusable(maps: Any, clips: int) -> str:
    """Returns why the output of an activation has no descriptor, or ""."""
    if not isinstance(maps, Tensor):
        return f"a {type(maps).__name__}, not a tensor"
    if not maps.is_floating_point():
        return f"{str(maps.dtype).removeprefix('torch.')}, not floating point"
    if maps.dim() < 2 or not maps.numel():
        return f"shape {tuple(maps.shape)} has no channels"
    if len(maps) != clips:
        return f"dimension 0 is {len(maps)}, not the batch of {clips}"
    return ""


def _checked(dim: Any, maps: Tensor, glob: str, name: str) -> int:
    if not isinstance(dim, int) or isinstance(dim, bool) or not -maps.dim() < dim < maps.dim() or dim == 0:
        raise UsageError(
            f"network.channel_dims: {shown(glob)!r} = {shown(repr(dim))}: {shown(name)} has shape "
            f"{tuple(maps.shape)}; give a dimension from 1 to {maps.dim() - 1}"
        )
    return dim % maps.dim()


def _changed(layer: Layer, what: str) -> ArtefactError:
    return ArtefactError(
        f"layer {shown(layer.name)}: {what}: a layer that changes between inputs cannot be recorded; "
        "leave it out with network.layers"
    )
