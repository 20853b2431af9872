"""The checkpoint that a training ends with: weights and how to use them, how they were trained and on which clips."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gramcli.dataset import provenance
from gramcli.errors import ArtefactError, UsageError
from gramcli.network import checkpoint
from gramcli.settings.schema import FrontendSettings
from gramcli.system import durable_files
from gramcli.system.versions import versions
from gramcli.text import shown
from gramcli.training.recipe import Recipe

if TYPE_CHECKING:
    from gramcli.network.build import BuiltNetwork
    from gramcli.training.resume import TrainingState


@dataclass(frozen=True)
class TrainResult:
    """What came of a training."""

    path: Path
    """The checkpoint."""
    epoch: int
    """Whose weights it holds: the first of the best validation accuracy, counted from 1."""
    accuracy: float
    """Share of the validation clips that it classifies correctly."""
    epochs: int
    """Epochs trained in all."""
    seconds: float
    """Wall time of this run."""
    resumed: int = 0
    """Epochs that an earlier run had trained."""
    failed: int = 0
    """Clips that could not be used."""


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network whose training is over."""

    built: BuiltNetwork
    frontend: FrontendSettings
    """With mean and standard deviation as they were measured."""
    state: TrainingState


def save(path: Path, trained: TrainedNetwork, recipe: Recipe, used: Recipe) -> None:
    """Writes the weights of the best epoch with metadata that `gramcli extract --weights` takes all settings from.

    Args:
        path: The checkpoint, safetensors.
        trained: The network.
        recipe: As it was asked for; its fingerprint is stored.
        used: The same with the clips that could be used.

    Raises:
        UsageError: There is a file of this name by now.
        ResourceError: It cannot be written.
    """
    import safetensors.torch

    settings, state = used.settings, trained.state
    metadata = {
        "architecture": trained.built.architecture,
        "args": trained.built.arguments,
        "classes": list(used.clips.classes),
        "frontend": dataclasses.asdict(trained.frontend),
        "segment": dataclasses.asdict(settings.segment),
        **provenance.as_metadata(used.clips.training, used.clips.validation),
        "training": {
            "epochs": state.epoch,
            "epoch": state.best_epoch,
            "validation_accuracy": state.accuracy,
            "history": state.history,
            "failed": used.clips.failed,
            "recipe": dataclasses.asdict(settings.train),
            "seed": settings.data.seed,
            "validation_fold": settings.data.validation_fold,
            "test_fold": settings.data.test_fold,
            "hold_out": sorted(set(settings.data.hold_out)),
            "precision": settings.run.precision,
            "versions": versions() | {"lightning": version("lightning")},
            "identity": recipe.fingerprint,
        },
    }
    weights = {name: tensor.contiguous() for name, tensor in state.best.items()}
    content = safetensors.torch.save(weights, {"gramcli": json.dumps(metadata)})
    try:
        durable_files.write(path, content, replace=False)
    except FileExistsError:
        raise UsageError(
            f"{shown(path)}: was made by somebody during the training; move it away and run the same command again"
        ) from None


def finished(path: Path, recipe: Recipe) -> TrainResult:
    """Returns what an earlier run of the same command made.

    Raises:
        UsageError: The checkpoint is of another training.
        NoInputError, ArtefactError: It cannot be read.
    """
    training: Any = checkpoint.metadata(path).get("training")
    if not isinstance(training, dict) or training.get("identity") != recipe.fingerprint:
        raise UsageError(
            f"{shown(path)}: is there and is not the result of this training; name another --out, or delete it"
        )
    try:
        epoch, epochs, accuracy = (
            int(training["epoch"]),
            int(training["epochs"]),
            float(training["validation_accuracy"]),
        )
        failed = int(training.get("failed", 0))  # at first, failed clips were not recorded
    except (KeyError, TypeError, ValueError):
        raise ArtefactError(
            f"{shown(path)}: its gramcli metadata cannot be read as that of a training; delete the file to train again"
        ) from None
    return TrainResult(path, epoch, accuracy, epochs, 0.0, resumed=epochs, failed=failed)
