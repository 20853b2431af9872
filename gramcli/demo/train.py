"""Trains the small network on the demo's sounds: ``python -m gramcli.demo.train [--out FILE] [--epochs N] [--seed S]``.

Random initialisation, RAdam, no augmentation, the epoch that does best on validation: the paper's recipe, with smaller
batches and a larger, falling learning rate, as there are only a few clips. The test split is not read.
"""

from __future__ import annotations

import argparse
import copy
import csv
import dataclasses
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from gramcli.audio.reader import Reader, fit
from gramcli.demo import WEIGHTS, sounds, waveforms
from gramcli.demo.network import small_cnn
from gramcli.network import frontend
from gramcli.settings.schema import FrontendSettings, SegmentSettings
from gramcli.system import durable_files

EPOCHS = 40
BATCH = 16
LEARNING_RATE = 3e-3
"""Of the first epoch; it falls to 0 along a cosine."""
FRONTEND = FrontendSettings(sample_rate=waveforms.RATE, n_mels=64, mean=-14.0, std=16.0)
SEGMENT = SegmentSettings(seconds=sounds.LONGEST, pad="repeat")
ARGUMENTS = {"in_chans": 1, "width": 24}


@dataclass(frozen=True)
class Trained:
    """A network at its best epoch."""

    module: nn.Module
    epoch: int
    """Counted from 1; 0 is before training."""
    accuracy: float
    """Share of the validation clips that it classifies correctly."""


def read(manifest: Path, split: str) -> tuple[Tensor, Tensor]:
    """Returns the log-mels of one split, (N, 1, mels, frames), and the indices of their classes, (N,)."""
    with manifest.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    length = frontend.samples(FRONTEND, SEGMENT)
    clips = []
    for row in rows:
        with Reader(str(manifest.parent / row["file"]), FRONTEND.sample_rate, SEGMENT.channel) as reader:
            clips.append(fit(reader.read(None), length, SEGMENT.pad))
    inputs: Tensor = frontend.build(FRONTEND)(torch.from_numpy(np.stack(clips)))
    return inputs, torch.tensor([list(sounds.CLASSES).index(row["label"]) for row in rows])


@torch.inference_mode()
def accuracy(module: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Returns the share of clips that the network classifies correctly."""
    module.eval()
    logits = torch.cat([module(batch) for batch in torch.split(inputs, BATCH)])
    return (logits.argmax(1) == labels).float().mean().item()


def train(manifest: Path, epochs: int, seed: int, report: Callable[[int, float], None] = lambda *_: None) -> Trained:
    """Trains on the manifest's train split and keeps the first epoch of the best validation accuracy.

    Args:
        manifest: What `sounds.write` returned.
        epochs: How often every training clip is used.
        seed: Seed of the weights and of the order of clips.
        report: Called after each epoch with its number and its validation accuracy.
    """
    torch.manual_seed(seed)
    module = small_cnn(len(sounds.CLASSES), **ARGUMENTS)
    optimiser = torch.optim.RAdam(module.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    inputs, labels = read(manifest, "train")
    held_out = read(manifest, "validation")
    best = Trained(copy.deepcopy(module), 0, accuracy(module, *held_out))
    for epoch in range(1, epochs + 1):
        module.train()
        for batch in torch.split(torch.randperm(len(labels)), BATCH):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(module(inputs[batch]), labels[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        schedule.step()
        reached = accuracy(module, *held_out)
        report(epoch, reached)
        if reached > best.accuracy:
            best = Trained(copy.deepcopy(module), epoch, reached)
    return best


def save(path: Path, trained: Trained, **training: Any) -> None:
    """Writes the weights with metadata: ``gramcli`` says how to use them, ``training`` how they were trained."""
    network = {
        "architecture": "gramcli.demo.network:small_cnn",
        "args": ARGUMENTS,
        "classes": list(sounds.CLASSES),
        "frontend": dataclasses.asdict(FRONTEND),
        "segment": dataclasses.asdict(SEGMENT),
    }
    training |= {"epoch": trained.epoch, "validation_accuracy": trained.accuracy}
    metadata = {"gramcli": json.dumps(network), "training": json.dumps(training)}
    durable_files.write(path, safetensors.torch.save(trained.module.state_dict(), metadata))


def main() -> None:
    """Makes the sounds, trains, and saves the weights."""
    parser = argparse.ArgumentParser(prog="python -m gramcli.demo.train", description="Train the demo's network.")
    parser.add_argument("--out", type=Path, default=Path(WEIGHTS.name), help="where to save it (%(default)s)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="times each clip is seen (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and order (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        manifest = sounds.write(Path(folder))
        trained = train(manifest, options.epochs, options.seed, lambda n, a: print(f"epoch {n:3}  validation {a:.3f}"))
    save(options.out, trained, epochs=options.epochs, seed=options.seed)
    print(f"{options.out}: epoch {trained.epoch}, validation accuracy {trained.accuracy:.3f}")


if __name__ == "__main__":
    main()
