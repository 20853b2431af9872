"""The resume file of a training: its state after an epoch, from which an interrupted training goes on."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gramcli.cache import sealed, sealed_writer
from gramcli.errors import ArtefactError
from gramcli.identity import differences
from gramcli.json_values import require_shallow
from gramcli.settings.schema import TrainSettings
from gramcli.system import durable_files
from gramcli.text import shown

KIND = "training"
SHARE = 0.05
"""Largest share of a training's time that is spent on writing the file."""

_MOMENTS = {"sgd": {"momentum_buffer"}}
"""What an optimiser keeps of a parameter, by its name; see `_ADAPTIVE` for all others."""
_ADAPTIVE = {"step", "exp_avg", "exp_avg_sq"}

State = dict[str, Tensor]


@dataclass
class TrainingState:
    """The state of a training after an epoch."""

    epoch: int = 0
    """Number of epochs trained."""
    weights: State = field(default_factory=dict)
    """After the last of them."""
    moments: dict[int, State] = field(default_factory=dict)
    """State of the optimiser, by the number of the parameter: ``state`` of `torch.optim.Optimizer.state_dict`."""
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

    def read(self, module: nn.Module, recipe: TrainSettings) -> TrainingState:
        """Returns the state of an interrupted training; that before the first epoch if there is no file.

        Args:
            module: The network, which the state must fit; it is not changed.
            recipe: How it is trained.

        Raises:
            ArtefactError: The file belongs to another training; each difference is named.
            DamagedError: It is not as it was written, or does not fit the network.
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
            state = _state(file)
            _require_course(state, recipe.epochs)
            _require_fit(state, module, _MOMENTS.get(recipe.optimiser, _ADAPTIVE))
            return state

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
        for number, moments in state.moments.items():
            tensors |= {f"optimiser/{number}/{key}": tensor for key, tensor in moments.items()}
        values = {
            "identity": self.identity,
            "epoch": state.epoch,
            "best_epoch": state.best_epoch,
            "accuracy": state.accuracy,
            "history": state.history,
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
    return TrainingState(
        stored["epoch"],
        parts["weights"],
        moments,
        parts["best"],
        stored["best_epoch"],
        stored["accuracy"],
        [(loss, accuracy) for loss, accuracy in stored["history"]],
    )


def _require_course(state: TrainingState, epochs: int) -> None:
    """Raises a ValueError unless epochs, losses and accuracies are those of a training after one of its epochs."""
    for name, number, most in (("epoch", state.epoch, epochs), ("best_epoch", state.best_epoch, state.epoch)):
        if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= most:
            raise ValueError(f"{name} is {number!r}")
    if len(state.history) != state.epoch:
        raise ValueError(f"history of {len(state.history)} epochs, not {state.epoch}")
    for loss, accuracy in state.history:
        if not all(isinstance(number, float | int) for number in (loss, accuracy)):
            raise TypeError("history")
        if not math.isfinite(loss) or not 0 <= accuracy <= 1:
            raise ValueError(f"loss {loss!r}, accuracy {accuracy!r}")
    if state.accuracy != state.history[state.best_epoch - 1][1]:
        raise ValueError(f"accuracy is {state.accuracy!r}")


def _require_fit(state: TrainingState, module: nn.Module, kept: set[str]) -> None:
    """Raises a ValueError unless weights and moments are finite ones of this network.

    Args:
        state: The state.
        module: The network.
        kept: What the optimiser keeps of each parameter.
    """
    wanted = module.state_dict()
    for what, weights in (("weights", state.weights), ("best weights", state.best)):
        if weights.keys() != wanted.keys():
            raise ValueError(f"{what} of another network")
        for name, tensor in weights.items():
            _require_alike(f"{what}: {name}", tensor, wanted[name])
    parameters = list(module.parameters())
    for number, moments in state.moments.items():
        if not 0 <= number < len(parameters) or moments.keys() != kept:
            raise ValueError(f"moments of parameter {number}")
        for name, tensor in moments.items():
            like = torch.zeros(()) if name == "step" else parameters[number]
            _require_alike(f"{name} of parameter {number}", tensor, like)
            if name in ("step", "exp_avg_sq") and bool((tensor < (name == "step")).any()):
                raise ValueError(f"{name} of parameter {number} is too small")


def _require_alike(what: str, tensor: Tensor, wanted: Tensor) -> None:
    if tensor.shape != wanted.shape or tensor.dtype != wanted.dtype or not bool(tensor.isfinite().all()):
        raise ValueError(f"{what}: not finite numbers of type {wanted.dtype} and shape {tuple(wanted.shape)}")


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = tensor.detach().cpu().contiguous().numpy()
    return array
