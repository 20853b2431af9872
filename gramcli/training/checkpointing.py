"""How training got on, epoch by epoch, and the file that an interrupted training goes on from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gramcli.cache import sealed
from gramcli.errors import ArtefactError
from gramcli.identity import differences
from gramcli.system import durable_files
from gramcli.text import shown

KIND = "training"
SHARE = 0.05
"""Largest share of the time that goes into writing the file."""

State = dict[str, Tensor]


@dataclass
class TrainingState:
    """Where training stands after an epoch."""

    epoch: int = 0
    """Epochs that are done."""
    weights: State = field(default_factory=dict)
    """After the last of them."""
    optimiser: dict[str, Any] = field(default_factory=dict)
    """`torch.optim.Optimizer.state_dict`."""
    best: State = field(default_factory=dict)
    """After the epoch of the best validation accuracy, the first of several."""
    best_epoch: int = 0
    accuracy: float = -1.0
    """Of that epoch, on the validation clips."""
    history: list[tuple[float, float]] = field(default_factory=list)
    """Mean training loss and validation accuracy of each epoch."""


class ResumeFile:
    """Writes the course to a file as often as costs little time.

    Args:
        path: The file.
        identity: What the training is; a file of another one is refused.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path, self.identity = path, identity
        self._due = 0.0

    def read(self) -> TrainingState:
        """Returns where an interrupted training stood; its start if there was none.

        Raises:
            ArtefactError: The file belongs to another training; each difference is named.
            DamagedError: It is not as it was written.
        """
        if not self.path.exists():
            return TrainingState()
        file = sealed.load(self.path, KIND, "delete it to begin anew")
        if changed := differences(file.about["identity"], self.identity):
            raise ArtefactError(
                f"{shown(self.path)}: a training that was interrupted and was another ({'; '.join(changed[:4])}); "
                "undo that to go on, or delete the file to begin anew"
            )
        about = file.about
        parts: dict[str, State] = {"weights": {}, "best": {}, "optimiser": {}}
        for name in file.names:
            part, _, key = name.partition("/")
            parts[part][key] = torch.from_numpy(file[name])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimiser"].items():
            number, _, key = name.partition("/")
            moments.setdefault(int(number), {})[key] = tensor
        return TrainingState(
            about["epoch"],
            parts["weights"],
            {"state": moments, "param_groups": about["groups"]},
            parts["best"],
            about["best_epoch"],
            about["accuracy"],
            [(loss, accuracy) for loss, accuracy in about["history"]],
        )

    def write(self, course: TrainingState) -> None:
        """Writes the file if it is time to.

        Raises:
            ResourceError: It cannot be written.
        """
        began = time.monotonic()
        if began < self._due:
            return
        tensors = {f"weights/{name}": tensor for name, tensor in course.weights.items()}
        tensors |= {f"best/{name}": tensor for name, tensor in course.best.items()}
        for number, moments in course.optimiser["state"].items():
            tensors |= {f"optimiser/{number}/{key}": tensor for key, tensor in moments.items()}
        about = {
            "identity": self.identity,
            "epoch": course.epoch,
            "best_epoch": course.best_epoch,
            "accuracy": course.accuracy,
            "history": course.history,
            "groups": course.optimiser["param_groups"],
        }
        sealed.write(self.path, KIND, {name: _array(tensor) for name, tensor in tensors.items()}, about)
        ended = time.monotonic()
        self._due = ended + (ended - began) / SHARE

    def remove(self) -> None:
        """Deletes the file, which is of no use once the checkpoint is written.

        Raises:
            ResourceError: It cannot be deleted.
        """
        durable_files.remove(self.path)


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = tensor.detach().cpu().contiguous().numpy()
    return array
