"""Imports torchaudio and timm also beside a CPU build of torch.

The published wheels of torchaudio and torchvision (which timm imports) are built against CUDA. Beside a CPU build of
torch their compiled parts do not load and the import fails, although gramcli needs only their Python code. Each
function tries the plain import first, and avoids the compiled part only if that fails.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_operators: list[Any] = []  # a torch.library.Library takes its operators with it when it is collected


def torchaudio() -> ModuleType:
    """Returns the module ``torchaudio``, without its compiled part if that does not load."""
    try:
        return importlib.import_module("torchaudio")
    except (OSError, RuntimeError):  # a library that does not load, or one made for another CUDA
        _forget("torchaudio")
    extension: Any = ModuleType("torchaudio._extension")
    extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
    extension._IS_ALIGN_AVAILABLE = False
    extension.fail_if_no_align = lambda function: function
    sys.modules[extension.__name__] = extension
    return importlib.import_module("torchaudio")


def timm() -> ModuleType:
    """Returns the module ``timm``, without torchvision's compiled operators if these do not load."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError:  # "operator torchvision::nms does not exist": their gradients are registered on import
        _forget("torchvision")
        library: Any = importlib.import_module("torch.library").Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _operators.append(library)
    return importlib.import_module("timm")


def _forget(package: str) -> None:
    """Drops the modules that a failed import left behind, so that the next import starts anew."""
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]
