"""What can go wrong with data on disk, and the exit code each failure maps to.

A caller's mistake in the library (a wrong type, a shape that does not fit) is a plain ``ValueError``. Everything that
depends on files, settings or the machine is a `GramcliError`; the command line turns it into one line and an exit code.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the command line."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    NO_INPUT = 3
    ARTEFACT = 4
    PARTIAL = 5
    DAMAGED = 6
    RESOURCE = 7
    UNSAFE = 8
    LOCKED = 9
    INTERRUPTED = 130
    TERMINATED = 143


class GramcliError(Exception):
    """Root of all errors about data, settings and the machine; the message is one line: what, where, what to do."""

    exit_code = Exit.INTERNAL


class UsageError(GramcliError):
    """A setting, flag or manifest contradicts itself or names something unknown."""

    exit_code = Exit.USAGE


class NoInputError(GramcliError):
    """Nothing usable was found where input was expected."""

    exit_code = Exit.NO_INPUT


class ArtefactError(GramcliError):
    """Cache, statistics, network, classes or format version do not fit each other, or a stage has not run yet."""

    exit_code = Exit.ARTEFACT


class NewerError(ArtefactError):
    """A file was made by a newer version of this program, which must be updated to read it."""


class DamagedError(GramcliError):
    """A file of the cache does not have the content it was sealed with."""

    exit_code = Exit.DAMAGED


class ResourceError(GramcliError):
    """The machine lacks something: device, disk space, permission, memory."""

    exit_code = Exit.RESOURCE


class UnsafeError(GramcliError):
    """A file asks for something that could run code or read other files; it is not opened."""

    exit_code = Exit.UNSAFE


class LockedError(GramcliError):
    """Another process is writing to the same cache."""

    exit_code = Exit.LOCKED


class AudioError(GramcliError):
    """One audio file cannot be used; the run goes on without it."""

    exit_code = Exit.NO_INPUT
