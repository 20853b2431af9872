"""One shard: the descriptors and logits of a fixed list of clips, as one immutable HDF5 file.

libhdf5 never sees the final file: the image is built and read in memory, so a full disk cannot crash the interpreter
and no byte is parsed before its digest is checked. The file begins with a 512-byte user block that holds the SHA-256 of
all that follows; HDF5 viewers skip it.

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
from gramcli.errors import ArtefactError, DamagedError, GramcliError, NewerError, UnsafeError
from gramcli.text import shown

if TYPE_CHECKING:
    import h5py  # where a shard is read or written, and not where a recording is classified

FORMAT = 1
OK = "ok"

_USER_BLOCK = 512
_MAGIC = b"gramcli shard\nsha256 "
_STATUS_BYTES = 200
_ALIGNMENT = 64

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Shard:
    """Rows of a view."""

    keys: tuple[str, ...]
    """Key of each clip, 64 hexadecimal characters."""
    status: tuple[str, ...]
    """``"ok"`` or the reason of failure, one a clip."""
    logits: Floats
    """(n, outputs); NaN in failed rows."""
    descriptors: Mapping[str, Floats]
    """(n, K_l) by layer, raw ĝ; NaN in failed rows."""
    means: Mapping[str, Floats] = field(default_factory=dict)
    """(n, K_l) by layer, channel means, in views that keep them; NaN in failed rows."""

    def __post_init__(self) -> None:
        rows = len(self.keys)
        shapes = [len(self.status), len(self.logits), *map(len, (*self.descriptors.values(), *self.means.values()))]
        if any(rows != other for other in shapes):
            raise ValueError(f"a shard of {rows} keys has {shapes} rows of status, logits and descriptors")

    def usable(self) -> npt.NDArray[np.bool_]:
        """Returns which rows did not fail, (n,)."""
        return np.array([status == OK for status in self.status], dtype=bool)


def row_bytes(numbers: int) -> int:
    """Returns how many bytes a row of so many numbers takes."""
    return 4 * numbers + 64 + _STATUS_BYTES


def encode(shard: Shard, fingerprint: str) -> bytes:
    """Returns the whole file; the same shard gives the same bytes.

    Args:
        shard: The rows.
        fingerprint: Of the view they belong to.
    """
    import h5py

    image = io.BytesIO()
    # one library range, contiguous data of final size and no time stamps: byte for byte reproducible
    kind = {"libver": ("v110", "v110"), "userblock_size": _USER_BLOCK}
    # numbers lie where they can be used as they are, without a copy
    with h5py.File(image, "w", **kind, alignment_threshold=_ALIGNMENT, alignment_interval=_ALIGNMENT) as file:
        file.attrs["gramcli_format"] = FORMAT
        # text of fixed length: any other lies in HDF5's global heap, the one part of it without checksums
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
    """Reads a shard from its bytes, whose digest was checked before; see `check` and `require_finite`.

    Args:
        content: The whole file.
        path: Its name, for messages.
        fingerprint: Of the view that it must belong to.
        layers: Channels of the layers to read, in this order.
        with_means: Whether to read their channel means too.

    Raises:
        DamagedError: A dataset is missing or misshapen.
        ArtefactError: It belongs to another view, or to a newer format.
        UnsafeError: It holds links or external data, which no shard has.
    """
    import h5py

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            return _decode(file, path, fingerprint, layers, content, with_means)
    except (GramcliError, MemoryError):
        raise
    except Exception:  # whoever forges a file can forge its digest; h5py answers such files with any exception
        raise DamagedError(f"{shown(path)}: does not have the layout of a shard; {ADVICE}") from None


def _decode(
    file: h5py.File, path: Path, fingerprint: str, layers: Mapping[str, int], content: bytes, with_means: bool
) -> Shard:
    import h5py

    version = _attribute(file, "gramcli_format", "iu")
    if version > FORMAT:
        raise NewerError(f"{shown(path)}: was made by a newer gramcli (format {version}); update gramcli")
    if _attribute(file, "fingerprint", "S") != fingerprint.encode():
        raise ArtefactError(f"{shown(path)}: belongs to another view; move it back to its own cache")

    def rows(group: h5py.Group, name: str, dtype: str, *shape: int | None) -> Any:
        """Reads one dataset if it is what `encode` writes: its bytes lie in this very file, and stay there."""
        dataset = h5py.h5d.open(_own(group, name, path), name.encode())  # what h5py.Dataset asks takes most of a read
        made = dataset.get_create_plist()
        layout = made.get_layout()
        if made.get_external_count() or layout == h5py.h5d.VIRTUAL:
            raise UnsafeError(f"{shown(path)}: {shown(name)} points to another file; not opened")
        found = dataset.shape
        fits = len(found) == len(shape) and all(
            wanted in (None, size) for wanted, size in zip(shape, found, strict=True)
        )
        kind, numbers = dataset.dtype, math.prod(found)
        # a shape may promise, and a filter unpack, far more than the file holds
        if kind != dtype or not fits or layout != h5py.h5d.CONTIGUOUS or numbers * kind.itemsize > len(content):
            raise ValueError
        place = dataset.get_offset()
        if place is None or place % kind.alignment:
            return h5py.Dataset(dataset)[()]
        return np.frombuffer(content, kind, numbers, place).reshape(found)

    keys = [key.decode("ascii") for key in rows(file, "key", "S64", None)]
    status = [text.decode("utf-8", "ignore") for text in rows(file, "status", f"S{_STATUS_BYTES}", len(keys))]
    logits = rows(file, "logits", "<f4", len(keys), None)
    measured: dict[str, dict[str, Floats]] = {"descriptors": {}, "means": {}}
    for name in ("descriptors", "means") if with_means else ("descriptors",):
        stored = h5py.Group(h5py.h5g.open(_own(file, name, path), name.encode()))
        measured[name] = {layer: rows(stored, _escape(layer), "<f4", len(keys), size) for layer, size in layers.items()}
    return Shard(tuple(keys), tuple(status), logits, **measured)


def require_finite(rows: Shard, path: Path, layers: Iterable[str]) -> None:
    """Checks the numbers of usable rows.

    Args:
        rows: What was read.
        path: The file, for the message.
        layers: Layers to look at; logits are looked at always.

    Raises:
        DamagedError: A number is not finite.
    """
    usable = rows.usable()
    measured = [table[layer] for table in (rows.descriptors, rows.means) for layer in layers if layer in table]
    for values in (rows.logits, *measured):
        with np.errstate(over="ignore", invalid="ignore"):
            odd = usable & ~np.isfinite(values.sum(axis=1))  # the sum of large numbers may be infinite
        for row in np.flatnonzero(odd):
            if not np.isfinite(values[row]).all():
                raise DamagedError(f"{shown(path)}: row {row} holds a number that is not finite; {ADVICE}")


ADVICE = "gramcli cache verify --repair moves it away and computes its clips again"


def check(content: bytes, path: Path) -> None:
    """Compares the content with the digest in front of it.

    Raises:
        DamagedError: They differ.
    """
    digest = hashlib.sha256(memoryview(content)[_USER_BLOCK:]).hexdigest().encode()
    seal = _MAGIC + digest + b"\n"
    if content[:_USER_BLOCK] != seal + bytes(_USER_BLOCK - len(seal)):
        raise DamagedError(f"{shown(path)}: is damaged (its SHA-256 differs from the stored one); {ADVICE}")


def _attribute(file: h5py.File, name: str, kinds: str) -> Any:
    """Reads a number or a text of fixed length; libhdf5 can loop for ever on a forged text of any other kind."""
    about = file.attrs.get_id(name)
    if about.shape != () or about.dtype.kind not in kinds:
        raise TypeError(name)
    return file.attrs[name]


def _own(group: h5py.Group, name: str, path: Path) -> Any:
    """Returns the identifier of a group whose member of this name lies in this very file."""
    import h5py

    if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:  # `in` and `get` would follow it
        raise UnsafeError(f"{shown(path)}: {shown(name)} is a link; not opened")
    return group.id


def read_bytes(path: Path) -> bytes:
    """Reads a file of the cache.

    Raises:
        DamagedError: It is missing or no regular file.
        ResourceError: It cannot be read.
    """
    content = regular_file.read(path)
    if content is None:
        raise DamagedError(f"{shown(path)}: is missing; run gramcli extract again")
    return content


def _escape(layer: str) -> str:
    """HDF5 takes a slash for a path and a lone dot for the group itself."""
    return layer.replace("%", "%25").replace("/", "%2F") if layer != "." else "%2E"
