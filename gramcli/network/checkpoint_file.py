"""The file of a checkpoint: opens it once, and checks its layout and size before its bytes are read.

Sizes come from the header of a safetensors file and from the directory of an archive, which is what torch.save writes.
"""

from __future__ import annotations

import contextlib
import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gramcli.errors import ArtefactError, NoInputError, ResourceError, UnsafeError
from gramcli.system import opener, safetensors_header
from gramcli.text import shown

BLOCK = 1 << 24
"""Bytes that are read at once."""
_LARGEST_OLD = 1 << 32
"""Bytes of a checkpoint in the format of torch before 1.6, at most: nothing states its size beforehand."""
_LARGE = 1 << 30
"""Bytes from which on a file must not be sparse; file systems may count small files otherwise."""


class CheckpointFile:
    """An open regular file and its state when it was opened."""

    def __init__(self, path: Path, file: io.FileIO) -> None:
        self.path, self._file = path, file
        self._state = self._now()
        self.size = self._state[0]
        self.stored = os.fstat(file.fileno()).st_blocks * 512
        """Bytes on the disk; fewer than `size` where the file has holes."""

    def _now(self) -> tuple[int, int]:
        # not the time of the last change, which links and permissions change too
        about = os.fstat(self._file.fileno())
        return about.st_size, about.st_mtime_ns

    def read(self, size: int) -> bytes:
        """Returns the next bytes; fewer than `size` where the file ends."""
        blocks = []
        while size and (block := self._file.read(min(size, BLOCK))):
            blocks.append(block)
            size -= len(block)
        return b"".join(blocks)

    def seek(self, offset: int) -> None:
        """Sets the place from which `read` and `into` go on."""
        self._file.seek(offset)

    def into(self, view: memoryview) -> int:
        """Reads the next bytes into a buffer, and returns their number; 0 at the end."""
        return self._file.readinto(view) or 0 if len(view) else 0

    def at(self, offset: int, size: int) -> bytes:
        """Returns some bytes of the file; the place of `read` stays."""
        return os.pread(self._file.fileno(), size, offset)

    def again(self) -> io.FileIO:
        """Returns the same open file for another reader, which moves the place of `read`."""
        return io.FileIO(self._file.fileno(), closefd=False)

    def require_unchanged(self, *, whole_read: bool) -> None:
        """Raises an ArtefactError if the file was written to since it was opened, or is shorter than it was."""
        if not whole_read or self._now() != self._state:
            raise changed(self.path)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[CheckpointFile]:
    """Opens a regular file; a FIFO would hang for ever.

    Raises:
        NoInputError: It cannot be read, or is none.
    """
    try:
        descriptor = opener.open_file(path)
    except OSError as error:
        advice = "; if it has moved, name it with --weights" if isinstance(error, FileNotFoundError) else ""
        raise NoInputError(f"{shown(path)}: cannot be read: {error.strerror}{advice}") from None
    except ValueError:
        raise NoInputError(f"{shown(path)}: is not a valid file name") from None
    try:
        with io.FileIO(descriptor) as file:
            yield CheckpointFile(path, file)
    except OSError as error:
        raise NoInputError(f"{shown(path)}: cannot be read: {error.strerror}") from None


def header_of(file: CheckpointFile) -> tuple[bytes, dict[str, Any]]:
    """Reads the header of a safetensors file and checks that its tensors fill the file.

    Returns:
        The bytes of the header with its length before it, and what it holds; b"" and {} for a file of another kind,
        which is then read from its start.

    Raises:
        ArtefactError: It begins as safetensors files do, with a length and a brace, and is none.
    """
    start = file.at(0, 9)
    if start[8:] != b"{":
        return b"", {}
    length = int.from_bytes(start[:8], "little")
    try:
        if length > min(safetensors_header.LONGEST, file.size - 8):
            raise ValueError(f"its header would have {length} bytes")
        head = file.read(8 + length)
        header = safetensors_header.parse(head)
        tensors = {name: one for name, one in header.items() if name != "__metadata__"}
        safetensors_header.layout(tensors, len(head), file.size)
    except (ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{shown(file.path)}: is no safetensors file: {first_line(error)}") from None
    return head, header


def require_readable(file: CheckpointFile, head: bytes) -> None:
    """Checks that all bytes of a file can be meant as weights and fit into memory, before they are read.

    Args:
        file: The file.
        head: The header of a safetensors file; empty for any other.

    Raises:
        ArtefactError: It is neither a safetensors file nor a state dict, or is for the most part a hole.
        UnsafeError: It is an archive that torch.save does not write.
        ResourceError: It is larger than the memory of this machine.
    """
    if not head:
        start = file.at(0, 4)
        if start == b"PK\3\4":
            require_archive(io.BufferedReader(file.again()), file.size, file.path)
        elif start[:1] != b"\x80":
            raise no_checkpoint(
                file.path,
                "neither a safetensors file nor a state dict that torch.save wrote; save the state dict anew, "
                "best as safetensors",
            )
        elif file.size > _LARGEST_OLD:
            raise no_checkpoint(
                file.path,
                f"it has {file.size} bytes, and of the format of torch before 1.6 at most {_LARGEST_OLD} are read; "
                "save the state dict anew, best as safetensors",
            )
    if file.size > _LARGE and 0 < file.stored < file.size // 4:
        raise no_checkpoint(
            file.path, f"a sparse file, of whose {file.size} bytes {file.stored} are there; copy it again"
        )
    with contextlib.suppress(ValueError, OSError):  # a system that does not say how much memory it has
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if 0 < memory < file.size:
            raise ResourceError(
                f"{shown(file.path)}: has {file.size} bytes, and this machine has {memory} bytes of memory; use a "
                "smaller network, or check that it is the checkpoint"
            )


def require_archive(content: Any, size: int, path: Path) -> None:
    """Checks that an archive is one as torch writes it, which never compresses weights.

    Args:
        content: The file object.
        size: Its size in bytes.
        path: The file, for messages.

    Raises:
        ArtefactError: It is no archive, or holds a program.
        UnsafeError: It unpacks to more bytes than it has, or to two files of one name.
    """
    try:
        with zipfile.ZipFile(content) as archive:
            members = archive.infolist()
    except Exception as error:  # zipfile fails in many ways on what is none
        raise no_checkpoint(path, first_line(error)) from None
    if any(one.filename.endswith("/constants.pkl") for one in members):
        raise no_checkpoint(path, "a TorchScript program; save its state dict")
    unpacked, names = sum(one.file_size for one in members), {one.filename for one in members}
    compressed = any(one.compress_type != zipfile.ZIP_STORED or one.flag_bits & 1 for one in members)
    if compressed or unpacked > size or len(names) < len(members):
        raise UnsafeError(
            f"{shown(path)}: unpacks to {unpacked} bytes from {size}, or to files of one name; no such archive is "
            "loaded: save the state dict anew, best as safetensors"
        )


def no_checkpoint(path: Path, why: str) -> ArtefactError:
    """Returns the error for a file that is no checkpoint."""
    return ArtefactError(f"{shown(path)}: is no checkpoint: {why}")


def changed(path: Path) -> ArtefactError:
    """Returns the error for a checkpoint that another program writes at this moment."""
    return ArtefactError(
        f"{shown(path)}: changed while it was read; wait until it is written, and run the same command again"
    )


def first_line(error: Exception) -> str:
    """Returns the first line of an exception's text, or its type where it has none, for a message."""
    return shown(str(error).strip().partition("\n")[0]) or type(error).__name__
