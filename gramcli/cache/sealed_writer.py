"""Writes sealed files (`gramcli.cache.sealed`) through a memory map, so that a file may be larger than memory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from gramcli.cache import sealed
from gramcli.cache.sealed import BLOCK, NO_DIGEST, Array
from gramcli.system import durable_files, safetensors_header
from gramcli.system.safetensors_header import Shapes


class Arrays(dict[str, Array]):
    """Arrays in the memory map of a file that is being written."""

    content: mmap.mmap

    def release(self) -> None:
        """Frees the memory of what was written so far. The arrays can still be read and changed."""
        _release(self.content)


@contextlib.contextmanager
def create(
    path: Path, kind: str, shapes: Shapes, about: Mapping[str, Any], *, below: Path | None = None
) -> Iterator[Arrays]:
    """Yields arrays of zeros in a new file. When the block ends, the file is sealed and replaces `path`.

    Args:
        path: Final path.
        kind: Kind of file, which `gramcli.cache.sealed.load` checks.
        shapes: dtype and shape by name of tensor.
        about: JSON values to store with the tensors.
        below: Folder of the cache that the file belongs to; None for a file that the user named.

    Raises:
        DamagedError, UsageError: Something other than a file stands there; see `durable_files.staged`.
        ResourceError: It cannot be written.
    """
    # tensors with the largest items come first, so that every tensor is aligned for readers that map the file
    shapes = dict(sorted(shapes.items(), key=lambda item: -np.dtype(item[1][0]).itemsize))
    described = json.dumps({"format": sealed.FORMATS.get(kind, 1), **about})
    header = safetensors_header.encode({"kind": kind, "sha256": NO_DIGEST, "gramcli": described}, shapes)
    with durable_files.staged(path, below=below) as descriptor:
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
        position = header.index(NO_DIGEST.encode())
        content[position : position + 64] = _digest(content).encode()
        durable_files.flush(content)


def _digest(content: mmap.mmap) -> str:
    """Returns the SHA-256 of a mapped file, with little of it in memory at a time."""
    digest = hashlib.sha256()
    with memoryview(content) as whole:
        for begin in range(0, len(whole), BLOCK):
            digest.update(whole[begin : begin + BLOCK])
            _release(content)
    return digest.hexdigest()


def _release(content: mmap.mmap) -> None:
    if hasattr(mmap, "MADV_DONTNEED"):  # a shared mapping is backed by the file, so no data is lost
        content.madvise(mmap.MADV_DONTNEED)


def write(
    path: Path, kind: str, tensors: Mapping[str, Array], about: Mapping[str, Any], *, below: Path | None = None
) -> None:
    """Writes tensors that are in memory; see `create`."""
    shapes = {name: (str(tensor.dtype), tensor.shape) for name, tensor in tensors.items()}
    with create(path, kind, shapes, about, below=below) as arrays:
        for name in shapes:
            arrays[name][...] = tensors[name]
