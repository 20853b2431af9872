"""Keeps the working folder off Python's import path, so that no file there replaces a library.

``python -m gramcli`` puts the working folder in front of all libraries, and so does an empty or relative entry of
``PYTHONPATH``. Nothing but what Python has loaded already is imported here.
"""

import os
import sys


def leave_out_working_folder() -> None:
    """Takes the working folder off this process's import path, unless ``PYTHONPATH`` names it in full."""
    stated = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    absolute = {os.path.normpath(one) for one in stated if one.startswith(os.sep)}
    try:
        here = os.getcwd()  # noqa: PTH109 - pathlib could come from the working folder
    except FileNotFoundError:
        return
    # the empty entry is what python -m adds
    drop = {os.path.normpath(f"{here}/{one}") for one in ("", *stated) if not one.startswith(os.sep)} - absolute
    sys.path[:] = [one for one in sys.path if one and os.path.normpath(one) not in drop]


def environment(package: str) -> dict[str, str]:
    """Returns an environment for a child process, in which it finds the same package first.

    Args:
        package: Folder that holds the package ``gramcli``.
    """
    stated = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([package, *(one for one in stated if one.startswith(os.sep))])}
