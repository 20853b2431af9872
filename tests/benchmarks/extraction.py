"""The whole of extract, from OGG files to durable shards, beside the plain forward alone on ready tensors.

And beside what one writes first: decode, log-mel, hooks with F Fᵀ, a file.
"""

from __future__ import annotations

import itertools
import os
import shutil
import time
from pathlib import Path

import h5py
import numpy as np
import soundfile
import soxr
import torch
from torch import nn

from gramcli.audio import frontend
from gramcli.network.scorer import device
from gramcli.settings import Frontend
from gramcli.stages.configure import configure
from gramcli.stages.extract import extract
from tests.benchmarks.forward import BATCH, BATCH_CUDA, CLASSES, SHAPE, naive, network
from tests.benchmarks.measure import Figure

CLIPS, ROUNDS = 256, 3
MOST = {"resnet50": 1.0, "mobilenetv2_100": 1.25}


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


def first_try(files: list[Path], plain: nn.Module, out: Path) -> None:
    """Extracts descriptors in one loop, and keeps them in one file."""
    place = next(plain.parameters()).device
    front = frontend.build(Frontend()).to(place)
    with h5py.File(out, "w") as file, torch.inference_mode():
        for first in range(0, len(files), BATCH):
            heard = []
            for path in files[first : first + BATCH]:
                samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
                heard.append(soxr.resample(samples.mean(1), rate, 16_000))
            found = naive(plain, front(torch.from_numpy(np.stack(heard)).to(place)))
            for layer, one in enumerate(found):
                file[f"{layer}/{first}"] = one.cpu().numpy()


def measure(folder: Path, data: Path | None) -> list[Figure]:
    """Takes the figures; none without recordings."""
    if data is None:
        return []
    manifest, place = recordings(folder, data), device("auto")
    # a GPU is faster than the two processes that keep up with a processor
    run = {"decoders": os.cpu_count(), "batch": BATCH_CUDA} if place.type == "cuda" else {}
    figures = []
    for name, most in MOST.items():
        flags = {
            "data": {"manifest": str(manifest)},
            "network": {"name": name, "classes": [f"class{c}" for c in range(CLASSES)]},
            "run": run,
            "cache": {"dir": str(folder / "cache")},
        }
        plain, inputs = network(name).to(place), torch.randn(BATCH, *SHAPE).to(place)
        with torch.inference_mode():  # with gradients it would leave memory behind that makes all that follows faster
            plain(inputs)  # what a device loads first is no part of a forward
        files = [folder / f"{number:03d}.ogg" for number in range(CLIPS)]
        ratios: list[float] = []
        kept: list[float] = []
        best: dict[str, float] = {}
        for _ in range(ROUNDS):
            began = time.perf_counter()
            with torch.inference_mode():
                for _ in range(CLIPS // BATCH):
                    plain(inputs).cpu()
            forward = time.perf_counter() - began
            done = extract(configure(flags, config=None), profile=True)
            shutil.rmtree(folder / "cache")
            took = {"forward": forward, "extract": done.seconds}
            if name == "resnet50":
                began = time.perf_counter()
                first_try(files, plain, folder / "first.h5")
                took["first try"] = time.perf_counter() - began
            ratios.append(done.seconds / forward)
            steps = (done.profile or {})["here"]
            kept.append((steps["commit"] + steps["wait for hashes"]) / done.seconds)
            best = {what: min(least, best.get(what, least)) for what, least in took.items()}
        about = {f"{what}, ms a clip": 1000 * least / CLIPS for what, least in best.items()} | {"ratios": ratios}
        what = f"extract of {name}, {CLIPS} clips of 10 s in OGG at 44.1 kHz, over its plain forward"
        figures.append(Figure(3, what, best["extract"] / best["forward"], most=most, about=about))
        if "first try" in best:
            hooks = f"one loop with hooks and F Fᵀ over extract of {name}, {CLIPS} clips"
            figures.append(Figure(4, hooks, best["first try"] / best["extract"], least=3, about=about))
        share = f"{name}: hashes of audio and shards, and durable commits, of the time of extract"
        figures.append(Figure(11, share, min(kept), most=0.03, about={"shares": kept}))
    return figures
