"""The versions of gramcli and of the libraries that computed a result.

They are recorded with caches, runs and checkpoints to explain differences, and are part of no fingerprint.
"""

from __future__ import annotations

import platform
from importlib.metadata import version

from gramcli import __version__


def versions() -> dict[str, str]:
    """Returns the version by name, of gramcli, Python and the libraries that numbers come from.

    Raises:
        importlib.metadata.PackageNotFoundError: One of the libraries is not installed.
    """
    libraries = ("torch", "torchaudio", "timm", "numpy", "h5py", "soundfile", "soxr")
    return {"gramcli": __version__, "python": platform.python_version(), **{name: version(name) for name in libraries}}
