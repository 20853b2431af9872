"""The resume file of a training: its state after an epoch, from which an interrupted training goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gramcli.cache import sealed, sealed_writer
from gramcli.errors import ArtefactError
from gramcli.identity import differences
from gramcli.json_values import require_shallow
from gramcli.system import durable_files
from gramcli.text import shown

KIND = "training"
SHARE = 0.05
"""Largest share of a training's time that is spent on writing the file."""

State = dict[str, Tensor]


@dataclass
class TrainingState:
    """The state of a training after an epoch."""

    epoch: int = 0
    """Number of epochs trained."""
    weights: State = field(default_factory=dict)
    """After the last of them."""
    optimiser: dict[str, Any] = field(default_factory=dict)
    """`torch.optim.Optimizer.state_dict`."""
    best: State = field(default_factory=dict)
    """Weights after the epoch with the best validation accuracy; the first of several."""
    best_epoch: int = 0
    accuracy: float = -1.0
    """Accuracy of the best epoch on the validation clips."""
    history: list[tuple[float, float]] = field(default_factory=list)
    """Mean training loss and validation accuracy of each epoch."""


class ResumeFile:
    """Keeps the state of a training in a file, written as often as costs little time.

    Args:
        path: The file.
        identity: The training's identity; a file of another training is refused.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path, self.identity = path, identity
        self._due = 0.0

    def read(self) -> TrainingState:
        """Returns the state of an interrupted training; that before the first epoch if there is no file.

        Raises:
            ArtefactError: The file belongs to another training; each difference is named.
            DamagedError: It is not as it was written.
        """
        if not os.path.lexists(self.path):
            return TrainingState()
        file = sealed.load(self.path, KIND, below=self.path.parent)
        with sealed.reading(file):
            identity = file.about["identity"]
            require_shallow(identity)
            if changed := differences(identity, self.identity):
                raise ArtefactError(
                    f"{shown(self.path)}: belongs to an interrupted training with other settings or clips "
                    f"({'; '.join(changed[:4])}); undo that to go on, or delete the file to begin anew"
                )
            return _state(file)

    def write(self, state: TrainingState) -> None:
        """Writes the file, unless that would take more than `SHARE` of the time since it was last written.

        Raises:
            ResourceError: It cannot be written.
        """
        began = time.monotonic()
        if began < self._due:
            return
        tensors = {f"weights/{name}": tensor for name, tensor in state.weights.items()}
        tensors |= {f"best/{name}": tensor for name, tensor in state.best.items()}
        for number, moments in state.optimiser["state"].items():
            tensors |= {f"optimiser/{number}/{key}": tensor for key, tensor in moments.items()}
        values = {
            "identity": self.identity,
            "epoch": state.epoch,
            "best_epoch": state.best_epoch,
            "accuracy": state.accuracy,
            "history": state.history,
            "groups": state.optimiser["param_groups"],
        }
        arrays = {name: _array(tensor) for name, tensor in tensors.items()}
        sealed_writer.write(self.path, KIND, arrays, values, below=self.path.parent)
        now = time.monotonic()
        self._due = now + (now - began) / SHARE

    def remove(self) -> None:
        """Deletes the file, which is of no use once the checkpoint is written.

        Raises:
            ResourceError: It cannot be deleted.
        """
        durable_files.remove(self.path, below=self.path.parent)


def _state(file: sealed.Sealed) -> TrainingState:
    """Returns the state in a file.

    Raises:
        DamagedError, KeyError, TypeError, ValueError: `ResumeFile.write` does not write such values.
    """
    stored = file.about
    parts: dict[str, State] = {"weights": {}, "best": {}, "optimiser": {}}
    for name in file.names:
        part, _, key = name.partition("/")
        parts[part][key] = torch.from_numpy(file[name])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimiser"].items():
        number, _, key = name.partition("/")
        moments.setdefault(int(number), {})[key] = tensor
    for name in ("epoch", "best_epoch"):
        if not isinstance(stored[name], int) or isinstance(stored[name], bool) or stored[name] < 0:
            raise ValueError(f"{name} is {stored[name]!r}")
    if not isinstance(stored["groups"], list):
        raise TypeError("groups")
    return TrainingState(
        stored["epoch"],
        parts["weights"],
        {"state": moments, "param_groups": stored["groups"]},
        parts["best"],
        stored["best_epoch"],
        float(stored["accuracy"]),
        [(float(loss), float(accuracy)) for loss, accuracy in stored["history"]],
    )


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = tensor.detach().cpu().contiguous().numpy()
    return array
