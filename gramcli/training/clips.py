"""The clips that a network is trained on and those that choose its epoch, found in the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from gramcli.audio.decoder_pool import Decoders
from gramcli.dataset import manifest as manifests
from gramcli.dataset.clip import Clip
from gramcli.errors import ArtefactError, NoInputError
from gramcli.extraction import windows
from gramcli.progress import Progress
from gramcli.settings.schema import Settings
from gramcli.text import natural_sorted, shown


@dataclass(frozen=True, eq=False)
class TrainingClips:
    """Labelled clips of the training and the validation split."""

    training: Sequence[Clip]
    validation: Sequence[Clip]
    classes: tuple[str, ...]
    """Labels in the order of the network's outputs."""
    failed: int = 0
    """Clips of both splits that cannot be used and are left out."""

    @property
    def sizes(self) -> tuple[int, int]:
        """Training clips of the smallest and of the largest class that has any."""
        counts = Counter(clip.label for clip in self.training).values()
        return min(counts), max(counts)

    def without(self, keys: Collection[str]) -> TrainingClips:
        """Returns the clips that are left where some turn out to be unusable."""
        training, validation = (
            [clip for clip in clips if clip.key not in keys] for clips in (self.training, self.validation)
        )
        return replace(self, training=training, validation=validation, failed=self.failed + len(keys))


def find_training_clips(settings: Settings, decoders: Decoders, progress: Progress) -> TrainingClips:
    """Reads the manifest and hashes the files of the training and validation split; no other file is opened.

    Raises:
        UsageError: Settings or manifest contradict themselves.
        NoInputError: A split has no usable clip.
        ArtefactError: A label is none of ``network.classes``.
    """
    listed = _listed(settings, progress)
    classes = settings.network.classes or tuple(natural_sorted({row.label for row in listed}))
    clips = windows.find_clips(listed, None, decoders, settings.segment.seconds, progress)
    failed = [clip for clip in clips if clip.error]
    training, validation = (
        [clip for clip in clips if clip.split == split and not clip.error] for split in ("train", "validation")
    )
    for split, found in (("training", training), ("validation", validation)):
        if not found:
            why = f" (the first: {shown(failed[0].id)}: {failed[0].error})" if failed else ""
            raise NoInputError(f"{shown(settings.data.manifest)}: no usable clip in the {split} split{why}")
    return TrainingClips(training, validation, classes, len(failed))


def _listed(settings: Settings, progress: Progress) -> list[manifests.Row]:
    """Returns the rows of the training and validation split."""
    manifest = manifests.read(settings.data)
    for note in manifest.notes:
        progress.note(note)
    rows = [row for row in manifest.rows if row.split in ("train", "validation")]
    outputs = set(settings.network.classes)
    for row in rows:
        if outputs and row.label not in outputs:
            raise ArtefactError(
                f"{shown(row.origin)}: label {shown(row.label)} is none of the network's {len(outputs)} outputs; "
                "correct the manifest or network.classes"
            )
    trained = {row.label for row in rows if row.split == "train"}
    for label in natural_sorted((outputs or {row.label for row in rows}) - trained):
        progress.note(f"class {shown(label)} has no training clip")
    return rows
