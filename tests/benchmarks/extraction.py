"""Speed of extract, from OGG files to durable shards, against the plain forward pass alone on ready tensors.

And against a simple script: decode, log-mel, hooks with F Fᵀ, a file.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import soundfile
import soxr
import torch

from gramcli.extraction.extract import ExtractResult, extract
from gramcli.network import checkpoint, execution, frontend
from gramcli.settings.configure import configure
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import FrontendSettings
from gramcli.system import malloc
from tests.benchmarks.forward import BATCH, BATCH_CUDA, CLASSES, naive, network, plain
from tests.benchmarks.measure import Figure, apart, seconds

CLIPS, ROUNDS = 256, 3
MAX_RATIOS = {"resnet50": 1.0, "mobilenetv2_100": 1.25}


def recordings(folder: Path, data: Path) -> Path:
    """Writes clips of ten seconds at 44.1 kHz as OGG, each of two recordings, and returns their manifest."""
    files = sorted((data / "audio").glob("*.ogg"))
    lines = ["file,label,split"]
    for number, (one, other) in enumerate(itertools.islice(itertools.pairwise(files), CLIPS)):
        samples = [soundfile.read(path, frames=5 * 44_100, fill_value=0.0, dtype="float32") for path in (one, other)]
        if {rate for _, rate in samples} != {44_100}:
            raise AssertionError(f"{one} is not at 44.1 kHz")
        soundfile.write(folder / f"{number:03d}.ogg", np.concatenate([both[0] for both in samples]), 44_100)
        lines.append(f"{number:03d}.ogg,class{number % CLASSES},{'validation' if number % 4 == 0 else 'train'}")
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def first_try(name: str, device: str, folder: Path) -> Callable[[], object]:
    """Returns what extracts descriptors in one loop, and keeps them in one file."""
    module, front = network(name).to(device), frontend.build(FrontendSettings()).to(device)

    def job() -> None:
        with h5py.File(folder / "first.h5", "w") as file, torch.inference_mode():
            for first in range(0, CLIPS, BATCH):
                waveforms = []
                for number in range(first, first + BATCH):
                    samples, rate = soundfile.read(folder / f"{number:03d}.ogg", dtype="float32", always_2d=True)
                    waveforms.append(soxr.resample(samples.mean(1), rate, 16_000))
                found = naive(module, front(torch.from_numpy(np.stack(waveforms)).to(device)))
                for layer, one in enumerate(found):
                    file[f"{layer}/{first}"] = one.cpu().numpy()

    return job


def forward_alone(name: str, device: str) -> Callable[[], object]:
    """Returns the plain forward of as many clips, whose log-mels are ready."""
    once = plain(name, BATCH, device)
    once()  # what a device loads first is no part of a forward

    def job() -> None:
        for _ in range(CLIPS // BATCH):
            once()

    return job


def measure(folder: Path, data: Path | None) -> list[Figure]:
    """Takes the figures; none without recordings."""
    if data is None:
        return []
    malloc.keep_freed()  # as the program does
    manifest, device = recordings(folder, data), execution.device("auto")
    # a GPU is faster than the two processes that keep up with a processor
    run = {"decoders": os.cpu_count(), "batch": BATCH_CUDA} if device.type == "cuda" else {}
    figures = []
    for name, most in MAX_RATIOS.items():
        flags = {
            "data": {"manifest": str(manifest)},
            "network": {"name": name, "classes": [f"class{c}" for c in range(CLASSES)]},
            "run": run,
            "cache": {"dir": str(folder / "cache")},
        }
        done: list[ExtractResult] = []

        def whole(flags: dict[str, Any] = flags, done: list[ExtractResult] = done) -> None:
            done.append(extract(configure(RunContext(flags), metadata=checkpoint.settings_of_file), profile=True))
            shutil.rmtree(folder / "cache")

        with contextlib.ExitStack() as stack:
            jobs = {"forward": stack.enter_context(apart(forward_alone, name, str(device))), "extract": whole}
            if name == "resnet50":
                jobs["first try"] = stack.enter_context(apart(first_try, name, str(device), folder))
            best = seconds(jobs, ROUNDS)
        profiles = [(one.seconds, (one.profile or {})["here"]) for one in done]
        kept = [(steps["commit"] + steps["wait for hashes"]) / took for took, steps in profiles]
        about = {f"{what}, ms a clip": 1000 * least / CLIPS for what, least in best.items()}
        what = f"extract of {name}, {CLIPS} clips of 10 s in OGG at 44.1 kHz, over its plain forward"
        figures.append(Figure(3, what, best["extract"] / best["forward"], most=most, about=about))
        if "first try" in best:
            hooks = f"one loop with hooks and F Fᵀ over extract of {name}, {CLIPS} clips"
            figures.append(Figure(4, hooks, best["first try"] / best["extract"], least=3, about=about))
        share = f"{name}: hashes of audio and shards, and durable commits, of the time of extract"
        figures.append(Figure(11, share, min(kept), most=0.03, about={"shares": kept}))
    return figures
