"""The header of a safetensors file: type, shape and position of each tensor, and metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from gramcli import json_values
from gramcli.text import shown

LONGEST = 100_000_000
"""Longest header in bytes. Other readers of the format have the same limit."""

_CODES = {
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "int64": "I64",
    "int32": "I32",
    "uint8": "U8",
    "bool": "BOOL",
}
_DTYPES = {code: dtype for dtype, code in _CODES.items()}

BITS = {
    "F4": 4,
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
"""Bits of one number, by the type codes of the format."""
DIMENSIONS = 32
"""Most dimensions of a tensor."""
NUMBERS = 2**48
"""Most numbers of a tensor. A tensor without numbers is bounded by the product of its other dimensions."""

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
"""dtype and shape by name of tensor."""


@dataclass(frozen=True)
class StoredTensor:
    """Type, shape and position of a tensor in its file."""

    dtype: str
    """Its name in numpy, or the code of the format; see `tensors` and `layout`."""
    shape: tuple[int, ...]
    offset: int
    """Bytes from the start of the file."""


def encode(metadata: Mapping[str, str], shapes: Shapes) -> bytes:
    """Returns the start of a file: the length of the header, then the header, padded to 8 bytes.

    Tensors follow in the order of `shapes`.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, (dtype, shape) in shapes.items():
        begin, end = end, end + np.dtype(dtype).itemsize * prod(shape)
        header[name] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def parse(head: bytes) -> dict[str, Any]:
    """Returns the header at the start of a file.

    Args:
        head: The length of the header, then the header.

    Raises:
        ValueError: It is not the JSON object that it must be, names a tensor twice, or is incomplete.
    """
    length = int.from_bytes(head[:8], "little")
    if len(head) < 8 or length > LONGEST or len(head) != 8 + length:
        raise ValueError(f"a header of {length} bytes")
    header = json_values.parse(head[8:])
    if not isinstance(header, dict):
        raise ValueError("the header is no JSON object")
    return header


def is_of_another_program(header: Mapping[str, Any]) -> bool:
    """Tells whether a header has tensors but no metadata of gramcli. One damaged byte does not make it look so."""
    metadata = header.get("__metadata__", {})
    tensors = [one for name, one in header.items() if name != "__metadata__"]
    has_tensors = bool(tensors) and all(isinstance(one, dict) and "data_offsets" in one for one in tensors)
    return has_tensors and isinstance(metadata, dict) and not {"kind", "sha256"} & metadata.keys()


def stated_size(header: Mapping[str, Any], start: int) -> int:
    """Returns where the last tensor of a header ends, in bytes from the start of the file.

    Raises:
        ValueError, KeyError, TypeError: It is not the header of a safetensors file.
    """
    ends = [one["data_offsets"][1] for name, one in header.items() if name != "__metadata__"]
    return start + max(ends, default=0)


def layout(header: Mapping[str, Any], start: int, size: int) -> dict[str, StoredTensor]:
    """Returns the tensors of a header without metadata, with the type codes of the format.

    Args:
        header: The header, without ``__metadata__``.
        start: Offset of the first tensor.
        size: Size of the file, where the last tensor must end. They follow each other without gaps.

    Raises:
        ValueError, KeyError, TypeError: The layout is another, or a type is unknown.
    """
    stored: dict[str, StoredTensor] = {}
    end = 0
    for name, one in sorted(header.items(), key=lambda item: _offsets(item[1])):
        shape, (first, stop), code = one["shape"], _offsets(one), one["dtype"]
        if not isinstance(shape, list) or len(shape) > DIMENSIONS or not all(map(_is_size, shape)):
            raise ValueError(f"{shown(name)}: its shape")
        if prod(max(size, 1) for size in shape) > NUMBERS:
            raise ValueError(f"{shown(name)}: its shape")
        if not isinstance(code, str) or code not in BITS:
            raise ValueError(f"{shown(name)}: its type")
        if first != end or 8 * (stop - first) != BITS[code] * prod(shape):
            raise ValueError(f"{shown(name)}: its place")
        stored[name] = StoredTensor(code, tuple(shape), start + first)
        end = stop
    if start + end != size:
        raise ValueError(f"{start + end} bytes, and the file has {size}")
    return stored


def tensors(header: Mapping[str, Any], start: int, size: int) -> dict[str, StoredTensor]:
    """Returns the tensors of a file of gramcli, with their types as numpy names them; see `layout`.

    Raises:
        ValueError, KeyError, TypeError: Also where a type is one that gramcli never writes.
    """
    stored = layout(header, start, size)
    return {name: StoredTensor(_DTYPES[one.dtype], one.shape, one.offset) for name, one in stored.items()}


def _offsets(tensor: Any) -> tuple[int, int]:
    if not isinstance(tensor, dict):
        raise ValueError("an entry is no tensor")
    first, stop = tensor["data_offsets"]
    if not _is_size(first) or not _is_size(stop):
        raise TypeError("data_offsets")
    return first, stop


def _is_size(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0
