"""Errors that say that the machine lacks something, and limits that are refused before a library ends the process."""

from __future__ import annotations

import errno
import importlib.util
import os
import resource
import sys

import pytest

from gramcli.errors import ArtefactError, NoInputError, ResourceError
from gramcli.system.machine_faults import guard_torch, is_out_of_memory, machine_fault, require_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        ImportError("libgomp.so.1: cannot open shared object file: Cannot allocate memory"),
        RuntimeError("can't start new thread"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("std::bad_alloc"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    ],
    ids=repr,
)
def test_memory_and_threads(error):
    assert is_out_of_memory(error)
    fault = machine_fault(error)
    assert isinstance(fault, ResourceError)
    assert str(fault).startswith("out of memory; ")


def test_what_another_error_was_raised_from_counts():
    error = ImportError("numpy cannot be imported")
    error.__cause__ = RuntimeError("see above")
    assert not is_out_of_memory(error)
    error.__cause__.__context__ = MemoryError()
    assert is_out_of_memory(error)


def test_what_is_no_fault_of_the_machine():
    for error in (ZeroDivisionError("x"), OSError(errno.ENOTDIR, "Not a directory"), ImportError("no module named x")):
        assert machine_fault(error) is None
    assert not is_out_of_memory(ArtefactError("out of memory"))


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), ResourceError, "TMPDIR"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/x"), ResourceError, "/x: Too many open files; raise"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), ResourceError, "No space left on device; free some"),
        (
            OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), "\x1b"),
            NoInputError,
            r"\x1b: cannot be read: F",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, OSError) else None,
)
def test_faults_of_the_system(error, kind, words):
    fault = machine_fault(error)
    assert isinstance(fault, kind)
    assert words in str(fault)


def test_a_limit_that_is_too_low_is_refused(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (2**29, 2**30))
    require_memory(2**29)
    with pytest.raises(ResourceError, match=r"is 512 MiB, and 1024 MiB are needed at least"):
        require_memory(2**30)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY,) * 2)
    require_memory(2**60)


def test_torch_is_not_loaded_into_too_little_memory(monkeypatch):
    found = importlib.util.find_spec("torch")  # None where it is not installed
    monkeypatch.setattr(sys, "meta_path", sys.meta_path.copy())
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (2**29, 2**30))
    for _ in range(2):
        guard_torch()
    with pytest.raises(ResourceError, match="ulimit -v"):
        importlib.import_module("torch")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY,) * 2)
    assert (importlib.util.find_spec("torch") is None) == (found is None)


def test_a_working_folder_that_has_been_deleted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    for error in (FileNotFoundError(errno.ENOENT, "No such file or directory"), RecursionError()):
        fault = machine_fault(error)
        assert isinstance(fault, NoInputError)
        assert str(fault) == "the working folder has been deleted; change into one that is there"


def test_a_name_that_the_locale_cannot_write():
    fault = machine_fault(UnicodeEncodeError("ascii", "cäche", 1, 2, "ordinal not in range(128)"))
    assert isinstance(fault, NoInputError)
    assert str(fault) == "cäche: the locale has no such characters in file names; set LC_ALL=C.UTF-8"
