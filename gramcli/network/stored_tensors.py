"""The tensors in the bytes of a checkpoint: of a safetensors file, and of a pickled state dict, without running code.

Only dense tensors of the types that weights have are returned. Everything else is refused with one line.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gramcli.errors import ArtefactError, UnsafeError
from gramcli.network.checkpoint_file import first_line, no_checkpoint, require_archive
from gramcli.system import safetensors_header
from gramcli.text import shown

_NESTS = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "weights", "params")

_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
}
"""Types of weights and buffers by their codes in safetensors. Floats of up to 8 bits mean nothing without scales."""
_USABLE = {*_DTYPES.values(), torch.complex128}


def of_safetensors(head: bytes, body: bytearray, path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a safetensors file as views of its bytes.

    Args:
        head: Length and header, which were checked.
        body: The bytes of the tensors.
        path: The file, for messages.

    Raises:
        ArtefactError: There is none, or one is of a type that weights do not have.
    """
    header = safetensors_header.parse(head)
    header.pop("__metadata__", None)
    weights: dict[str, Tensor] = {}
    for name, stored in safetensors_header.layout(header, 0, len(body)).items():
        dtype = _DTYPES.get(stored.dtype)
        if dtype is None:
            raise _other_type(path, name, stored.dtype)
        count, offset, content = prod(stored.shape), stored.offset, body
        if offset % dtype.itemsize:  # the file keeps no order of sizes: not every processor reads across a border
            content, offset = body[offset : offset + count * dtype.itemsize], 0
        flat = (
            torch.frombuffer(content, dtype=dtype, count=count, offset=offset) if count else torch.empty(0, dtype=dtype)
        )
        weights[name] = flat.reshape(stored.shape)
    if not weights:
        raise _no_weights(path)
    return weights


def of_pickle(content: bytearray, path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a state dict that torch.save wrote; it may be part of a larger checkpoint.

    Raises:
        ArtefactError: It holds no weights, or tensors that are not dense.
        UnsafeError: It holds objects whose loading could run code, or is no archive as torch writes it.
    """
    if content[:4] == b"PK\3\4":  # checked on the bytes that are loaded, too
        with memoryview(content) as view:
            require_archive(io.BufferedReader(_Bytes(view)), len(content), path)
    found = _load(content, path)
    opened: list[Any] = []
    while isinstance(found, Mapping):
        if any(found is one for one in opened):
            raise ArtefactError(
                f"{shown(path)}: its state_dict holds itself, so it has no weights: save the state dict of the network"
            )
        opened.append(found)
        weights = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
        for name, tensor in weights.items():
            _require_dense(name, tensor, path)
        nested = next((found[name] for name in _NESTS if isinstance(found.get(name), Mapping)), None)
        if nested is None and weights:
            return {name: tensor.detach() for name, tensor in weights.items()}
        found = nested
    raise _no_weights(path)


def _load(content: bytearray, path: Path) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"), memoryview(content) as view:
            return torch.load(io.BufferedReader(_Bytes(view)), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except pickle.UnpicklingError as error:
        if refused := _refused_object(str(error)):
            raise UnsafeError(
                f"{shown(path)}: holds {shown(refused)}, which could run code and is not loaded: "
                "save the state dict alone, best as safetensors"
            ) from None
        raise no_checkpoint(path, first_line(error)) from None
    except Exception as error:  # torch.load fails in many ways on what is no checkpoint
        raise no_checkpoint(path, first_line(error)) from None


class _Bytes(io.RawIOBase):
    """Bytes in memory as a file; unlike `io.BytesIO` it does not copy them."""

    def __init__(self, content: memoryview) -> None:
        super().__init__()
        self._content, self._position = content, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        start = (0, self._position, len(self._content))[whence]
        if start + offset < 0:
            raise ValueError("a place before the start of the file")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        part = self._content[self._position : self._position + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)


def _require_dense(name: str, tensor: Tensor, path: Path) -> None:
    """Raises an ArtefactError unless a tensor is a dense one of a type that weights have, within its storage."""
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
    dense = plain and not tensor.is_quantized and not tensor.is_nested and tensor.device.type == "cpu"
    # a view can make a tensor larger than memory out of a few stored numbers
    if not dense or tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
        raise ArtefactError(f"{shown(path)}: {shown(name)} is no dense tensor; save it as one")
    if tensor.dtype not in _USABLE:
        raise _other_type(path, name, str(tensor.dtype).removeprefix("torch."))


def _other_type(path: Path, name: str, stored: str) -> ArtefactError:
    return ArtefactError(
        f"{shown(path)}: {shown(name)} is stored as {shown(stored)}, in which no weights are read; save it as float32"
    )


def _no_weights(path: Path) -> ArtefactError:
    return ArtefactError(f"{shown(path)}: holds no weights: save the state dict of the network")


def _refused_object(message: str) -> str:
    """Returns the object that torch's restricted unpickler refused, or "" if it failed for another reason."""
    found = re.search(r"GLOBAL (\S+)|(?:but got|function) (<[^>]+>|\S+)", message)
    return (found[1] or found[2]) if found else ""
