"""Safetensors files that know whether they are whole: statistics, decisions and exported models.

The format itself has no checksum of its payload. The metadata of a sealed file holds the SHA-256 of the file, taken
with that digest's own 64 characters set to zeros. Tensors are written in place through a memory map, so a file may be
larger than memory, and any safetensors reader opens it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from gramcli.errors import ArtefactError, DamagedError, NewerError, ResourceError
from gramcli.system import durable_files
from gramcli.text import shown

FORMAT = 1

_NO_DIGEST = "0" * 64
_HASHED = 1 << 24
"""Bytes of a file that are in memory while it is hashed."""
_MOST_HEADER = 100_000_000
"""As in the format's own readers."""
_CODES = {
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "int64": "I64",
    "int32": "I32",
    "uint8": "U8",
    "bool": "BOOL",
}

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Sealed:
    """An open sealed file: its metadata now, its tensors one at a time."""

    path: Path
    digest: str
    """SHA-256 as stored; names this very content."""
    about: Mapping[str, Any]
    """What the writer said of it."""
    names: tuple[str, ...]

    def shapes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Returns dtype and shape of every tensor, as `create` takes them, without reading any.

        Raises:
            DamagedError: One has a type that is never written.
        """
        names = {code: dtype for dtype, code in _CODES.items()}
        try:
            with safe_open(self.path, framework="numpy") as file:
                slices = {name: file.get_slice(name) for name in self.names}
                return {name: (names[one.get_dtype()], tuple(one.get_shape())) for name, one in slices.items()}
        except (SafetensorError, KeyError, OSError):
            raise DamagedError(f"{shown(self.path)}: holds tensors of a kind that is never written") from None

    def numbers(self, name: str, which: slice | None = None, *, least: float | None = None) -> Array:
        """Reads numbers that must be finite, and not less than `least`; see `rows`.

        Raises:
            ArtefactError: The file is no longer the one that was opened.
            DamagedError: It has no such tensor, or other numbers.
        """
        array = self.rows(name, which)
        sound = array.dtype.kind in "fiu" and np.isfinite(array).all()
        if not sound or (least is not None and (array < least).any()):
            raise DamagedError(f"{shown(self.path)}: {shown(name)} holds numbers that are never written; make it again")
        return array

    def __getitem__(self, name: str) -> Array:
        """Reads one tensor; see `rows`."""
        return self.rows(name)

    def rows(self, name: str, which: slice | None = None) -> Array:
        """Reads one tensor, or some of its rows.

        Raises:
            ArtefactError: The file is no longer the one that was opened.
            DamagedError: It has no such tensor.
        """
        try:
            with safe_open(self.path, framework="numpy") as file:
                if file.metadata()["sha256"] == self.digest:
                    array: Array = file.get_tensor(name) if which is None else file.get_slice(name)[which]
                    return array
        except FileNotFoundError:
            pass
        except SafetensorError:
            raise DamagedError(f"{shown(self.path)}: holds no {shown(name)}; make it again") from None
        raise ArtefactError(f"{shown(self.path)}: was replaced while it was read; run the same command again")


def encode_header(kind: str, shapes: Mapping[str, tuple[str, tuple[int, ...]]], about: Mapping[str, Any]) -> bytes:
    """Lays out a file: length, JSON header padded to 8 bytes; tensors follow in the order given."""
    header: dict[str, Any] = {
        "__metadata__": {"kind": kind, "sha256": _NO_DIGEST, "gramcli": json.dumps({"format": FORMAT, **about})}
    }
    end = 0
    for name, (dtype, shape) in shapes.items():
        begin, end = end, end + np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64))
        header[name] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


class Arrays(dict[str, Array]):
    """Arrays backed by a file that is being written."""

    content: mmap.mmap

    def release(self) -> None:
        """Gives back the memory of what was written so far, which stays in the file and can be read and changed."""
        _release(self.content)


@contextlib.contextmanager
def create(
    path: Path, kind: str, shapes: Mapping[str, tuple[str, tuple[int, ...]]], about: Mapping[str, Any]
) -> Iterator[Arrays]:
    """Yields zeroed arrays backed by the file; when the block ends, it is sealed and takes the place of `path`.

    Args:
        path: Final name.
        kind: What the file is, checked by `load`.
        shapes: dtype and shape by tensor name.
        about: JSON values that describe it.

    Raises:
        ResourceError: It cannot be written.
    """
    # widest items first keep every tensor aligned, as readers that map the file expect
    shapes = dict(sorted(shapes.items(), key=lambda item: -np.dtype(item[1][0]).itemsize))
    header = encode_header(kind, shapes, about)
    with durable_files.staged(path) as descriptor:
        arrays = Arrays()
        offset = len(header)
        sizes = [np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64)) for dtype, shape in shapes.values()]
        content = durable_files.mapped(
            descriptor, offset + sum(sizes)
        )  # closed with its last array, which may be held on
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
    """Hashes a mapped file and holds little of it in memory."""
    digest = hashlib.sha256()
    with memoryview(content) as whole:
        for begin in range(0, len(whole), _HASHED):
            digest.update(whole[begin : begin + _HASHED])
            _release(content)
    return digest.hexdigest()


def _release(content: mmap.mmap) -> None:
    if hasattr(mmap, "MADV_DONTNEED"):  # of a shared mapping nothing is lost: the pages are the file's
        content.madvise(mmap.MADV_DONTNEED)


def write(path: Path, kind: str, tensors: Mapping[str, Array], about: Mapping[str, Any]) -> None:
    """Writes tensors that are in memory; see `create`."""
    shapes = {name: (str(tensor.dtype), tensor.shape) for name, tensor in tensors.items()}
    with create(path, kind, shapes, about) as arrays:
        for name in shapes:
            arrays[name][...] = tensors[name]


def load(path: Path, kind: str, advice: str) -> Sealed:
    """Opens a sealed file after checking that it is whole.

    Args:
        path: The file.
        kind: What it must be.
        advice: What to do when it is missing or of no use.

    Raises:
        ArtefactError: Missing, not sealed at all, of another kind, or of a newer format.
        DamagedError: Its content is not what was sealed.
        ResourceError: It cannot be read.
    """
    try:
        digest = _check(path, kind, advice)
        with safe_open(path, framework="numpy") as tensors:
            metadata = tensors.metadata()
            names = tuple(tensors.keys())
        about, found = json.loads(metadata["gramcli"]), metadata["kind"]
        newer = about["format"] > FORMAT
    except FileNotFoundError:
        raise ArtefactError(f"{shown(path)}: is not there; {advice}") from None
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError):
        raise DamagedError(f"{shown(path)}: is damaged; {advice}") from None
    except OSError as error:
        raise ResourceError(f"{shown(path)}: cannot be read: {error.strerror}") from None
    if found != kind:
        raise ArtefactError(f"{shown(path)}: holds {shown(found)}, not {kind}; {advice}")
    if newer:
        raise NewerError(f"{shown(path)}: was made by a newer gramcli (format {about['format']}); update gramcli")
    return Sealed(path, digest, about, names)


def _of_others(path: Path) -> bool:
    """Returns whether it is a safetensors file that was never sealed; one damaged byte does not make it look so."""
    try:
        with safe_open(path, framework="numpy") as tensors:
            return bool(tensors.keys()) and not {"kind", "sha256"} & (tensors.metadata() or {}).keys()
    except (SafetensorError, OSError, ValueError):
        return False


def _check(path: Path, kind: str, advice: str) -> str:
    """Returns the stored digest if it is that of the content, which is read: a fault of a mapped page would kill."""
    if _of_others(path):
        raise ArtefactError(f"{shown(path)}: holds tensors, but is no {kind} of gramcli; {advice}")
    mark = b'"sha256":"'
    with path.open("rb", buffering=0) as file:
        head = file.read(8)
        head += file.read(min(int.from_bytes(head, "little"), _MOST_HEADER))
        place = head.find(mark) + len(mark)
        stored = head[place : place + 64]
        digest = hashlib.sha256(head[:place] + _NO_DIGEST.encode() + head[place + 64 :])
        part = memoryview(bytearray(_HASHED))
        while count := file.readinto(part):
            digest.update(part[:count])
    found = digest.hexdigest()
    if place < len(mark) or found.encode() != stored:
        raise DamagedError(f"{shown(path)}: is damaged (its SHA-256 differs from the stored one); {advice}")
    return found
