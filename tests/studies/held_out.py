"""Study of sounds of an unknown class: ``python -m tests.studies.held_out OUT --data ESC10``.

For each class in turn, trains a network without it and calibrates. Then the AUROC of every score is computed between
the test clips of that class, which are unknown, and those of the others. No score is fitted on anything but training
and validation clips of the known classes. A network or a result that is there already is not computed again, so several
of these may run side by side on one OUT.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from gramcli.audio.decoder_pool import Decoders
from gramcli.audio.reader import stack
from gramcli.audio.requests import requests
from gramcli.cache import clip_table, statistics
from gramcli.cache.labelled_rows import read_rows
from gramcli.cache.statistics import Statistics
from gramcli.cache.view import View
from gramcli.calibration.calibrate import calibrate
from gramcli.dataset import manifest
from gramcli.dataset.clip import SPLITS, UNKNOWN, Clip
from gramcli.errors import LockedError
from gramcli.evaluation.ood.acoustics import AcousticMeter
from gramcli.extraction.extract import extract
from gramcli.gram.descriptor import normalise
from gramcli.gram.deviation import deviations
from gramcli.metrics.intervals import paired
from gramcli.metrics.ood import aupr, auroc, fpr_at_tpr
from gramcli.network import capture, checkpoint, frontend
from gramcli.network.prepare import build_network, probe
from gramcli.settings.configure import configure
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import Settings
from gramcli.system import folder_lock
from gramcli.training.train import train
from tests.studies import decisions, gram_ood
from tests.studies.unknown_scores import OWN, Array, SplitClips, others, ways

BATCH = 16


# --- networks that have not learnt a label


def settings(data: Path, out: Path, name: str, fold: int, seed: int, held: str) -> tuple[Settings, Path]:
    """Returns the settings of the network that has not learnt one label, and where its checkpoint is."""
    chosen, weights = decisions.settings(data, out, name, fold, seed, ())
    known = f"{weights.stem}-without-{held}"
    chosen = replace(
        chosen,
        data=replace(chosen.data, hold_out=(held,)),
        cache=replace(chosen.cache, dir=str(out / known)),
    )
    return chosen, out / f"{known}.safetensors"


def network(chosen: Settings, weights: Path) -> Path:
    """Trains a network, fills its cache, calibrates, and returns the cache's folder."""
    if not weights.exists():
        train(chosen, weights)
    recorded = chosen.as_dict()
    # all else the checkpoint knows; it was trained in bf16, which descriptors need not be
    flags = {
        "data": recorded["data"],
        "cache": recorded["cache"],
        "network": {"weights": str(weights)},
        "run": {"threads": 1},
    }
    cache = Path(chosen.cache.dir)
    extract(configure(RunContext(flags), metadata=checkpoint.settings_of_file))
    calibrate(cache)
    return cache


# --- what is known of each clip


def read_splits(cache: Path) -> tuple[dict[str, SplitClips], Array]:
    """Returns what is known of every split's clips, and E_l of the layers that can be used, (L,)."""
    view, clips = View.open(cache), clip_table.require(cache)
    known = statistics.load(cache, view.fingerprint)
    chosen = configure(RunContext(), earlier=view.recorded["settings"], metadata=checkpoint.settings_of_file)
    built = build_network(chosen, view.outputs, RunContext(folder=Path(view.recorded["folder"]), trust_code=True))
    module = built.module.to(memory_format=torch.channels_last)
    front = frontend.build(chosen.frontend)
    length = frontend.samples(chosen.frontend, chosen.segment)
    layers = capture.choose(probe(built, front, length, chosen.network).layers, chosen.network.layers)
    meter = AcousticMeter(chosen)
    found = {}
    with Decoders(1) as decoders:
        for split in (*SPLITS, UNKNOWN):
            some = clips.used(split)
            rows = _rows(view, some, known)
            samples = [one.samples for one in decoders.decode(requests(some, chosen))]
            if any(one is None for one in samples):
                raise ValueError(f"{cache}: a clip of {split} cannot be decoded")
            audio = meter.measure(samples)
            inputs = front(torch.from_numpy(stack(samples, length, chosen.segment.pad)))
            batches = inputs.contiguous(memory_format=torch.channels_last).split(BATCH)
            found[split] = SplitClips(
                **rows,
                roots=gram_ood.record(module, layers, batches),
                spectra=audio.spectra,
                plain=audio.measures,
            )
    return found, known.expected[known.expected > 0]


def _rows(view: View, clips: Sequence[Clip], known: Statistics) -> dict[str, Array | dict[str, Array]]:
    """Reads ĝ and logits from the cache, in the order of `clips`."""
    index = {label: n for n, label in enumerate(known.classes)}
    row_of = {}
    for group, rows, where in read_rows(view, clips):
        for clip, row in zip(group, where, strict=True):
            row_of[clip.key] = rows.logits[row], {layer: values[row] for layer, values in rows.descriptors.items()}
    found = [row_of[clip.key] for clip in clips]
    descriptors = {layer: np.stack([one[1][layer] for one in found]) for layer in known.layers}
    usable = [layer for layer, expected in zip(known.layers, known.expected, strict=True) if expected > 0]
    far = [deviations(normalise(descriptors[layer]), *known.bounds(layer), known.epsilon) for layer in usable]
    return {
        "labels": np.array([index.get(clip.label, -1) for clip in clips]),
        "logits": np.stack([one[0] for one in found]),
        "descriptors": descriptors,
        "deviations": np.stack(far, axis=1),
    }


# --- the table

Scores = Mapping[str, tuple[Array, Array]]
"""Of known and unknown test clips, by name."""


def scores(splits: Mapping[str, SplitClips], expected: Array) -> Scores:
    """Returns what every score gives the test clips; see `read_splits` for the arguments."""
    fitted = others(splits["train"], splits["validation"], expected)
    fitted |= {f"{OWN}: {name}": one for name, one in ways(splits["validation"], expected).items()}
    return {name: (score(splits["test"]), score(splits[UNKNOWN])) for name, score in fitted.items()}


def report(results: Mapping[str, Scores]) -> str:
    """Returns the mean of each measure over the classes held out, by score.

    Intervals are over classes: their unknown clips are different ones, their known clips mostly the same.

    Args:
        results: By label held out.
    """
    measures = auroc, aupr, fpr_at_tpr
    labels = list(results)
    names = list(results[labels[0]])
    values = np.array([[[one(*results[label][name]) for one in measures] for name in names] for label in labels])
    sizes = np.array([[len(some) for some in one[OWN]] for one in results.values()])
    chance = (sizes[:, 1] / sizes.sum(axis=1)).mean()
    lines = [
        f"| left out: {len(labels)} | AUROC | beyond {OWN} | lowest | AUPR ({chance:.3f}: chance) | FPR at 95 % TPR |",
        "|---" * 6 + "|",
    ]
    for n, name in enumerate(names):
        ahead = paired(values[:, n, 0] - values[:, names.index(OWN), 0], np.arange(len(labels)))
        interval = "" if ahead.low is None else f" ({ahead.low:+.3f} to {ahead.high:+.3f})"
        gain = "" if name == OWN else f"{ahead.mean:+.3f}{interval}"
        worst = int(values[:, n, 0].argmin())
        area, precision, passed = values[:, n].mean(axis=0)
        lowest = f"{values[worst, n, 0]:.2f} ({labels[worst]})"
        lines.append(f"| {name} | {area:.3f} | {gain} | {lowest} | {precision:.3f} | {passed:.3f} |")
    return "\n".join(lines)


def judge(chosen: Settings, weights: Path) -> Scores | None:
    """Returns the scores of one network, computed if they are not there; None while another run computes them."""
    done = weights.with_suffix(".npz")
    try:
        with folder_lock.lock(weights.parent / "running" / weights.stem):
            if not done.exists():
                found = scores(*read_splits(network(chosen, weights)))
                part = done.with_suffix(".part.npz")
                np.savez(part, **{f"{name}/{n}": one for name, pair in found.items() for n, one in enumerate(pair)})
                part.rename(done)
    except LockedError:
        return None
    with np.load(done) as stored:
        names = [key.removesuffix("/0") for key in stored if key.endswith("/0")]
        return {name: (stored[f"{name}/0"], stored[f"{name}/1"]) for name in names}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing and prints a line a class, and the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.studies.held_out", description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="ESC-10: audio/ and meta.csv")
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--labels", help="classes to leave out, one after the other (all)")
    parser.add_argument("--fold", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    which = options.data, options.out, options.network, options.fold, options.seed
    everything = replace(settings(*which, "nothing")[0].data, hold_out=())
    there = manifest.natural_sorted({row.label for row in manifest.read(everything).rows})
    results = {}
    for held in options.labels.split(",") if options.labels else there:
        found = judge(*settings(*which, held))
        if found is None:
            print(f"{held}: another run is at it", flush=True)
            continue
        results[held] = found
        areas = ", ".join(f"{name} {auroc(*some):.2f}" for name, some in found.items() if ":" not in name)
        print(f"{held}: {areas}", flush=True)
    if results:
        print(f"\n{report(results)}")


if __name__ == "__main__":
    main()
