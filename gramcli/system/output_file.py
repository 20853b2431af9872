"""A file that the user wants written: checks that it can be, before the work for it is done."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from gramcli.errors import UsageError
from gramcli.system import durable_files, opener, temporary_file
from gramcli.text import shown


def require_writable(path: Path, *, makes_folder: bool = False) -> None:
    """Checks that a file can be written under this name, before the work for the file is done.

    Args:
        path: The file. One that is there can be replaced, but nothing else: no folder, link, pipe or device.
        makes_folder: Whether a folder that is missing will be made.

    Raises:
        UsageError: Something else stands there, there is no folder to hold it, or no file can have such a name.
        ResourceError: That folder cannot be written.
    """
    try:
        if not path.parent.is_dir():
            if makes_folder:
                return
            raise UsageError(f"{shown(path)}: there is no folder {shown(path.parent)}; make it, or name another file")
        with opener.folder(path.parent) as descriptor:
            longest = temporary_file.longest_name(descriptor)
            if len(os.fsencode(path.name)) > longest:
                raise UsageError(
                    f"{shown(path)}: names of files in this folder have at most {longest} bytes; give a shorter name"
                )
            opener.require_regular(path, descriptor, None)
            if not path.name or path.name == "..":
                raise UsageError(f"{shown(path)}: is a folder; name a file")
            if not os.access(".", os.W_OK, dir_fd=descriptor):
                raise durable_files.resource_error(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    except ValueError:  # a zero byte, or a character that the names of files cannot have
        raise UsageError(f"{shown(path)}: no file can have this name; give another one") from None
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise durable_files.resource_error(path, error) from None
        raise UsageError(f"{shown(path)}: is longer than the system allows; give a shorter name") from None
