"""The versions that numbers were computed with; recorded, and no part of any fingerprint."""

from __future__ import annotations

import platform
from importlib.metadata import version

from gramcli import __version__


def versions() -> dict[str, str]:
    """Returns what the numbers were made with; recorded, not part of any fingerprint."""
    parts = ("torch", "torchaudio", "timm", "numpy", "h5py", "soundfile", "soxr")
    return {"gramcli": __version__, "python": platform.python_version(), **{part: version(part) for part in parts}}
