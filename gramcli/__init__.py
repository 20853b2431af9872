"""gramcli: classify sounds with every layer of a trained CNN.

The names in `__all__` are the public interface. They are imported when they are first used: ``import gramcli`` alone
loads neither torch nor h5py.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gramcli import cache
    from gramcli.calibration.calibrate import calibrate
    from gramcli.calibration.select_layers import select_layers
    from gramcli.evaluation.evaluate import evaluate
    from gramcli.extraction.extract import extract
    from gramcli.inference.classifier import GramClassifier
    from gramcli.settings.run_context import RunContext
    from gramcli.settings.schema import Settings
    from gramcli.training.train import train

__version__ = "0.1.0"

__all__ = [
    "GramClassifier",
    "RunContext",
    "Settings",
    "cache",
    "calibrate",
    "evaluate",
    "extract",
    "select_layers",
    "train",
]

_MODULES = {
    "GramClassifier": "inference.classifier",
    "RunContext": "settings.run_context",
    "Settings": "settings.schema",
    "calibrate": "calibration.calibrate",
    "evaluate": "evaluation.evaluate",
    "extract": "extraction.extract",
    "select_layers": "calibration.select_layers",
    "train": "training.train",
}
"""Where each name is defined; ``cache`` is a package of its own."""


def __getattr__(name: str) -> Any:
    if name == "cache":
        return importlib.import_module("gramcli.cache")
    if name not in _MODULES:
        raise AttributeError(f"module 'gramcli' has no attribute {name!r}")
    found = getattr(importlib.import_module(f"gramcli.{_MODULES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
