"""The network as Lightning trains it. Importing this needs the extra ``train``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn

from gramcli.errors import ArtefactError, UsageError
from gramcli.progress import Progress
from gramcli.settings.schema import TrainSettings
from gramcli.training import augment
from gramcli.training.checkpointing import ResumeFile, TrainingState
from gramcli.training.examples import Examples, seed_of, split

_OPTIMISERS = {
    "radam": torch.optim.RAdam,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


@dataclass
class EpochLoader:
    """What Lightning iterates over: the batches of one epoch."""

    examples: Examples
    size: int
    classifier: LightningClassifier | None = None
    """Asked for the epoch and its seed; None for clips in their own order, unchanged."""

    def __len__(self) -> int:
        return len(split(torch.arange(len(self.examples.labels)), self.size))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        count = len(self.examples.labels)
        if self.classifier is None:
            return self.examples.batches(split(torch.arange(count), self.size))
        seed = self.classifier.seed_of_epoch()
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        change = None
        if "noise" in self.classifier.augment:
            random = np.random.default_rng(seed)
            change = lambda samples: augment.noise(samples, random)  # noqa: E731
        return self.examples.batches(split(order, self.size), change)


class LightningClassifier(pl.LightningModule):
    """Cross-entropy on the training clips, accuracy on the validation clips, the best epoch's weights kept.

    Args:
        network: The network; its weights are changed.
        front: Front end, where batches are waveforms.
        outputs: Number of classes.
        chosen: How to train.
        seed: Of order, augmentation and dropout.
        course: Where to go on from.
        diary: What is told of every epoch.
        progress: Told of clips as they are done.
    """

    def __init__(
        self,
        network: nn.Module,
        front: nn.Module | None,
        outputs: int,
        chosen: TrainSettings,
        seed: int,
        course: TrainingState,
        diary: ResumeFile,
        progress: Progress,
    ) -> None:
        super().__init__()
        self.network, self.front = network, front
        self.outputs, self.chosen, self.seed = outputs, chosen, seed
        self.augment: Sequence[str] = chosen.augment
        self.course, self.diary, self.told = course, diary, progress
        self._began_at = course.epoch
        self._generator = torch.Generator()
        self._loss, self._seen, self._right, self._judged = torch.zeros(()), 0, 0, 0

    @property
    def epoch(self) -> int:
        """The epoch that is under way, counted from 1."""
        return self._began_at + int(self.current_epoch) + 1

    def seed_of_epoch(self) -> int:
        """Returns the seed of all that is drawn in this epoch."""
        return seed_of(self.seed, self.epoch)

    def configure_optimizers(self) -> Any:
        """Returns the optimiser, as it was left off, and the schedule."""
        chosen = self.chosen
        kind: Any = _OPTIMISERS[chosen.optimiser]
        momentum = {"momentum": 0.9} if chosen.optimiser == "sgd" else {}
        optimiser = kind(
            self.network.parameters(), lr=chosen.learning_rate, weight_decay=chosen.weight_decay, **momentum
        )
        if self.course.optimiser:
            optimiser.load_state_dict(self.course.optimiser)
        return optimiser

    def on_train_epoch_start(self) -> None:
        """Seeds all that is drawn and sets the learning rate: both depend on the epoch's number alone."""
        seed = self.seed_of_epoch()
        torch.manual_seed(seed)
        self._generator.manual_seed(seed)
        factor = 1.0
        if self.chosen.schedule == "cosine":
            factor = 0.5 * (1 + np.cos(np.pi * (self.epoch - 1) / self.chosen.epochs))
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.chosen.learning_rate * factor
        self._loss, self._seen, self._right, self._judged = torch.zeros((), device=self.device), 0, 0, 0
        last = ""
        if self.course.history:
            loss, accuracy = self.course.history[-1]
            last = f": loss {loss:.3f}, validation accuracy {accuracy:.3f}"
        loader: Any = self.trainer.train_dataloader
        self.told.start(f"epoch {self.epoch} of {self.chosen.epochs}{last}", len(loader.examples.labels))

    def training_step(self, batch: tuple[Tensor, Tensor], _number: int) -> Tensor:
        """Returns the mean cross-entropy of a batch."""
        inputs, labels = self._inputs(batch[0]), batch[1]
        targets = nn.functional.one_hot(labels, self.outputs).to(inputs)
        if "specaugment" in self.augment:
            inputs = augment.specaugment(inputs, self._generator)
        if "mixup" in self.augment:
            inputs, targets = augment.mixup(inputs, targets, self._generator)
        loss = nn.functional.cross_entropy(self._logits(inputs), targets)
        self._loss += loss.detach() * len(labels)
        self._seen += len(labels)
        self.told.advance(len(labels))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _number: int) -> None:
        """Counts the clips that the network has right."""
        best = self._logits(self._inputs(batch[0])).argmax(dim=1)
        self._right += int((best == batch[1]).sum())
        self._judged += len(best)

    def on_train_epoch_end(self) -> None:
        """Writes down the epoch, after its validation; keeps the weights if it is the best so far."""
        loss, accuracy = float(self._loss) / self._seen, self._right / self._judged
        if not np.isfinite(loss):
            raise UsageError(f"epoch {self.epoch}: the loss is not finite; lower train.learning_rate")
        course = self.course
        course.epoch = self.epoch
        course.history.append((loss, accuracy))
        course.weights = self.network.state_dict()
        course.optimiser = self.trainer.optimizers[0].state_dict()
        if accuracy > course.accuracy:
            course.best = {name: tensor.detach().cpu().clone() for name, tensor in course.weights.items()}
            course.best_epoch, course.accuracy = self.epoch, accuracy
            self.told.note(
                f"epoch {self.epoch} of {self.chosen.epochs}: loss {loss:.3f}, "
                f"validation accuracy {accuracy:.3f}, the best so far"
            )
        self.diary.write(course)

    def _inputs(self, batch: Tensor) -> Tensor:
        if self.front is not None:
            with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                batch = self.front(batch)
        return batch.contiguous(memory_format=torch.channels_last) if batch.dim() == 4 else batch

    def _logits(self, inputs: Tensor) -> Tensor:
        returned = self.network(inputs)
        if not isinstance(returned, Tensor) or returned.shape != (len(inputs), self.outputs):
            raise ArtefactError(
                f"the network returns {getattr(returned, 'shape', type(returned).__name__)} for {len(inputs)} clips, "
                f"not ({len(inputs)}, {self.outputs}): only networks that return logits can be trained"
            )
        return returned.float()
