"""The header of a safetensors file: type, shape and position of each tensor, and metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

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

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
"""dtype and shape by name of tensor."""


@dataclass(frozen=True)
class StoredTensor:
    """Type, shape and position of a tensor in its file."""

    dtype: str
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
    """Returns the header at the start of a file; {} if there is none, as in a damaged file."""
    try:
        header = json.loads(head[8:])
    except (ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


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


def tensors(header: Mapping[str, Any], start: int, size: int) -> dict[str, StoredTensor]:
    """Returns the tensors of a header without metadata. They must follow each other without gaps.

    Args:
        header: The header, without ``__metadata__``.
        start: Offset of the first tensor.
        size: Size of the file, where the last tensor must end.

    Raises:
        ValueError, KeyError, TypeError: The layout is another, or a type is one that gramcli never writes.
    """
    stored: dict[str, StoredTensor] = {}
    end = 0
    for name, one in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        shape, (first, stop) = tuple(one["shape"]), one["data_offsets"]
        dtype = _DTYPES[one["dtype"]]
        valid = all(isinstance(number, int) and number >= 0 for number in (*shape, first, stop))
        if not valid or first != end or stop - first != np.dtype(dtype).itemsize * prod(shape):
            raise ValueError(name)
        stored[name] = StoredTensor(dtype, shape, start + first)
        end = stop
    if start + end != size:
        raise ValueError("size")
    return stored
