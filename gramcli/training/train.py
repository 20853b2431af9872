"""``gramcli train``: trains a network from random weights and writes its checkpoint.

From Python::

    from gramcli import train

    trained = train({"data": {"manifest": "clips.csv"}, "network": {"name": "resnet18"}}, "w.safetensors")
"""

from __future__ import annotations

import importlib
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gramcli.audio.decoder_pool import Decoders
from gramcli.errors import ResourceError, UsageError
from gramcli.network import torch_compat
from gramcli.network.prepare import check_held_out
from gramcli.settings.configure import complete
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import Settings
from gramcli.system import durable_files, output_file
from gramcli.text import shown
from gramcli.training import saving
from gramcli.training.clips import find_training_clips
from gramcli.training.recipe import Recipe
from gramcli.training.saving import TrainResult


def train(
    settings: Settings | Mapping[str, Mapping[str, Any]], out: str | Path, context: RunContext | None = None
) -> TrainResult:
    """Trains a network on the training split and keeps the epoch that does best on the validation split.

    Weights start at random. A training that was interrupted goes on from the file ``<out>.resume`` when it is called
    again; on a CPU, with as many threads, it ends with the same weights. A training that is finished is not repeated.

    Args:
        settings: Complete settings, or values by section and key, which are completed as the command line does;
            ``data.manifest`` and ``network.name`` must be given, ``network.weights`` is not read.
        out: The checkpoint to write, safetensors.
        context: Progress, the folder of a network's factory and, for values to complete, more settings and the file.

    Raises:
        UsageError: Settings or manifest contradict themselves, or the loss is not finite.
        NoInputError: A split has no usable clip.
        ArtefactError: `out` or its resume file is of another training, or a label is none of ``network.classes``.
        DamagedError: The resume file is damaged.
        ResourceError: Lightning, the device, space or permission is missing.
        UnsafeError: A settings file names code or arguments that the user has not named or trusted.
    """
    context, out = context or RunContext(), Path(out)
    settings, context = complete(settings, context)
    began, progress = time.monotonic(), context.progress
    _check(settings, out, context)
    _import_lightning()
    with Decoders.of(settings) as decoders:
        recipe = Recipe(settings, find_training_clips(settings, decoders, progress))
        if out.exists():
            done = saving.finished(out, recipe)
            progress.note(f"{shown(out)}: is there already, from the same clips and settings; delete it to train again")
        else:
            done = _train(recipe, out, decoders, context)
    return replace(done, seconds=time.monotonic() - began)


def _check(settings: Settings, out: Path, context: RunContext) -> None:
    from gramcli.network.permission import permit
    from gramcli.training import augment

    permit(settings.network, context)
    if out.suffix != ".safetensors":
        raise UsageError(
            f"{shown(out)}: checkpoints are written as .safetensors; name it {shown(out.stem)}.safetensors"
        )
    for path in (out, out.with_name(resume_name(out))):
        output_file.require_writable(path, makes_folder=True)
    check_held_out(settings)
    augment.check(settings.train.augment, settings.frontend.kind)


def resume_name(out: Path) -> str:
    """Returns the name of the file that an interrupted training goes on from; see `gramcli.training.resume`."""
    return f"{out.name}.resume"


def _import_lightning() -> None:
    """Imports Lightning beside any build of torchvision, which it imports through torchmetrics."""
    torch_compat.timm()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("lightning.pytorch")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "lightning":
            raise
        raise ResourceError(
            "training needs Lightning, which is not installed; install it, or gramcli with its extra train"
        ) from None


def _train(recipe: Recipe, out: Path, decoders: Decoders, context: RunContext) -> TrainResult:
    """Builds the network, trains it from where an earlier run stopped, and writes the checkpoint."""
    import torch

    from gramcli.network import build, execution
    from gramcli.network.scorer import AudioNetwork
    from gramcli.training import loading
    from gramcli.training.lightning_module import LightningClassifier
    from gramcli.training.resume import ResumeFile
    from gramcli.training.trainer import fit

    settings, classes, progress = recipe.settings, recipe.clips.classes, context.progress
    if settings.run.threads is not None:
        torch.set_num_threads(settings.run.threads)
    device = execution.device(settings.run.device)
    if settings.network.weights is not None:
        progress.note("network.weights is not read: training starts from random weights")
    built = build.build(replace(settings.network, weights=None), len(classes), settings.data.seed, context)
    durable_files.make_folder(out.absolute().parent)
    durable_files.sweep(out.absolute().parent)
    resume_file = ResumeFile(out.with_name(resume_name(out)), recipe.identity)
    state = resume_file.read(built.module, settings.train)
    resumed = state.epoch
    loaded = loading.load(recipe.clips, settings, decoders, progress)
    for clip, why in loaded.failed[:1]:
        progress.note(f"{len(loaded.failed)} clips cannot be decoded; the first, {shown(clip.id)}: {why}")
    progress.note(
        f"{built.architecture} on {device}: {len(loaded.training.labels)} training and "
        f"{len(loaded.validation.labels)} validation clips, {len(classes)} classes of "
        f"{' to '.join(map(str, sorted(set(recipe.clips.sizes))))} clips"
    )
    if resumed:
        built.module.load_state_dict(state.weights)
        progress.note(f"goes on after epoch {resumed} of {settings.train.epochs}")
    built.module.train()
    for parameter in built.module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    network = AudioNetwork(built.module, loaded.training.front, len(classes))
    classifier = LightningClassifier(network, settings, state, resume_file, progress)
    fit(classifier, loaded.training, loaded.validation, device, settings.run.precision)
    used = replace(recipe, clips=recipe.clips.without({clip.key for clip, _ in loaded.failed}))
    saving.save(out, saving.TrainedNetwork(built, loaded.frontend, state), recipe, used)
    resume_file.remove()
    return TrainResult(out, state.best_epoch, state.accuracy, state.epoch, 0.0, resumed, used.clips.failed)
