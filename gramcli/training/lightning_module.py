"""The training loop as Lightning runs it: loss, validation, optimiser, the best epoch. Needs the extra ``train``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn

from gramcli.errors import ArtefactError, UsageError
from gramcli.network.scorer import AudioNetwork
from gramcli.progress import Progress
from gramcli.settings.schema import Settings
from gramcli.training import augment
from gramcli.training.examples import Examples, seed_of, split
from gramcli.training.resume import ResumeFile, TrainingState

_OPTIMISERS = {
    "radam": torch.optim.RAdam,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


@dataclass
class EpochLoader:
    """The batches of one epoch, which Lightning iterates over."""

    examples: Examples
    size: int
    classifier: LightningClassifier | None = None
    """Tells the epoch's seed and augmentation; None for clips in their own order, unchanged."""

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
        network: Network and front end; the network's weights are changed.
        settings: All settings; those of the training and the seed count.
        state: Where to go on from; it is brought up to date after every epoch.
        resume_file: Where the state is written after an epoch.
        progress: Told of clips as they are done, and of every epoch that is the best so far.
    """

    def __init__(
        self,
        network: AudioNetwork,
        settings: Settings,
        state: TrainingState,
        resume_file: ResumeFile,
        progress: Progress,
    ) -> None:
        super().__init__()
        if network.outputs is None:
            raise ValueError("the number of classes must be known")
        self.network, self.front, self.outputs = network.module, network.frontend, network.outputs
        self.recipe, self.seed = settings.train, settings.data.seed
        self.augment: Sequence[str] = settings.train.augment
        self.state, self.resume_file, self.progress = state, resume_file, progress
        self._resumed = state.epoch
        self._generator = torch.Generator()
        self._loss, self._seen, self._correct, self._judged = torch.zeros(()), 0, 0, 0

    @property
    def epoch(self) -> int:
        """The current epoch, counted from 1."""
        return self._resumed + int(self.current_epoch) + 1

    def seed_of_epoch(self) -> int:
        """Returns the seed of this epoch's order, augmentation and dropout."""
        return seed_of(self.seed, self.epoch)

    def configure_optimizers(self) -> Any:
        """Returns the optimiser, in the state in which an interrupted training left it."""
        recipe = self.recipe
        kind: Any = _OPTIMISERS[recipe.optimiser]
        momentum = {"momentum": 0.9} if recipe.optimiser == "sgd" else {}
        optimiser = kind(
            self.network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, **momentum
        )
        if self.state.moments:
            optimiser.load_state_dict({**optimiser.state_dict(), "state": self.state.moments})
        return optimiser

    def on_train_epoch_start(self) -> None:
        """Seeds the generators and sets the learning rate; both depend on the number of the epoch alone."""
        seed = self.seed_of_epoch()
        torch.manual_seed(seed)
        self._generator.manual_seed(seed)
        factor = 1.0
        if self.recipe.schedule == "cosine":
            factor = 0.5 * (1 + np.cos(np.pi * (self.epoch - 1) / self.recipe.epochs))
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.recipe.learning_rate * factor
        self._loss, self._seen, self._correct, self._judged = torch.zeros((), device=self.device), 0, 0, 0
        last = ""
        if self.state.history:
            loss, accuracy = self.state.history[-1]
            last = f": loss {loss:.3f}, validation accuracy {accuracy:.3f}"
        loader: Any = self.trainer.train_dataloader
        self.progress.start(f"epoch {self.epoch} of {self.recipe.epochs}{last}", len(loader.examples.labels))

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
        self.progress.advance(len(labels))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _number: int) -> None:
        """Counts the clips that the network classifies correctly."""
        best = self._logits(self._inputs(batch[0])).argmax(dim=1)
        self._correct += int((best == batch[1]).sum())
        self._judged += len(best)

    def on_train_epoch_end(self) -> None:
        """Brings the state up to date, after validation, and keeps the weights if the epoch is the best so far."""
        loss, accuracy = float(self._loss) / self._seen, self._correct / self._judged
        if not np.isfinite(loss):
            raise UsageError(f"epoch {self.epoch}: the loss is not finite; lower train.learning_rate (--learning-rate)")
        state = self.state
        state.epoch = self.epoch
        state.history.append((loss, accuracy))
        state.weights = self.network.state_dict()
        state.moments = self.trainer.optimizers[0].state_dict()["state"]
        if accuracy > state.accuracy:
            state.best = {name: tensor.detach().cpu().clone() for name, tensor in state.weights.items()}
            state.best_epoch, state.accuracy = self.epoch, accuracy
            self.progress.note(
                f"epoch {self.epoch} of {self.recipe.epochs}: loss {loss:.3f}, "
                f"validation accuracy {accuracy:.3f}, the best so far"
            )
        self.resume_file.write(state)

    def _inputs(self, batch: Tensor) -> Tensor:
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
