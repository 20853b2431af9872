"""A shard: the descriptors and logits of a fixed list of clips, as one HDF5 file that never changes.

The HDF5 library works in memory only, and never on the file itself. So a full disk cannot crash the interpreter, and no
byte is parsed before its digest is checked. The file begins with a user block of 512 bytes that holds the SHA-256 of
the rest. HDF5 viewers skip this block.

    descriptors/<layer>   (n, K_l) float32, ĝ of Eq. 5; NaN in failed rows
    logits                (n, outputs) float32; outputs may be 0
    key                   (n,) 64 characters, SHA-256 of the audio
    status                (n,) "ok", or why the clip failed
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gramcli.cache import regular_file
from gramcli.cache.advice import SHARD
from gramcli.errors import ArtefactError, DamagedError, GramcliError, NewerError, UnsafeError
from gramcli.text import shown

if TYPE_CHECKING:
    import h5py  # imported only where a shard is read or written, as classifying recordings does not need it

FORMAT = 1
OK = "ok"
"""Status of a row that can be used."""

_USER_BLOCK = 512
_MAGIC = b"gramcli shard\nsha256 "
_STATUS_BYTES = 200
_ALIGNMENT = 64

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Shard:
    """The rows of one shard."""

    keys: tuple[str, ...]
    """Key of each clip, 64 hexadecimal characters."""
    status: tuple[str, ...]
    """``"ok"`` or the reason of the failure, for each clip."""
    logits: Floats
    """Outputs of the network, (n, O); NaN in failed rows."""
    descriptors: Mapping[str, Floats]
    """Raw ĝ by layer, (n, K_l); NaN in failed rows."""
    means: Mapping[str, Floats] = field(default_factory=dict)
    """Channel means by layer, (n, K_l), in views that have them; NaN in failed rows."""

    def __post_init__(self) -> None:
        rows = len(self.keys)
        shapes = [len(self.status), len(self.logits), *map(len, (*self.descriptors.values(), *self.means.values()))]
        if any(rows != other for other in shapes):
            raise ValueError(f"a shard of {rows} keys has {shapes} rows of status, logits and descriptors")

    def usable(self) -> npt.NDArray[np.bool_]:
        """Returns which rows did not fail, (n,)."""
        return np.array([status == OK for status in self.status], dtype=bool)


def row_bytes(numbers: int) -> int:
    """Returns the bytes of a row with a number of float32 numbers, its key and its status."""
    return 4 * numbers + 64 + _STATUS_BYTES


def encode(shard: Shard, fingerprint: str) -> bytes:
    """Returns the bytes of the file. Equal shards give equal bytes.

    Args:
        shard: The rows.
        fingerprint: Fingerprint of the view that they belong to.
    """
    import h5py

    image = io.BytesIO()
    # a fixed format version, contiguous data and no time stamps give the same bytes each time
    kind = {"libver": ("v110", "v110"), "userblock_size": _USER_BLOCK}
    # aligned numbers can be used in place, without a copy
    with h5py.File(image, "w", **kind, alignment_threshold=_ALIGNMENT, alignment_interval=_ALIGNMENT) as file:
        file.attrs["gramcli_format"] = FORMAT
        # text of fixed length, as HDF5 stores other text in its global heap, which has no checksums
        file.attrs["fingerprint"] = np.bytes_(fingerprint)
        file.attrs["units"] = np.bytes_("descriptors: row sums of the Gram matrix of a layer's feature maps")
        for name, measured in (("descriptors", shard.descriptors), ("means", shard.means)):
            if measured or name == "descriptors":
                stored = file.create_group(name)
                for layer, values in measured.items():
                    stored.create_dataset(_escape(layer), data=np.ascontiguousarray(values, np.float32))
        file.create_dataset("logits", data=np.ascontiguousarray(shard.logits, np.float32))
        file.create_dataset("key", data=np.array([key.encode("ascii") for key in shard.keys], dtype="S64"))
        status = [text.encode("utf-8", "backslashreplace")[:_STATUS_BYTES] for text in shard.status]
        file.create_dataset("status", data=np.array(status, dtype=f"S{_STATUS_BYTES}"))
    content = bytearray(image.getbuffer())
    digest = hashlib.sha256(memoryview(content)[_USER_BLOCK:]).hexdigest()
    seal = _MAGIC + digest.encode() + b"\n"
    content[: len(seal)] = seal
    return bytes(content)


def decode(
    content: bytes, path: Path, fingerprint: str, layers: Mapping[str, int], *, with_means: bool = False
) -> Shard:
    """Reads a shard from the bytes of its file. Check their digest before; see `check`.

    Args:
        content: The whole file.
        path: Path of the file, for messages.
        fingerprint: Fingerprint of the view that it must belong to.
        layers: Number of channels of each layer to read, in this order.
        with_means: Whether to read channel means as well.

    Raises:
        DamagedError: A dataset is missing or has another type or shape.
        ArtefactError: The shard belongs to another view, or has a newer format.
        UnsafeError: It has links or external data, which gramcli never writes.
    """
    import h5py

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            return _decode(_Image(file, path, content), fingerprint, layers, with_means=with_means)
    except (GramcliError, MemoryError):
        raise
    except Exception:  # a forged file may have a right digest, and h5py raises any exception for it
        raise DamagedError(f"{shown(path)}: does not have the layout of a shard; {SHARD}") from None


@dataclass(frozen=True)
class _Image:
    """An open HDF5 file in memory. Its methods read only what lies in this file, as `encode` writes it."""

    file: h5py.File
    path: Path
    """For messages."""
    content: bytes

    def attribute(self, name: str, kinds: str) -> Any:
        """Reads a number or a text of fixed length. HDF5 can loop for ever on a forged text of another kind."""
        attribute = self.file.attrs.get_id(name)
        if attribute.shape != () or attribute.dtype.kind not in kinds:
            raise TypeError(name)
        return self.file.attrs[name]

    def group(self, name: str) -> h5py.Group:
        """Opens a group of the file."""
        import h5py

        return h5py.Group(h5py.h5g.open(self._parent(self.file, name), name.encode()))

    def rows(self, group: h5py.Group, name: str, dtype: str, *shape: int | None) -> Any:
        """Reads one dataset of the given type and shape, where None stands for any size.

        Raises:
            ValueError: It has another type or shape, or its numbers are not contiguous in this file.
            UnsafeError: It lies in another file.
        """
        import h5py

        dataset = h5py.h5d.open(self._parent(group, name), name.encode())  # much faster than h5py.Dataset
        creation = dataset.get_create_plist()
        layout = creation.get_layout()
        if creation.get_external_count() or layout == h5py.h5d.VIRTUAL:
            raise UnsafeError(f"{shown(self.path)}: {shown(name)} points to another file; not opened")
        stored = dataset.shape
        fits = len(stored) == len(shape) and all(
            wanted in (None, size) for wanted, size in zip(shape, stored, strict=True)
        )
        kind, numbers = dataset.dtype, math.prod(stored)
        # a forged shape may need far more memory than the file has bytes, and a filter may decompress to it
        too_large = numbers * kind.itemsize > len(self.content)
        if kind != dtype or not fits or layout != h5py.h5d.CONTIGUOUS or too_large:
            raise ValueError
        offset = dataset.get_offset()
        if offset is None or offset % kind.alignment:
            return h5py.Dataset(dataset)[()]
        return np.frombuffer(self.content, kind, numbers, offset).reshape(stored)

    def _parent(self, group: h5py.Group, name: str) -> Any:
        """Returns the identifier of a group, once it is clear that its member of this name is no link.

        Raises:
            UnsafeError: The member is a link.
        """
        import h5py

        if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:  # `in` and `get` would follow a link
            raise UnsafeError(f"{shown(self.path)}: {shown(name)} is a link; not opened")
        return group.id


def _decode(image: _Image, fingerprint: str, layers: Mapping[str, int], *, with_means: bool) -> Shard:
    version = image.attribute("gramcli_format", "iu")
    if version > FORMAT:
        raise NewerError(f"{shown(image.path)}: was made by a newer gramcli (format {version}); update gramcli")
    if image.attribute("fingerprint", "S") != fingerprint.encode():
        raise ArtefactError(f"{shown(image.path)}: belongs to another view; move it back to its own cache")
    file = image.file
    keys = [key.decode("ascii") for key in image.rows(file, "key", "S64", None)]
    status = [text.decode("utf-8", "ignore") for text in image.rows(file, "status", f"S{_STATUS_BYTES}", len(keys))]
    logits = image.rows(file, "logits", "<f4", len(keys), None)
    tables: dict[str, dict[str, Floats]] = {"descriptors": {}, "means": {}}
    for name in ("descriptors", "means") if with_means else ("descriptors",):
        group = image.group(name)
        tables[name] = {
            layer: image.rows(group, _escape(layer), "<f4", len(keys), channels) for layer, channels in layers.items()
        }
    return Shard(tuple(keys), tuple(status), logits, **tables)


def require_finite(rows: Shard, path: Path, layers: Iterable[str]) -> None:
    """Checks that logits and descriptors of usable rows are finite.

    Args:
        rows: The shard.
        path: Path of the file, for the message.
        layers: Layers to check. Logits are always checked.

    Raises:
        DamagedError: A number is not finite.
    """
    usable = rows.usable()
    tables = [table[layer] for table in (rows.descriptors, rows.means) for layer in layers if layer in table]
    for values in (rows.logits, *tables):
        with np.errstate(over="ignore", invalid="ignore"):
            suspect = usable & ~np.isfinite(values.sum(axis=1))  # or a sum of large finite numbers
        for row in np.flatnonzero(suspect):
            if not np.isfinite(values[row]).all():
                raise DamagedError(f"{shown(path)}: row {row} holds a number that is not finite; {SHARD}")


def check(content: bytes, path: Path) -> None:
    """Compares the content of a file with the digest in its user block.

    Raises:
        DamagedError: They differ.
    """
    digest = hashlib.sha256(memoryview(content)[_USER_BLOCK:]).hexdigest().encode()
    seal = _MAGIC + digest + b"\n"
    if content[:_USER_BLOCK] != seal + bytes(_USER_BLOCK - len(seal)):
        raise DamagedError(f"{shown(path)}: is damaged (its SHA-256 differs from the stored one); {SHARD}")


def read_bytes(path: Path, cache: Path) -> bytes | None:
    """Reads the file of a shard; None if there is none.

    Raises:
        DamagedError: It is no regular file, or it is longer than it says.
        ResourceError: It cannot be read.
    """
    return regular_file.read(path, "shard", cache, _stated_size)


def _stated_size(head: bytes) -> int:
    """Returns the length that the superblock of HDF5 states, which follows the user block; see `encode`."""
    end = int.from_bytes(head[_USER_BLOCK + 28 : _USER_BLOCK + 36], "little")
    return end if head[_USER_BLOCK : _USER_BLOCK + 8] == b"\x89HDF\r\n\x1a\n" else len(head)


def _escape(layer: str) -> str:
    """Returns a layer name without "/" and ".", which HDF5 takes for a path and for the group itself."""
    return layer.replace("%", "%25").replace("/", "%2F") if layer != "." else "%2E"
