"""``gramcli train``: a network from random weights to a checkpoint that says how it came about.

From Python::

    from gramcli import train

    trained = train({"data": {"manifest": "clips.csv"}, "network": {"name": "resnet18"}}, "w.safetensors")
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gramcli.audio.decoder_pool import Decoders
from gramcli.dataset import manifest as manifests
from gramcli.dataset.clip import Clip
from gramcli.errors import ArtefactError, NoInputError, ResourceError, UsageError
from gramcli.extraction import windows
from gramcli.network import torch_compat
from gramcli.network.prepare import check_held_out
from gramcli.progress import Progress
from gramcli.settings.configure import complete
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import Settings
from gramcli.system import durable_files
from gramcli.system.versions import versions
from gramcli.text import natural_sorted, shown

if TYPE_CHECKING:
    from gramcli.network.build import BuiltNetwork
    from gramcli.training.checkpointing import TrainingState
    from gramcli.training.loading import LoadedExamples

FORMAT = 1
"""Version of the recipe; a change that leads to other weights raises it."""


@dataclass(frozen=True)
class TrainResult:
    """What became of a training."""

    path: Path
    """The checkpoint."""
    epoch: int
    """Whose weights it holds: the first of the best validation accuracy, counted from 1."""
    accuracy: float
    """Share of the validation clips that it has right."""
    epochs: int
    """Epochs trained in all."""
    seconds: float
    """Wall time of this run."""
    resumed: int = 0
    """Epochs that an interrupted run had done before."""
    failed: int = 0
    """Clips that could not be read."""


def train(
    settings: Settings | Mapping[str, Mapping[str, Any]], out: str | Path, context: RunContext | None = None
) -> TrainResult:
    """Trains a network on the training split and keeps the epoch that does best on the validation split.

    Weights start at random. An interrupted training goes on from the file ``<out>.resume`` when it is called again;
    on a CPU, with as many threads, it ends at the same weights. A training that is finished is not repeated.

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
    """
    context, out = context or RunContext(), Path(out)
    settings, folder, progress = complete(settings, context), context.folder, context.progress
    began = time.monotonic()
    _check(settings, out)
    _import_lightning()
    listed = _listed(settings, progress)
    classes = settings.network.classes or tuple(natural_sorted({row.label for row in listed}))
    with Decoders.of(settings) as decoders:
        clips = windows.find_clips(listed, None, decoders, settings.segment.seconds, progress)
        unread = [clip for clip in clips if clip.error]
        training, validation = (
            [clip for clip in clips if clip.split == split and not clip.error] for split in ("train", "validation")
        )
        for split, found in (("training", training), ("validation", validation)):
            if not found:
                why = f" (the first: {shown(unread[0].id)}: {unread[0].error})" if unread else ""
                raise NoInputError(f"{shown(settings.data.manifest)}: no usable clip in the {split} split{why}")
        identity = _identity(settings, classes, training, validation)
        if out.exists():
            return _finished(out, identity, began, progress)
        done = _train(settings, out, folder, classes, training, validation, len(unread), identity, decoders, progress)
    return replace(done, seconds=time.monotonic() - began)


def _check(settings: Settings, out: Path) -> None:
    from gramcli.network import build
    from gramcli.training import augment

    build.require_name(settings.network)
    if out.suffix != ".safetensors":
        raise UsageError(
            f"{shown(out)}: checkpoints are written as .safetensors; name it {shown(out.stem)}.safetensors"
        )
    check_held_out(settings)
    augment.check(settings.train.augment, settings.frontend.kind)


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


def _listed(settings: Settings, progress: Progress) -> list[manifests.Row]:
    """Returns the labelled rows of training and validation."""
    manifest = manifests.read(settings.data)
    for note in manifest.notes:
        progress.note(note)
    # rows of the test split are not even opened
    rows = [row for row in manifest.rows if row.split in ("train", "validation")]
    known = set(settings.network.classes)
    for row in rows:
        if known and row.label not in known:
            raise ArtefactError(
                f"{shown(row.origin)}: label {shown(row.label)} is none of the network's {len(known)} outputs; "
                "mend the manifest or network.classes"
            )
    trained = {row.label for row in rows if row.split == "train"}
    for label in natural_sorted((known or {row.label for row in rows}) - trained):
        progress.note(f"class {shown(label)} has no training clip")
    return rows


def _identity(
    settings: Settings, classes: Sequence[str], training: Sequence[Clip], validation: Sequence[Clip]
) -> dict[str, Any]:
    """Returns all that the trained weights depend on, as JSON values."""
    recipe = {key: value for key, value in dataclasses.asdict(settings.train).items() if key != "memory_gib"}
    identity = {
        "format": FORMAT,
        "architecture": settings.network.name,
        "args": dict(settings.network.args),
        "classes": list(classes),
        "frontend": dataclasses.asdict(settings.frontend),
        "segment": dataclasses.asdict(settings.segment),
        "train": recipe,
        "seed": settings.data.seed,
        "precision": settings.run.precision,
        "training clips": _digest(training),
        "validation clips": _digest(validation),
    }
    return json.loads(json.dumps(identity))  # type: ignore[no-any-return]


def _digest(clips: Sequence[Clip]) -> str:
    """Names clips and labels in their order, which the order of training follows."""
    told = repr([(clip.key, clip.label) for clip in clips])
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()


def _finished(out: Path, identity: Mapping[str, Any], began: float, progress: Progress) -> TrainResult:
    """Returns what an earlier run made, if it is the same training."""
    from gramcli.network import checkpoint

    training = checkpoint.metadata(out).get("training")
    if not isinstance(training, dict) or training.get("identity") != _fingerprint(identity):
        raise UsageError(f"{shown(out)}: is there and is not the result of this training; name another --out")
    progress.note(f"{shown(out)}: is there already, from the same clips and settings; delete it to train again")
    done = training["epochs"]
    return TrainResult(
        out, training["epoch"], training["validation_accuracy"], done, time.monotonic() - began, resumed=done
    )


def _fingerprint(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _train(
    settings: Settings,
    out: Path,
    folder: Path,
    classes: Sequence[str],
    training: Sequence[Clip],
    validation: Sequence[Clip],
    unread: int,
    identity: Mapping[str, Any],
    decoders: Decoders,
    progress: Progress,
) -> TrainResult:
    import torch

    from gramcli.network import build, checkpoint, scorer
    from gramcli.training import loading
    from gramcli.training.checkpointing import ResumeFile
    from gramcli.training.lightning_module import LightningClassifier
    from gramcli.training.trainer import fit

    if settings.run.threads is not None:
        torch.set_num_threads(settings.run.threads)
    device = scorer.device(settings.run.device)
    if settings.network.weights is not None:
        progress.note("network.weights is not read: training starts from random weights")
    built = build.build(replace(settings.network, weights=None), len(classes), settings.data.seed, folder)
    for note in built.notes():
        progress.note(note)
    durable_files.make_folder(out.absolute().parent)
    durable_files.sweep(out.absolute().parent)
    diary = ResumeFile(out.with_name(f"{out.name}.resume"), identity)
    course = diary.read()
    resumed = course.epoch
    loaded = loading.load(training, validation, classes, settings, decoders, progress)
    for clip, why in loaded.failed[:1]:
        progress.note(f"{len(loaded.failed)} clips cannot be decoded; the first, {shown(clip.id)}: {why}")
    counts = Counter(clip.label for clip in training)
    progress.note(
        f"{built.architecture} on {device}: {len(loaded.training.labels)} training and "
        f"{len(loaded.validation.labels)} validation clips, {len(classes)} classes of "
        f"{' to '.join(map(str, sorted({min(counts.values()), max(counts.values())})))} clips"
    )
    if resumed:
        checkpoint.load_into(built.module, course.weights, diary.path)
        progress.note(f"goes on after epoch {resumed} of {settings.train.epochs}")
    built.module.train()
    for parameter in built.module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    classifier = LightningClassifier(
        built.module, loaded.training.front, len(classes), settings.train, settings.data.seed, course, diary, progress
    )
    fit(classifier, loaded.training, loaded.validation, device, settings.run.precision)
    failed = {clip.key for clip, _ in loaded.failed}
    used = [[clip for clip in clips if clip.key not in failed] for clips in (training, validation)]
    _save(out, settings, built, classes, loaded, course, used[0], used[1], identity)
    diary.remove()
    return TrainResult(out, course.best_epoch, course.accuracy, course.epoch, 0.0, resumed, unread + len(failed))


def _save(
    out: Path,
    settings: Settings,
    built: BuiltNetwork,
    classes: Sequence[str],
    loaded: LoadedExamples,
    course: TrainingState,
    training: Sequence[Clip],
    validation: Sequence[Clip],
    identity: Mapping[str, Any],
) -> None:
    """Writes the best weights with all that is needed to use them, and what they were made of."""
    import safetensors.torch

    from gramcli.dataset import provenance

    about = {
        "architecture": built.architecture,
        "args": built.arguments,
        "classes": list(classes),
        "frontend": dataclasses.asdict(loaded.frontend),
        "segment": dataclasses.asdict(settings.segment),
        **provenance.as_metadata(training, validation),
        "training": {
            "epochs": course.epoch,
            "epoch": course.best_epoch,
            "validation_accuracy": course.accuracy,
            "history": course.history,
            "recipe": dataclasses.asdict(settings.train),
            "seed": settings.data.seed,
            "validation_fold": settings.data.validation_fold,
            "test_fold": settings.data.test_fold,
            "hold_out": sorted(set(settings.data.hold_out)),
            "precision": settings.run.precision,
            "versions": versions() | _lightning_version(),
            "identity": _fingerprint(identity),
        },
    }
    weights = {name: tensor.contiguous() for name, tensor in course.best.items()}
    durable_files.write(out, safetensors.torch.save(weights, {"gramcli": json.dumps(about)}))


def _lightning_version() -> dict[str, str]:
    from importlib.metadata import version

    return {"lightning": version("lightning")}
