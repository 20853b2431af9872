"""Sealed files: safetensors files that carry their own SHA-256, used for statistics, decisions and exported models.

The safetensors format has no checksum of its payload. The metadata of a sealed file holds the SHA-256 of the whole
file, taken with that digest's own 64 characters set to zeros. Any safetensors reader opens the file. Tensors are
written through a memory map, so a file may be larger than memory. They are read from the very file whose digest was
checked: it is opened once, and what takes its name later does not matter.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.errors import ArtefactError, DamagedError, NewerError, ResourceError
from gramcli.system import durable_files
from gramcli.text import shown

FORMATS = {"decision": 2, "model": 2}
"""Version of what each kind of file holds; 1 for all others."""

_NO_DIGEST = "0" * 64
_BLOCK = 1 << 24
"""Bytes that are in memory at once while a file is hashed."""
_MOST_HEADER = 100_000_000
"""Largest header in bytes, as in the format's own readers."""
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

Array = npt.NDArray[Any]
Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
"""dtype and shape by name of tensor."""


@dataclass(frozen=True)
class _Tensor:
    """Where a tensor lies in its file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    """Bytes from the start of the file."""


class _File:
    """An open file, closed with the last object that reads from it."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would be waited for otherwise
        weakref.finalize(self, os.close, self.descriptor)
        self.size = os.fstat(self.descriptor).st_size

    def read(self, offset: int, size: int) -> bytearray:
        """Returns bytes; fewer than asked for where the file has become shorter."""
        found = bytearray()
        while len(found) < size and (block := os.pread(self.descriptor, min(_BLOCK, size - len(found)), offset)):
            found += block
            offset += len(block)
        return found


@dataclass(frozen=True, eq=False)
class Sealed:
    """An open sealed file whose digest was right when it was opened. Tensors are read when asked for."""

    path: Path
    kind: str
    """What it is: statistics, decision, model, ..."""
    digest: str
    """SHA-256 as stored. It names this very content."""
    about: Mapping[str, Any]
    """JSON values that the writer stored beside the tensors."""
    _file: _File
    _tensors: Mapping[str, _Tensor]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tensors."""
        return tuple(self._tensors)

    def shapes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Returns dtype and shape of every tensor, as `create` takes them."""
        return {name: (one.dtype, one.shape) for name, one in self._tensors.items()}

    def numbers(self, name: str, which: slice | None = None, *, least: float | None = None) -> Array:
        """Reads numbers that must be finite and at least `least`; see `rows`.

        Raises:
            DamagedError: There is no such tensor, or it holds other numbers.
        """
        array = self.rows(name, which)
        sound = array.dtype.kind in "fiu" and np.isfinite(array).all()
        if not sound or (least is not None and (array < least).any()):
            raise damaged(self, f"{shown(name)} holds numbers that gramcli never writes")
        return array

    def __getitem__(self, name: str) -> Array:
        """Reads one tensor; see `rows`."""
        return self.rows(name)

    def rows(self, name: str, which: slice | None = None) -> Array:
        """Reads one tensor, or a range of its rows.

        Raises:
            DamagedError: There is no such tensor, or the file has become shorter since it was opened.
        """
        if name not in self._tensors:
            raise damaged(self, f"{shown(name)} is missing")
        one = self._tensors[name]
        shape, offset, itemsize = one.shape, one.offset, np.dtype(one.dtype).itemsize
        if which is not None:
            first, stop, step = which.indices(shape[0])
            if step != 1:
                raise ValueError("rows are read in one range")
            offset += first * prod(shape[1:]) * itemsize
            shape = (max(stop - first, 0), *shape[1:])
        size = prod(shape) * itemsize
        content = self._file.read(offset, size)
        if len(content) < size:
            raise damaged(self, "the file has become shorter while it was read")
        return np.frombuffer(content, one.dtype).reshape(shape)


ADVICE = {
    "statistics": "run gramcli calibrate again",
    "decision": "run gramcli select-layers again",
    "model": "make it again with gramcli export",
    "finished": "run gramcli extract again",
    "training": "delete it to begin the training anew",
}
"""What to do about a file of each kind that is missing or damaged."""


def damaged(file: Sealed, what: str) -> DamagedError:
    """Returns the error of a file whose digest is right but whose content is not what gramcli writes."""
    return DamagedError(f"{shown(file.path)}: {what}; {ADVICE.get(file.kind, 'make it again')}")


@contextlib.contextmanager
def reading(file: Sealed) -> Iterator[None]:
    """Turns what goes wrong while the parts of a file are read into one error that names the file and what to do.

    A file whose digest is right may still hold anything, as whoever can write a file can seal it.

    Raises:
        DamagedError: A field is missing, or values do not fit each other.
    """
    try:
        yield
    except KeyError as error:
        raise damaged(file, f"field '{shown(error.args[0])}' is missing") from None
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        what = f" ({shown(error)})" if isinstance(error, ValueError) and error.args else ""
        raise damaged(file, f"holds values that do not fit each other{what}") from None


def encode_header(kind: str, shapes: Shapes, about: Mapping[str, Any]) -> bytes:
    """Returns the start of a file: length, then JSON header padded to 8 bytes. Tensors follow in the order given."""
    described = json.dumps({"format": FORMATS.get(kind, 1), **about})
    header: dict[str, Any] = {"__metadata__": {"kind": kind, "sha256": _NO_DIGEST, "gramcli": described}}
    end = 0
    for name, (dtype, shape) in shapes.items():
        begin, end = end, end + np.dtype(dtype).itemsize * prod(shape)
        header[name] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


class Arrays(dict[str, Array]):
    """Arrays backed by a file that is being written."""

    content: mmap.mmap

    def release(self) -> None:
        """Gives back the memory of what was written so far. It stays in the file and can be read and changed."""
        _release(self.content)


@contextlib.contextmanager
def create(path: Path, kind: str, shapes: Shapes, about: Mapping[str, Any]) -> Iterator[Arrays]:
    """Yields zeroed arrays backed by a new file. When the block ends, the file is sealed and takes the place of `path`.

    Args:
        path: Final name.
        kind: What the file is, checked by `load`.
        shapes: dtype and shape by tensor name.
        about: JSON values that describe it.

    Raises:
        ResourceError: It cannot be written.
    """
    # tensors of the widest numbers come first, which keeps every tensor aligned for readers that map the file
    shapes = dict(sorted(shapes.items(), key=lambda item: -np.dtype(item[1][0]).itemsize))
    header = encode_header(kind, shapes, about)
    with durable_files.staged(path) as descriptor:
        arrays = Arrays()
        offset = len(header)
        sizes = [np.dtype(dtype).itemsize * prod(shape) for dtype, shape in shapes.values()]
        content = durable_files.mapped(descriptor, offset + sum(sizes))  # closed with the last array that uses it
        content[:offset] = header
        arrays.content = content
        for (name, (dtype, shape)), size in zip(shapes.items(), sizes, strict=True):
            arrays[name] = np.ndarray(shape, dtype, buffer=content, offset=offset)
            offset += size
        yield arrays
        place = header.index(_NO_DIGEST.encode())
        content[place : place + 64] = _digest(content).encode()
        durable_files.flush(content)


def _digest(content: mmap.mmap) -> str:
    """Returns the SHA-256 of a mapped file, and holds little of it in memory meanwhile."""
    digest = hashlib.sha256()
    with memoryview(content) as whole:
        for begin in range(0, len(whole), _BLOCK):
            digest.update(whole[begin : begin + _BLOCK])
            _release(content)
    return digest.hexdigest()


def _release(content: mmap.mmap) -> None:
    if hasattr(mmap, "MADV_DONTNEED"):  # the pages of a shared mapping belong to the file, so nothing is lost
        content.madvise(mmap.MADV_DONTNEED)


def write(path: Path, kind: str, tensors: Mapping[str, Array], about: Mapping[str, Any]) -> None:
    """Writes tensors that are in memory; see `create`."""
    shapes = {name: (str(tensor.dtype), tensor.shape) for name, tensor in tensors.items()}
    with create(path, kind, shapes, about) as arrays:
        for name in shapes:
            arrays[name][...] = tensors[name]


def load(path: Path, kind: str) -> Sealed:
    """Opens a sealed file and checks its digest.

    Args:
        path: The file.
        kind: What it must be.

    Raises:
        ArtefactError: It is missing, not sealed at all, of another kind, or of a newer format.
        DamagedError: Its content is not what was sealed, or not laid out as gramcli does.
        ResourceError: It cannot be read.
    """
    advice = ADVICE.get(kind, "make it again")
    try:
        file = _File(path)
        head = bytes(file.read(0, 8))
        head += file.read(8, min(int.from_bytes(head, "little"), _MOST_HEADER))
        header = _parsed(head)
        if _never_sealed(header):
            raise ArtefactError(f"{shown(path)}: holds tensors, but is no {kind} file of gramcli; {advice}")
        digest = _checked_digest(file, head)
        if digest is None:
            raise DamagedError(f"{shown(path)}: is damaged (its SHA-256 differs from the stored one); {advice}")
        metadata = header.pop("__metadata__")
        about, found = json.loads(metadata["gramcli"]), metadata["kind"]
        if not isinstance(found, str):
            raise TypeError("kind")
        if found != kind:
            raise ArtefactError(f"{shown(path)}: is a {shown(found)} file, not a {kind} file; {advice}")
        if about["format"] > FORMATS.get(kind, 1):
            raise NewerError(f"{shown(path)}: was made by a newer gramcli (format {about['format']}); update gramcli")
        tensors = _laid_out(header, len(head), file.size)
    except FileNotFoundError:
        raise ArtefactError(f"{shown(path)}: is not there; {advice}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DamagedError(f"{shown(path)}: is damaged; {advice}") from None
    except OSError as error:
        raise ResourceError(f"{shown(path)}: cannot be read: {error.strerror}") from None
    return Sealed(path, kind, digest, about, file, tensors)


def _parsed(head: bytes) -> dict[str, Any]:
    """Returns the JSON header of a safetensors file; {} where there is none, which the digest then tells."""
    try:
        header = json.loads(head[8:])
    except (ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def _never_sealed(header: Mapping[str, Any]) -> bool:
    """Tells whether this is a safetensors file of another program. One damaged byte does not make it look so."""
    metadata = header.get("__metadata__", {})
    tensors = [one for name, one in header.items() if name != "__metadata__"]
    laid_out = bool(tensors) and all(isinstance(one, dict) and "data_offsets" in one for one in tensors)
    return laid_out and isinstance(metadata, dict) and not {"kind", "sha256"} & metadata.keys()


def _checked_digest(file: _File, head: bytes) -> str | None:
    """Returns the stored digest if it is that of the content; None if not."""
    mark = b'"sha256":"'
    place = head.find(mark) + len(mark)
    digest = hashlib.sha256(head[:place] + _NO_DIGEST.encode() + head[place + 64 :])
    offset = len(head)
    while block := os.pread(file.descriptor, _BLOCK, offset):
        digest.update(block)
        offset += len(block)
    found = digest.hexdigest()
    return found if place >= len(mark) and found.encode() == head[place : place + 64] else None


def _laid_out(header: Mapping[str, Any], start: int, size: int) -> dict[str, _Tensor]:
    """Returns where the tensors lie. They must follow each other without gaps, up to the end of the file.

    Raises:
        ValueError, KeyError, TypeError: They do not, or have a type that is never written.
    """
    tensors: dict[str, _Tensor] = {}
    end = 0
    for name, one in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        shape, (first, stop) = tuple(one["shape"]), one["data_offsets"]
        dtype = _DTYPES[one["dtype"]]
        whole = all(isinstance(number, int) and number >= 0 for number in (*shape, first, stop))
        if not whole or first != end or stop - first != np.dtype(dtype).itemsize * prod(shape):
            raise ValueError(name)
        tensors[name] = _Tensor(dtype, shape, start + first)
        end = stop
    if start + end != size:
        raise ValueError("size")
    return tensors
