"""The values in the pickle of a state dict, read without Python's unpickler, so that nothing in the file is called.

A pickle is a program that builds values. Here only the steps are carried out that `torch.save` writes for dicts, lists,
numbers, texts and dense tensors. A tensor is returned as a description: the storage that holds its numbers, and where
in it. Names of functions and classes are compared with a list, and never imported.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gramcli.errors import UnsafeError
from gramcli.network import pickled_tensor
from gramcli.network.checkpoint_file import no_checkpoint
from gramcli.network.pickled_tensor import DTYPES, SIZES, PickledTensor, PickleError, Storage, whole_numbers
from gramcli.text import shown

LONGEST = 1 << 24
"""Most bytes of a pickle. It describes a tensor in about 150, and may take a hundred times its size in memory."""
_LONGEST_NAME = 300
_OTHER_KEYS = 10_000
"""Most keys that are large whole numbers; anybody can choose many that a dict is slow with."""
_MOST_ARGUMENTS = 10
"""Arguments of a call; a long tuple that is handed to many calls would take for ever."""

_CALLED = (
    "collections.OrderedDict",
    "torch.Size",
    "torch.device",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_parameter",
)
_SETS_ATTRIBUTES = ("torch._tensor._rebuild_from_type_v2", "torch._utils._rebuild_parameter_with_state")
_OTHER_TENSORS = (
    "torch._utils._rebuild_",
    "torch._tensor._rebuild_",
    "torch.nested.",
    "torch.serialization._get_layout",
)
"""How the names of functions begin that make tensors which are not dense, or not on the CPU."""


@dataclass(frozen=True)
class _Named:
    """A class, function or type that a pickle names."""

    name: str


class _OrderedDict(dict[Any, Any]):
    """A dict to which a pickle may give an attribute, which is not kept."""


_Mark: Any = object()


class _RefusedError(Exception):
    """What a pickle holds that no state dict does."""


def read(content: memoryview, start: int, path: Path, storages: dict[str, Storage]) -> tuple[Any, int]:
    """Reads one pickle.

    Args:
        content: The bytes.
        start: Where the pickle begins in them.
        path: The file, for messages.
        storages: Gets the storages that the pickle names, by key.

    Returns:
        Its value, which has only dicts, lists, tuples, numbers, texts, `PickledTensor` and other descriptions in it,
        and the place after its end.

    Raises:
        ArtefactError: It is damaged, or holds tensors that are not dense.
        UnsafeError: It holds something that could run code.
    """
    reader = _Reader(content[start : start + LONGEST], storages)
    try:
        value = reader.value()
    except _RefusedError as error:
        raise UnsafeError(
            f"{shown(path)}: holds {shown(str(error))} and is not loaded: save the state dict anew, best as safetensors"
        ) from None
    except PickleError as error:
        raise no_checkpoint(path, f"{shown(str(error))}; save the state dict anew, best as safetensors") from None
    except (IndexError, KeyError, ValueError, TypeError, AttributeError, struct.error):
        reason = "its pickle is damaged" if len(content) - start < LONGEST else f"its pickle exceeds {LONGEST} bytes"
        raise no_checkpoint(
            path, f"{reason}; copy it again, or save the state dict anew, best as safetensors"
        ) from None
    return value, start + reader.place


class _Reader:
    """Carries out the steps of a pickle."""

    def __init__(self, content: memoryview, storages: dict[str, Storage]) -> None:
        self._content, self.place, self._storages = content, 0, storages
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._other_keys = self._items = 0

    def value(self) -> Any:
        """Returns the value that the pickle builds."""
        content, steps = self._content, _STEPS
        while True:
            code = content[self.place]
            self.place += 1
            if code == _STOP:
                value = self._stack.pop()
                if value is _Mark or self._stack:
                    raise ValueError("rest")
                return value
            step = steps.get(code)
            if step is None:
                raise PickleError(f"its pickle has a step {code:#x}, which torch.save does not write")
            step(self)

    def _take(self, size: int) -> memoryview:
        part = self._content[self.place : self.place + size]
        if len(part) < size:
            raise ValueError("ends early")
        self.place += size
        return part

    def _unpacked(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _text(self, size: int) -> None:
        self._push(str(self._take(size), "utf-8", "surrogatepass"))

    def _marked(self) -> list[Any]:
        """Takes off the stack what lies above the last mark."""
        stack = self._stack
        first = len(stack) - 1
        while stack[first] is not _Mark:  # raises an IndexError, at the latest, where there is none
            first -= 1
            if first < 0:
                raise ValueError("no mark")
        values = stack[first + 1 :]
        del stack[first:]
        return values

    def _last(self, kind: type) -> Any:
        value = self._stack[-1]
        if not isinstance(value, kind):
            raise PickleError("its pickle puts values into something that is no list or dict")
        return value

    def _tuple(self, size: int) -> None:
        values = tuple(self._stack[-size:])
        if len(values) < size or _Mark in values:
            raise ValueError("too few values")
        self._stack[-size:] = [values]

    def _set(self, pairs: list[Any]) -> None:
        table = self._last(dict)
        if len(pairs) % 2:
            raise ValueError("key without value")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            table[self._key(key)] = value

    def _key(self, key: Any) -> str | int:
        if isinstance(key, int):
            self._other_keys += not -1 <= key < 1 << 24
            if self._other_keys <= _OTHER_KEYS:
                return key
        elif isinstance(key, str):
            return key
        raise _RefusedError("a dict with keys that no state dict has")

    def _set_one(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def _append(self) -> None:
        value = self._stack.pop()
        self._last(list).append(value)

    def _extend(self) -> None:
        values = self._marked()
        self._last(list).extend(values)

    def _remember(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def _global(self) -> None:
        names = []
        for _ in range(2):
            line = bytes(self._content[self.place : self.place + _LONGEST_NAME]).partition(b"\n")
            if not line[1]:
                raise ValueError("no end of a name")
            names.append(line[0].decode())
            self.place += len(line[0]) + 1
        module, name = names
        full = f"{module}.{name}"
        storage = module in ("torch", "torch.storage") and (name in DTYPES or name == "UntypedStorage")
        if not (full in _CALLED or storage or (module == "torch" and name in SIZES)):
            if full.startswith(_OTHER_TENSORS) and full not in _SETS_ATTRIBUTES:
                raise PickleError(f"{full} makes a tensor that is not dense")
            raise _RefusedError(f"{full.removeprefix('builtins.')}, which could run code")
        self._push(_Named(full))

    def _call(self) -> None:
        args, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, _Named) or not isinstance(args, tuple) or len(args) > _MOST_ARGUMENTS:
            raise _RefusedError("a call that torch.save does not write")
        if function.name == "collections.OrderedDict":
            items = args[0] if args else []  # Python 2 gave the items to the class
            self._items += len(items)  # many calls may get the same list
            if self._items > len(self._content):
                raise ValueError("items")
            self._push(_OrderedDict((self._key(key), value) for key, value in items))
        elif function.name == "torch.Size":
            self._push(whole_numbers(*args))
        elif function.name == "torch.device":
            self._push(function)  # all is loaded on the CPU
        elif function.name == "torch._utils._rebuild_parameter":
            if not isinstance(args[0], PickledTensor):
                raise ValueError("parameter")
            self._push(args[0])
        elif function.name.startswith("torch._utils._rebuild_tensor"):
            self._push(pickled_tensor.rebuilt(function.name, *args))
        else:
            raise _RefusedError(f"a call of {function.name}, which state dicts do not have,")

    def _build(self) -> None:
        state, value = self._stack.pop(), self._stack[-1]
        if not isinstance(value, _OrderedDict) or not isinstance(state, dict) or not state.keys() <= {"_metadata"}:
            raise _RefusedError("an object with attributes, which could run code,")

    def _persistent(self) -> None:
        about = self._stack.pop()
        if not isinstance(about, tuple) or len(about) not in (5, 6) or about[0] != "storage":
            raise PickleError("its pickle refers to something other than numbers")
        kind, key, (count,) = about[1], about[2], whole_numbers((about[4],))
        name = kind.name.rpartition(".")[2] if isinstance(kind, _Named) else ""
        if not isinstance(key, str) or (name not in DTYPES and name != "UntypedStorage"):
            raise ValueError("storage")
        whole = Storage(key, DTYPES.get(name, ""), count, 0, count)
        if self._storages.setdefault(key, whole) != whole:
            raise PickleError(f"it names the storage {key} with two types or sizes")
        if len(about) == 5 or about[5] is None:
            self._push(whole)
            return
        first, part = whole_numbers(about[5][1:3])
        if first + part > count:
            raise ValueError("part")
        self._push(Storage(key, whole.dtype, count, first, part))

    def _refuse_object(self) -> None:
        raise _RefusedError("an object, whose making could run code,")


_STOP = ord(".")
_STEPS: dict[int, Callable[[_Reader], None]] = {
    0x80: lambda one: one._take(1).release(),
    ord("c"): _Reader._global,
    ord("R"): _Reader._call,
    ord("b"): _Reader._build,
    ord("Q"): _Reader._persistent,
    0x81: _Reader._refuse_object,
    ord("("): lambda one: one._push(_Mark),
    ord("a"): _Reader._append,
    ord("e"): _Reader._extend,
    ord("s"): _Reader._set_one,
    ord("u"): lambda one: one._set(one._marked()),
    ord("t"): lambda one: one._push(tuple(one._marked())),
    0x85: lambda one: one._tuple(1),
    0x86: lambda one: one._tuple(2),
    0x87: lambda one: one._tuple(3),
    ord("N"): lambda one: one._push(None),
    0x88: lambda one: one._push(True),
    0x89: lambda one: one._push(False),
    ord(")"): lambda one: one._push(()),
    ord("]"): lambda one: one._push([]),
    ord("}"): lambda one: one._push({}),
    ord("J"): lambda one: one._push(one._unpacked("<i")),
    ord("K"): lambda one: one._push(one._unpacked("<B")),
    ord("M"): lambda one: one._push(one._unpacked("<H")),
    0x8A: lambda one: one._push(int.from_bytes(one._take(one._unpacked("<B")), "little", signed=True)),
    ord("G"): lambda one: one._push(one._unpacked(">d")),
    ord("X"): lambda one: one._text(one._unpacked("<I")),
    ord("U"): lambda one: one._text(one._unpacked("<B")),
    ord("h"): lambda one: one._push(one._memo[one._unpacked("<B")]),
    ord("j"): lambda one: one._push(one._memo[one._unpacked("<I")]),
    ord("q"): lambda one: one._remember(one._unpacked("<B")),
    ord("r"): lambda one: one._remember(one._unpacked("<I")),
}
"""What each code of a pickle of protocol 2 does; see `pickletools` in Python's library."""
