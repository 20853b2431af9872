"""Watches one forward pass of a network and passes on every activation when it ends.

Forward hooks catch modules. A `TorchFunctionMode`, with a stack of the running modules, catches functions.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from gramcli.network import activations


@dataclass(frozen=True)
class ActivationCall:
    """One call of an activation, at its end."""

    path: str
    """Path of the module; for a function, of the innermost running module ("" for the network itself)."""
    function: str | None
    """Name of the function; None for a module."""
    call: int
    """Number of calls before this one."""
    kind: str
    """Class of the module, or name of the function."""
    refusal: str
    """Why it cannot be recorded, or ""."""
    source: Tensor | None
    """Its input; after an in-place activation the same tensor as its output."""
    output: Any

    @property
    def name(self) -> str:
        """Name of the layer."""
        return base_name(self.path, self.function) + (f"#{self.call}" if self.call else "")


def base_name(path: str, function: str | None) -> str:
    """Returns the name of a layer without its call index."""
    return path if function is None else f"{path}:{function}"


class _Watched(NamedTuple):
    """An activation of the network, whichever of its calls; see `ActivationCall`."""

    path: str
    function: str | None
    kind: str
    refusal: str


class ForwardHooks:
    """Watches one forward pass of a network.

    Args:
        module: The network.
        seen: Called with every activation when it ends, before anything else changes its output.
        tags: Follows which tensors have their channels last; only where functions are watched.
    """

    def __init__(
        self, module: nn.Module, seen: Callable[[ActivationCall], None], tags: ChannelsLast | None = None
    ) -> None:
        self.calls: Counter[str] = Counter()
        self._module, self._seen, self._tags = module, seen, tags
        self._running: list[str] = []
        self._inside = 0  # number of running modules that are activations: what these call is not counted again

    @contextlib.contextmanager
    def __call__(self, *, functions: bool) -> Iterator[None]:
        """Watches modules, and functions if asked, until the block ends.

        Every module gets a hook, since torch's fused transformer layers skip their activation if nothing is hooked.
        """
        with contextlib.ExitStack() as stack:
            for path, one in self._module.named_modules():
                before, after = self._hooks(path, one)
                stack.callback(one.register_forward_pre_hook(before).remove)
                stack.callback(one.register_forward_hook(after, with_kwargs=True).remove)
            if functions:
                stack.enter_context(_Functions(self._called))
            yield

    def _hooks(self, path: str, module: nn.Module) -> tuple[Callable[..., None], Callable[..., None]]:
        refusal = activations.refusal_of_module(module)
        watched = _Watched(path, None, type(module).__name__, refusal or "")

        def before(_module: nn.Module, _args: Any) -> None:
            self._running.append(path)
            self._inside += refusal is not None

        def after(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            self._running.pop()
            self._inside -= refusal is not None
            if refusal is not None and not self._inside:
                self._ended(watched, (*args, *kwargs.values()), output)

        return before, after

    def _called(self, function: Any, args: tuple[Any, ...], output: Any) -> None:
        refusal = activations.refusal_of_function(function)
        if refusal is not None and not self._inside:
            path = self._running[-1] if self._running else ""
            self._ended(_Watched(path, function.__name__, function.__name__, refusal), args, output)
        if self._tags is not None:
            self._tags.follow(activations.plain_name(function), args, output)

    def _ended(self, watched: _Watched, args: tuple[Any, ...], output: Any) -> None:
        source = next((one for one in args if isinstance(one, Tensor)), None)
        name = base_name(watched.path, watched.function)
        call = self.calls[name]
        self.calls[name] += 1
        self._seen(ActivationCall(watched.path, watched.function, call, watched.kind, watched.refusal, source, output))


class _Functions(TorchFunctionMode):
    """Calls `called` after every torch function, with its arguments and its output."""

    def __init__(self, called: Callable[[Any, tuple[Any, ...], Any], None]) -> None:
        super().__init__()
        self.called = called

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        self.called(func, (*args, *kwargs.values()), output)
        return output


# fmt: off
_PRODUCERS = frozenset(("linear", "layer_norm", "rms_norm"))
_KEEPERS = activations.FUNCTIONS | activations.REFUSED.keys() | {
    "dropout", "alpha_dropout", "feature_alpha_dropout", "contiguous", "clone", "detach", "to", "type", "float", "half",
    "bfloat16", "add", "iadd", "radd", "sub", "isub", "mul", "imul", "rmul", "div", "truediv",
    "chunk", "split", "getitem", "narrow",  # a part of it, with as many dimensions
}
# fmt: on


class ChannelsLast:
    """Tensors with channels in the last dimension: outputs of a Linear or LayerNorm, until dimensions are moved."""

    def __init__(self) -> None:
        self._tensors: MutableMapping[Tensor, bool] = WeakIdKeyDictionary()

    def __contains__(self, tensor: object) -> bool:
        return isinstance(tensor, Tensor) and tensor in self._tensors

    def follow(self, function: str, args: tuple[Any, ...], output: Any) -> None:
        """Notes whether the output of a function has its channels last, given its arguments."""
        for one in output if isinstance(output, list | tuple) else (output,):
            if not isinstance(one, Tensor):
                continue
            if function in _PRODUCERS or (function in _KEEPERS and any(self._layout_of(arg, one) for arg in args)):
                self._tensors[one] = True
            else:
                self._tensors.pop(one, None)  # its dimensions may have been moved in place

    def _layout_of(self, arg: Any, output: Tensor) -> bool:
        # an argument that was broadcast to more positions or dimensions does not tell where the output's channels are
        return arg in self and arg.dim() == output.dim() and arg.numel() >= output.numel()
