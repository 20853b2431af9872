"""Writes what a process and its children reach for into a file; Python imports this module before any other code."""

# no module may be imported here that gramcli is to import
# ruff: noqa: PTH109, PTH118

import os
import sys

_LOG = os.open(os.environ["AUDIT_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
_STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn", "ctypes.dlopen")


def _tell(kind, text):
    os.write(_LOG, f"{kind}\t{text!r}\n".encode("utf-8", "backslashreplace"))


def _watch(event, values):
    if event == "open" and isinstance(values[0], str | bytes):
        _tell("open", os.path.join(os.getcwd(), os.fsdecode(values[0])))
    elif event == "exec":
        name = getattr(values[0], "co_filename", "<?>")
        _tell("exec", name if name.startswith("<") else os.path.join(os.getcwd(), name))
    elif event.startswith(("socket.", "urllib.", "http.")):
        _tell("network", (event, *map(str, values)))
    elif event.startswith(_STARTS):
        _tell("start", (event, *map(str, values[:2])))


sys.addaudithook(_watch)
