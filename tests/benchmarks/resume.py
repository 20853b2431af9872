"""Time of an extract with nothing left to do, with 10,000 shards and a million files."""

from __future__ import annotations

import csv
import hashlib
import time
from pathlib import Path

import numpy as np
from torch import nn

from gramcli.cache import clip_table, shard
from gramcli.cache.view import View
from gramcli.dataset.clip import SPLITS, Clip
from gramcli.extraction.extract import extract
from gramcli.network import checkpoint
from gramcli.network.prepare import prepare
from gramcli.settings.configure import configure
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import Settings
from tests.benchmarks.measure import Figure

SHARDS, ROWS, CLASSES = 10_000, 100, 10


def small(num_classes: int) -> nn.Module:
    """A network that is built in no time, so that the scan is what is measured."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes)
    )


TRUSTING = RunContext({"network": {"name": "tests.benchmarks.resume:small"}})
"""Names the network above."""


def finished(folder: Path) -> Settings:
    """Writes what an extract of a million files leaves behind, and returns its settings."""
    labels = [f"class{c}" for c in range(CLASSES)]
    manifest = folder / "manifest.csv"
    clips: list[Clip] = []
    with manifest.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "split"])
        for number in range(SHARDS):
            (folder / "audio" / f"{number:05d}").mkdir(parents=True)
            for row in range(ROWS):
                name, label = f"{number:05d}/{row:02d}.wav", labels[row % CLASSES]
                split = SPLITS[number % 3]
                path = folder / "audio" / name
                path.touch()  # nobody looks inside again
                writer.writerow([name, label, split])
                key = hashlib.sha256(name.encode()).hexdigest()
                changed = path.stat().st_mtime_ns
                clips.append(Clip(name, key, name, str(path), 0, changed, None, None, label, split, name, number, row))
    flags = {
        "data": {"manifest": str(manifest)},
        "network": {"name": "tests.benchmarks.resume:small", "classes": labels},
        "cache": {"dir": str(folder / "cache")},
    }
    chosen = configure(RunContext(flags), metadata=checkpoint.settings_of_file)
    cache = Path(chosen.cache.dir)
    ready = prepare(chosen, labels, TRUSTING)
    view = View.create(cache, ready.identity, {})
    rng = np.random.default_rng(0)
    for number in range(SHARDS):
        some = clips[number * ROWS : (number + 1) * ROWS]
        rows = {layer: rng.random((ROWS, channels), np.float32) for layer, channels in view.layers.items()}
        content = shard.encode(
            shard.Shard(
                tuple(one.key for one in some), (shard.OK,) * ROWS, np.zeros((ROWS, CLASSES), np.float32), rows
            ),
            view.fingerprint,
        )
        view.path(number).write_bytes(content)  # not durably, which takes its time
    clip_table.write(cache, clips, chosen.segment.seconds)
    return chosen


def measure(folder: Path, _data: Path | None) -> list[Figure]:
    """Takes the figure."""
    chosen = finished(folder)
    extract(chosen, TRUSTING)  # compares row by row, and leaves behind what shortens the next
    took = []
    for _ in range(3):
        began = time.perf_counter()
        done = extract(chosen, TRUSTING)
        took.append(time.perf_counter() - began)
        if (done.clips, done.forwarded, done.shards) != (SHARDS * ROWS, 0, SHARDS):
            raise AssertionError(f"{done} is not a finished cache")
    what = f"extract with nothing left to do, {SHARDS} shards, {SHARDS * ROWS} files"
    return [Figure(10, what, min(took), "s", most=5, about={"s": took})]
