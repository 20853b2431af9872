"""The errors of the package and the exit codes of the command line.

Faults of files, settings or the machine are `GramcliError`; the command line prints them as one line and exits with
their code. A mistake in calling a function of the package (a wrong type or shape) is a plain ``ValueError``.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the command line, each with its meaning as the help and the guide state it."""

    meaning: str

    def __new__(cls, code: int, meaning: str = "") -> Exit:  # noqa: D102 - not called from outside
        member = int.__new__(cls, code)
        member._value_, member.meaning = code, meaning
        return member

    OK = 0, "success"
    INTERNAL = 1, "internal error"
    USAGE = 2, "wrong usage"
    NO_INPUT = 3, "no usable input"
    ARTEFACT = 4, "a step is missing or files do not fit each other"
    PARTIAL = 5, "finished but some inputs failed"
    DAMAGED = 6, "damaged cache"
    RESOURCE = 7, "memory, disk, device or package missing, data too large, or output lost"
    UNSAFE = 8, "refused as unsafe"
    LOCKED = 9, "cache in use"
    INTERRUPTED = 130, "interrupted"
    TERMINATED = 143, "terminated"


class GramcliError(Exception):
    """Base of all errors; the message is one line that says what happened, to which file or setting, and what to do."""

    exit_code = Exit.INTERNAL


class UsageError(GramcliError):
    """A setting, flag or manifest contradicts itself or names something unknown."""

    exit_code = Exit.USAGE


class NoInputError(GramcliError):
    """There is no usable input: a file, folder or clip is missing or cannot be used."""

    exit_code = Exit.NO_INPUT


class ArtefactError(GramcliError):
    """Cache, statistics, network, classes or formats do not fit each other, or an earlier command has not run."""

    exit_code = Exit.ARTEFACT


class NewerError(ArtefactError):
    """A file was made by a newer gramcli; this one must be updated to read it."""


class DamagedError(GramcliError):
    """A file of the cache does not have the content that it was written with."""

    exit_code = Exit.DAMAGED


class ResourceError(GramcliError):
    """The machine lacks something: a device, disk space, permission, memory, a library."""

    exit_code = Exit.RESOURCE


class UnsafeError(GramcliError):
    """A file could run code or make the program read other files, so it is not opened."""

    exit_code = Exit.UNSAFE


class LockedError(GramcliError):
    """Another process is writing to the same cache."""

    exit_code = Exit.LOCKED


class AudioError(GramcliError):
    """One audio file cannot be used; the run goes on without it."""

    exit_code = Exit.NO_INPUT
