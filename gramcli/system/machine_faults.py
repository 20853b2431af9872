"""Recognises errors of Python and of libraries that say that the machine lacks something: memory, files, a folder.

Some libraries end the process where there is too little memory to load them, which nobody can catch. So
`require_memory` and `guard_torch` refuse a limit that is too low before they are loaded.
"""

from __future__ import annotations

import errno
import importlib.abc
import os
import resource
import sys

from gramcli.errors import GramcliError, NoInputError, ResourceError
from gramcli.text import shown

_MEMORY = (
    "allocate memory",
    "out of memory",
    "failed to map segment",
    "can't start new thread",
    "unable to allocate",
    "failed to allocate",
    "memoryerror",
    "bad_alloc",
)
"""Parts of messages, in lower case, by which Python, NumPy, torch, CUDA, the loader and HDF5 say so."""
_ADVICE = {
    errno.EMFILE: "raise the limit (ulimit -n)",
    errno.ENFILE: "close other programs",
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EIO: "check the disk",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "choose a folder that can be written",
    errno.EPERM: "choose a folder that can be written",
    errno.ENAMETOOLONG: "give a shorter name",
}
_OF_THE_FILE = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)
"""Errors for which there is advice, but which say nothing of the machine unless a file is written."""
TO_START = 400 * 2**20
"""Address space that Python and NumPy take, in bytes."""
TO_LOAD_TORCH = 2**30
"""Address space that torch takes with a small network, in bytes."""
_NO_TEMPORARY = "No usable temporary directory"


def require_memory(needed: int) -> None:
    """Checks that the limit on the address space (``ulimit -v``), if there is one, is not below `needed` bytes.

    Raises:
        ResourceError: It is.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < needed:
        raise ResourceError(
            f"out of memory: the limit (ulimit -v) is {limit / 2**20:.0f} MiB, and {needed / 2**20:.0f} MiB are needed "
            "at least; raise it"
        )


def guard_torch() -> None:
    """Makes the first import of torch in this process check with `require_memory` that there is enough for it.

    Commands that need no network run with less.
    """
    if not any(isinstance(finder, _TorchGuard) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TorchGuard())


class _TorchGuard(importlib.abc.MetaPathFinder):
    """Finds no module, but is asked for each before it is loaded."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "torch":
            require_memory(TO_LOAD_TORCH)


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error, or one that it was raised from, says that memory or threads are used up."""
    if isinstance(error, GramcliError):  # it says already what to do
        return False
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, MemoryError) or (
            isinstance(cause, OSError) and cause.errno in (errno.ENOMEM, errno.EAGAIN)
        ):
            return True
        stated = str(cause).lower()
        if any(part in stated for part in _MEMORY):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def machine_fault(error: Exception) -> GramcliError | None:
    """Returns the error to report in place of one that is a fault of the machine; None for any other."""
    if is_out_of_memory(error):
        return ResourceError("out of memory; close other programs, or raise the limits on memory and processes")
    if not _has_working_folder():
        return NoInputError("the working folder has been deleted; change into one that is there")
    if isinstance(error, UnicodeEncodeError) and error.encoding in ("ascii", "latin-1"):  # never in UTF-8
        name = shown(error.object)
        return NoInputError(f"{name}: the locale has no such characters in file names; set LC_ALL=C.UTF-8")
    if not isinstance(error, OSError):
        return None
    if _NO_TEMPORARY in str(error):
        return no_temporary_folder()
    name = f"{shown(error.filename)}: " if error.filename is not None else ""
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        return NoInputError(f"{name}cannot be read: {error.strerror}")
    if error.errno in _ADVICE and error.errno not in _OF_THE_FILE:
        return ResourceError(f"{name}{error.strerror}; {advice(error)}")
    return None


def _has_working_folder() -> bool:
    try:
        os.getcwd()  # noqa: PTH109 - the plain call to the system
    except OSError:
        return False
    return True


def advice(error: OSError) -> str:
    """Returns what to do about an error while a file is written."""
    if error.errno in _ADVICE:
        return f"{_ADVICE[error.errno]} and run the same command again"
    return "check the disk and run the same command again; earlier files are intact"


def no_temporary_folder() -> ResourceError:
    """Returns the error that there is no folder for temporary files."""
    return ResourceError("no folder for temporary files can be written; set TMPDIR to a folder that can")
