"""The tensors in the bytes of a checkpoint: of a safetensors file, and of a pickled state dict, without running code.

Only dense tensors of the types that weights have are returned. Everything else is refused with one line.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gramcli.errors import ArtefactError
from gramcli.network import pickled_values
from gramcli.network.checkpoint_file import BLOCK, first_line, no_checkpoint, require_archive
from gramcli.network.pickled_tensor import PickledTensor, Storage
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
_USABLE = {*(str(dtype).removeprefix("torch.") for dtype in _DTYPES.values()), "complex128"}
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
"""What a file of torch before 1.6 begins with."""


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
        try:
            weights[name] = flat.reshape(stored.shape)
        except (RuntimeError, TypeError):  # a shape without numbers whose other sizes are beyond all bounds
            raise ArtefactError(f"{shown(path)}: {shown(name)} is no dense tensor; save it as one") from None
    if not weights:
        raise _no_weights(path)
    return weights


def of_pickle(content: bytearray, path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a state dict that torch.save wrote; it may be part of a larger checkpoint.

    Raises:
        ArtefactError: It holds no weights, or tensors that are not dense.
        UnsafeError: It holds objects whose loading could run code, or is no archive as torch writes it.
    """
    with memoryview(content) as view:
        if content[:4] == b"PK\3\4":  # checked on the bytes that are loaded, too
            file = io.BufferedReader(_Bytes(view))
            require_archive(file, len(content), path)
            with zipfile.ZipFile(file) as archive:
                found, numbers = _of_archive(archive, path)
                return _built(_weights(found, path), numbers, path)
        found, numbers = _of_old_file(view, path)
        return _built(_weights(found, path), numbers, path)


def _weights(found: Any, path: Path) -> dict[str, PickledTensor]:
    """Returns the tensors of the innermost state dict of a checkpoint."""
    opened: dict[int, Any] = {}
    while isinstance(found, dict):
        if id(found) in opened:
            raise ArtefactError(
                f"{shown(path)}: its state_dict holds itself, so it has no weights: save the state dict of the network"
            )
        opened[id(found)] = found
        weights = {str(name): value for name, value in found.items() if isinstance(value, PickledTensor)}
        for name, one in weights.items():
            if not one.is_dense:
                raise ArtefactError(f"{shown(path)}: {shown(name)} is no dense tensor; save it as one")
            if one.dtype not in _USABLE:
                raise _other_type(path, name, one.dtype)
        nested = next((found[name] for name in _NESTS if isinstance(found.get(name), dict)), None)
        if nested is None and weights:
            return weights
        found = nested
    raise _no_weights(path)


_Numbers = Callable[[Storage], bytearray]
"""Returns the bytes of a storage."""


def _built(weights: Mapping[str, PickledTensor], numbers: _Numbers, path: Path) -> dict[str, Tensor]:
    """Returns tensors with their numbers; those of one storage share them."""
    read: dict[str, Tensor] = {}
    built: dict[str, Tensor] = {}
    for name, one in weights.items():
        dtype = getattr(torch, one.dtype)
        if not prod(one.shape):
            built[name] = torch.empty(one.shape, dtype=dtype)
            continue
        if one.storage.key not in read:
            content = numbers(one.storage)
            if len(content) != one.storage.size:
                raise no_checkpoint(path, f"the numbers of {shown(name)} are not all there; copy it again")
            read[one.storage.key] = torch.frombuffer(content, dtype=torch.uint8)
        flat = read[one.storage.key]
        flat = flat[: len(flat) // dtype.itemsize * dtype.itemsize].view(dtype)
        built[name] = flat.as_strided(one.shape, one.strides, one.offset)
    return built


def _of_archive(archive: zipfile.ZipFile, path: Path) -> tuple[Any, _Numbers]:
    """Returns the value of an archive's pickle, and how its numbers are read."""
    pickles = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise no_checkpoint(path, "an archive that torch.save has not written")
    folder = pickles[0].removesuffix("data.pkl")

    def record(name: str) -> bytearray:
        try:
            content = bytearray(archive.getinfo(name).file_size)
            with archive.open(name) as file:
                place = 0
                while block := file.read(BLOCK):
                    content[place : place + len(block)] = block
                    place += len(block)
        except MemoryError:
            raise
        except Exception as error:  # zipfile fails in many ways on a damaged archive
            raise no_checkpoint(path, f"{first_line(error)}; copy it again") from None
        return content

    if f"{folder}byteorder" in archive.namelist() and record(f"{folder}byteorder") != b"little":
        raise no_checkpoint(path, "its bytes are in the order of another processor; save it as safetensors")
    found, _ = pickled_values.read(memoryview(record(pickles[0])), 0, path, {})
    return found, lambda storage: record(f"{folder}data/{storage.key}")


def _of_old_file(content: memoryview, path: Path) -> tuple[Any, _Numbers]:
    """Returns the value of a file of torch before 1.6, and how its numbers are read.

    Five pickles stand in it: two versions, the sizes of C's types, the value, and the keys of the storages. The numbers
    of the storages follow in this order, each with their count before it.
    """
    storages: dict[str, Storage] = {}
    values, place = [], 0
    for _ in range(5):
        value, place = pickled_values.read(content, place, path, storages)
        values.append(value)
        if len(values) == 2 and values != [_MAGIC, _VERSION]:
            raise no_checkpoint(path, "a pickle that torch.save has not written")
    *_, found, keys = values
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != storages.keys():
        raise no_checkpoint(path, "the storages that it names are not those that it holds; save the state dict anew")
    starts: dict[str, int] = {}
    for key in keys:
        count = int.from_bytes(content[place : place + 8], "little")
        starts[key] = place + 8
        place += 8 + storages[key].size
        if count != storages[key].count or place > len(content) or len(starts) > len(keys):
            raise no_checkpoint(path, f"the storage {shown(key)} has not the size that is stated; copy it again")
    return found, lambda storage: bytearray(content[starts[storage.key] :][: storage.size])


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


def _other_type(path: Path, name: str, stored: str) -> ArtefactError:
    return ArtefactError(
        f"{shown(path)}: {shown(name)} is stored as {shown(stored)}, in which no weights are read; save it as float32"
    )


def _no_weights(path: Path) -> ArtefactError:
    return ArtefactError(f"{shown(path)}: holds no weights: save the state dict of the network")
