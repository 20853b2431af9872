"""A tensor as a pickle describes it: which numbers of a checkpoint it has, by place, shape and strides."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

DTYPES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}  # fmt: skip
"""dtype by class of storage."""
SIZES = {
    **dict.fromkeys(("uint8", "int8", "bool"), 1), **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 2),
    **dict.fromkeys(("float32", "int32", "uint32"), 4),
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 8), "complex128": 16,
    **dict.fromkeys(("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"), 1),
}  # fmt: skip
"""Bytes of a number by dtype."""


@dataclass(frozen=True)
class Storage:
    """Numbers of one type in a checkpoint, or a part of them."""

    key: str
    dtype: str
    """Type of the numbers; "" for plain bytes."""
    count: int
    """Numbers of the whole storage, or its bytes where no dtype is given."""
    first: int
    """Place of the first number that belongs to this part."""
    part: int
    """Numbers of this part."""

    @property
    def size(self) -> int:
        """Bytes of the whole storage."""
        return self.count * SIZES.get(self.dtype, 1)


@dataclass(frozen=True)
class PickledTensor:
    """A tensor whose numbers all lie in a storage."""

    storage: Storage
    dtype: str
    offset: int
    """Place of the first number from the start of the whole storage."""
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def is_dense(self) -> bool:
        """Whether it has no more numbers than its storage; a view can make more than memory holds out of a few."""
        return prod(self.shape) * SIZES[self.dtype] <= self.storage.size


class PickleError(Exception):
    """What is wrong with a pickle."""


def whole_numbers(numbers: Any) -> tuple[int, ...]:
    """Returns numbers that must be whole, not negative and moderate."""
    if not isinstance(numbers, list | tuple) or len(numbers) > 64:
        raise TypeError("numbers")
    for number in numbers:
        if not isinstance(number, int) or not 0 <= number < 1 << 48:
            raise ValueError("numbers")
    if prod(number or 1 for number in numbers) >= 1 << 62:
        raise PickleError("it describes a tensor with more numbers than any memory holds")
    return tuple(numbers)


def rebuilt(function: str, storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> PickledTensor:
    """Returns the tensor that one of torch's functions would make; `rest` is its dtype, if any, behind other things."""
    if not isinstance(storage, Storage):
        raise TypeError("storage")
    dtype = storage.dtype
    if function.endswith("_v3"):
        dtype, rest = rest[2].name.removeprefix("torch."), rest[:2] + rest[3:]
    if dtype not in SIZES:
        raise ValueError("dtype")
    if len(rest) > 2 and rest[2]:
        raise PickleError("it holds a tensor that is stored as a conjugate or negative view of other numbers")
    (offset,), shape = whole_numbers((offset,)), whole_numbers(shape)
    if len(shape) != len(strides):
        raise ValueError("strides")
    strides = tuple(one for stride in strides for one in whole_numbers((stride,)))
    size, unit = SIZES[dtype], SIZES.get(storage.dtype, 1)
    end = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True)) + 1
    if prod(shape) and end * size > storage.part * unit:
        raise PickleError("it describes a tensor that reaches beyond the numbers that are stored")
    return PickledTensor(storage, dtype, offset + storage.first, shape, strides)
