"""Only three modules of `gramcli.system` change what is on disk: a check of the package's source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gramcli

PACKAGE = Path(gramcli.__file__).parent
WRITERS = ("system/durable_files.py", "system/folder_lock.py", "system/temporary_file.py")
ALLOWED = {
    ("audio/condition.py", "soundfile.SoundFile"): "codes MP3 into a buffer in memory",
    ("audio/decoder_main.py", "os.fdopen"): "standard output, the pipe to the parent",
    ("audio/decoder_process.py", "tempfile.TemporaryFile"): "the child's standard error, a file without a name",
    ("cache/shard.py", "h5py.File"): "builds the image of a shard in memory",
    ("cli/signals.py", "os.write"): "standard error, where nothing else can be called any more, and a pipe to a thread",
    ("cli/streams.py", "os.open"): "the null device in place of a closed stream",
    ("cli/streams.py", "os.write"): "standard output and standard error",
    ("demo/sounds.py", "soundfile.write"): "builds a WAV file in memory",
    ("demo/train.py", "tempfile.TemporaryDirectory"): "sounds that are deleted when the network is trained",
}
"""Calls that look like writing, by module, and why they do not change the user's files."""

# fmt: off
OS = {
    "chmod", "chown", "copy_file_range", "ftruncate", "link", "makedirs", "mkdir", "mkfifo", "mknod", "pwrite",
    "remove", "removedirs", "rename", "renames", "replace", "rmdir", "sendfile", "symlink", "truncate", "unlink",
    "utime", "write",
}
METHODS = {
    "chmod", "hardlink_to", "mkdir", "rename", "rmdir", "save_file", "symlink_to", "tofile", "touch", "unlink",
    "write_bytes", "write_text",
}
# fmt: on
MODULES = {"shutil": {"disk_usage", "get_terminal_size", "which"}, "tempfile": set()}
"""Modules that exist to change files, and what in them does not."""
FUNCTIONS = {
    "np.memmap", "np.save", "np.savetxt", "np.savez", "np.savez_compressed", "soundfile.write", "torch.save",
}  # fmt: skip
OPENERS = {"open", "fdopen", "File", "SoundFile", "NamedTemporaryFile", "ZipFile"}


def name_of(function: ast.expr) -> str:
    return ast.unparse(function)


def texts(call: ast.Call) -> list[str]:
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    return [value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]


def writes(call: ast.Call) -> bool:
    """Tells whether a call changes files, as far as its text says."""
    name = name_of(call.func)
    owner, _, last = name.rpartition(".")
    if owner in MODULES:
        return last not in MODULES[owner]
    if owner == "os" and (
        last in OS or (last == "open" and any(flag in ast.unparse(call) for flag in ("_WR", "_RDW")))
    ):
        return True
    if last in METHODS and owner not in ("durable_files", "os"):
        return True
    if last == "replace" and isinstance(call.func, ast.Attribute) and len(call.args) == 1 and not call.keywords:
        return True  # of a path: that of a string takes two, `dataclasses.replace` takes fields
    return name in FUNCTIONS or (
        last in OPENERS and any(set(text) <= set("rwaxbt+U") and set(text) & set("wax+") for text in texts(call))
    )


def found(source: str) -> list[str]:
    return [name_of(node.func) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and writes(node)]


def test_no_module_but_the_writers_changes_files():
    said = {
        (path.relative_to(PACKAGE).as_posix(), call)
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).as_posix() not in WRITERS
        for call in found(path.read_text())
    }
    assert said == set(ALLOWED)


def test_the_writers_themselves_are_seen():
    files, lock, temporary = (set(found((PACKAGE / writer).read_text())) for writer in WRITERS)
    assert {"os.mkdir", "os.replace", "os.link", "os.unlink", "os.write"} <= files
    assert {"os.open", "os.ftruncate", "os.pwrite"} <= lock
    assert {"os.unlink"} <= temporary


@pytest.mark.parametrize(
    "line",
    [
        "open(path, 'w')",
        "path.open('xb')",
        "path.open(mode='a')",
        "open(path, 'r+')",
        "os.open(path, os.O_RDWR | os.O_CREAT)",
        "os.rename(a, b)",
        "path.replace(other)",
        "path.unlink(missing_ok=True)",
        "path.write_text('x')",
        "path.mkdir()",
        "shutil.copy(a, b)",
        "tempfile.mkdtemp()",
        "np.save(path, array)",
        "torch.save(state, path)",
        "safetensors.torch.save_file(state, path)",
        "h5py.File(path, 'w')",
    ],
)
def test_what_counts_as_writing(line):
    assert len(found(line)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "open(path)",
        "path.open('rb')",
        "os.open(path, os.O_RDONLY)",
        "text.replace('a', 'b')",
        "dataclasses.replace(row, split='')",
        "replace(row, split='')",
        "shutil.disk_usage(path)",
        "durable_files.write(path, content)",
        "durable_files.remove(path)",
        "safetensors.torch.save(state)",
        "View.open(cache, name)",
    ],
)
def test_what_does_not(line):
    assert found(line) == []
