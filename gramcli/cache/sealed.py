"""Sealed files: safetensors files with their own SHA-256, for statistics, decisions and exported models.

The safetensors format has no checksum of the tensors. The metadata of a sealed file holds the SHA-256 of the whole
file, computed with the 64 characters of the digest set to zeros. Any safetensors reader can open the file. A file is
opened once, its digest is checked, and tensors are read from this open file. So a file that replaces it later does not
matter. `gramcli.cache.sealed_writer` writes such files.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli import json_values
from gramcli.cache.advice import CHANGED, advice
from gramcli.errors import ArtefactError, DamagedError, GramcliError, NewerError, ResourceError
from gramcli.system import opener, safetensors_header
from gramcli.system.safetensors_header import StoredTensor
from gramcli.text import shown

FORMATS = {"decision": 2, "model": 2}
"""Format version by kind of file; 1 for all other kinds."""

NO_DIGEST = "0" * 64
"""What stands in the place of the digest while it is computed."""
BLOCK = 1 << 24
"""Number of bytes in memory at once while a file is hashed."""

LARGEST = 1e30
"""Largest absolute value of a number that counts as sound; sums and squares of larger ones would overflow."""

Array = npt.NDArray[Any]


class _File:
    """An open file. It is closed when no object refers to it any more."""

    def __init__(self, path: Path, below: Path | None) -> None:
        self.descriptor = opener.open_file(path, below)
        weakref.finalize(self, os.close, self.descriptor)
        self.state = self._state()
        self.size = self.state[0]

    def _state(self) -> tuple[int, int]:
        about = os.fstat(self.descriptor)
        return about.st_size, about.st_mtime_ns

    def is_unchanged(self) -> bool:
        """Tells by size and time whether nobody has written to the file since it was opened."""
        return self._state() == self.state

    def read(self, offset: int, size: int) -> bytearray:
        """Reads bytes; fewer than `size` if the file is shorter."""
        content = bytearray()
        while len(content) < size and (block := os.pread(self.descriptor, min(BLOCK, size - len(content)), offset)):
            content += block
            offset += len(block)
        return content


@dataclass(frozen=True, eq=False)
class Sealed:
    """An open sealed file, whose digest was right when it was opened. Methods read tensors from the file."""

    path: Path
    kind: str
    """Kind of file: statistics, decision, model, ..."""
    digest: str
    """SHA-256 of the file, as stored in it."""
    about: Mapping[str, Any]
    """JSON values that were stored with the tensors."""
    _file: _File
    _tensors: Mapping[str, StoredTensor]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tensors."""
        return tuple(self._tensors)

    def shapes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Returns dtype and shape of each tensor, in the form that `gramcli.cache.sealed_writer.create` takes."""
        return {name: (stored.dtype, stored.shape) for name, stored in self._tensors.items()}

    def numbers(self, name: str, which: slice | None = None, *, least: float | None = None) -> Array:
        """Reads a tensor whose numbers must be finite, at least `least`, and of moderate size; see `rows`.

        Raises:
            DamagedError: There is no such tensor, or it holds other numbers.
        """
        array = self.rows(name, which)
        sound = array.dtype.kind in "fiu" and np.isfinite(array).all() and not (np.abs(array) > LARGEST).any()
        if not sound or (least is not None and (array < least).any()):
            raise damaged(self, f"{shown(name)} holds numbers that gramcli never writes")
        return array

    def __getitem__(self, name: str) -> Array:
        """Reads one tensor; see `rows`."""
        return self.rows(name)

    def rows(self, name: str, which: slice | None = None) -> Array:
        """Reads one tensor, or a range of its rows.

        Raises:
            DamagedError: There is no such tensor, or the file was truncated after it was opened.
        """
        if name not in self._tensors:
            raise damaged(self, f"{shown(name)} is missing")
        stored = self._tensors[name]
        shape, offset, itemsize = stored.shape, stored.offset, np.dtype(stored.dtype).itemsize
        if which is not None:
            first, stop, step = which.indices(shape[0])
            if step != 1:
                raise ValueError("a range of rows must have the step 1")
            offset += first * prod(shape[1:]) * itemsize
            shape = (max(stop - first, 0), *shape[1:])
        size = prod(shape) * itemsize
        content = self._file.read(offset, size)
        if len(content) < size or not self._file.is_unchanged():  # the digest was that of other bytes
            raise DamagedError(f"{shown(self.path)}: {CHANGED}")
        return np.frombuffer(content, stored.dtype).reshape(shape)


def damaged(file: Sealed, fault: str) -> DamagedError:
    """Returns the error for a file with a right digest, but with content that gramcli does not write."""
    return DamagedError(f"{shown(file.path)}: {fault}; {advice(file.kind)}")


@contextlib.contextmanager
def reading(file: Sealed) -> Iterator[None]:
    """Turns an exception while a file is interpreted into an error that names the file and says what to do.

    A file with a right digest may still hold anything, because anybody who writes a file can compute its digest.

    Raises:
        DamagedError: A field is missing, or values do not fit each other.
    """
    try:
        yield
    except KeyError as error:
        raise damaged(file, f"field '{shown(error.args[0])}' is missing") from None
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        which = f" ({shown(error)})" if isinstance(error, ValueError) and error.args else ""
        raise damaged(file, f"holds values that do not fit each other{which}") from None


def load(path: Path, kind: str, *, below: Path | None = None) -> Sealed:
    """Opens a sealed file and checks its digest.

    Args:
        path: The file.
        kind: Kind that the file must have.
        below: Folder of the cache that the file belongs to; None for a file that the user named.

    Raises:
        ArtefactError: The file is missing, is of another program or another kind, or has a newer format.
        DamagedError: Its digest is wrong, or its layout is not that of gramcli.
        ResourceError: It cannot be read.
    """
    remedy = advice(kind)
    try:
        file = _File(path, below)
        head, header = _read_header(file)
        if below is None and kind == "model" and b'"sha256":"' not in head:  # a file that the user named
            raise ArtefactError(f"{shown(path)}: is no model of gramcli; name a file that gramcli export made")
        if safetensors_header.is_of_another_program(header):
            raise ArtefactError(f"{shown(path)}: holds tensors, but is no {kind} file of gramcli; {remedy}")
        if file.size > safetensors_header.stated_size(header, len(head)):  # perhaps by far, so it is not hashed
            raise DamagedError(f"{shown(path)}: is damaged (its header does not fit its {file.size} bytes); {remedy}")
        digest = _checked_digest(file, head)
        if digest is None:
            raise DamagedError(f"{shown(path)}: is damaged (its SHA-256 differs from the stored one); {remedy}")
        metadata = header.pop("__metadata__")
        about, stored_kind = json_values.parse(metadata["gramcli"]), metadata["kind"]
        if not isinstance(stored_kind, str) or not isinstance(about, dict):
            raise TypeError("kind or content")
        if stored_kind != kind:
            raise ArtefactError(f"{shown(path)}: is a {shown(stored_kind)} file, not a {kind} file; {remedy}")
        if not isinstance(about["format"], int) or isinstance(about["format"], bool) or about["format"] < 1:
            raise TypeError("format")
        if about["format"] > FORMATS.get(kind, 1):
            raise NewerError(f"{shown(path)}: was made by a newer gramcli (format {about['format']}); update gramcli")
        tensors = safetensors_header.tensors(header, len(head), file.size)
    except FileNotFoundError:
        raise ArtefactError(f"{shown(path)}: is not there; {remedy}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DamagedError(f"{shown(path)}: is damaged; {remedy}") from None
    except OSError as error:
        raise ResourceError(f"{shown(path)}: cannot be read: {error.strerror}") from None
    return Sealed(path, kind, digest, about, file, tensors)


def kind_of(path: Path) -> str:
    """Returns the kind that a sealed file states, without a check of its digest; empty for any other file.

    Raises:
        ResourceError: It cannot be read.
    """
    try:
        _, header = _read_header(_File(path, None))
        return str(header["__metadata__"]["kind"])
    except (GramcliError, KeyError, TypeError):
        return ""
    except OSError as error:
        raise ResourceError(f"{shown(path)}: cannot be read: {error.strerror}") from None


def _read_header(file: _File) -> tuple[bytes, dict[str, Any]]:
    """Returns the bytes before the first tensor, and the header in them; {} if there is none, as in a damaged file."""
    head = bytes(file.read(0, 8))
    size = int.from_bytes(head, "little")
    if size > min(safetensors_header.LONGEST, file.size - 8):
        return head, {}
    head += file.read(8, size)
    try:
        return head, safetensors_header.parse(head)
    except ValueError:
        return head, {}


def _checked_digest(file: _File, head: bytes) -> str | None:
    """Returns the stored digest if it is that of the content, else None."""
    mark = b'"sha256":"'
    position = head.find(mark) + len(mark)
    digest = hashlib.sha256(head[:position] + NO_DIGEST.encode() + head[position + 64 :])
    offset = len(head)
    while block := os.pread(file.descriptor, BLOCK, offset):
        digest.update(block)
        offset += len(block)
    computed = digest.hexdigest()
    return computed if position >= len(mark) and computed.encode() == head[position : position + 64] else None
