"""The study behind the default decision: ``python -m tests.benchmarks.study OUT --data ESC10 [--seeds 0]``.

Trains each network on each fold with `gramcli train`, extracts its clips as recorded and under every condition, fits
each candidate on the same validation clips, and judges all of them on the same test clips, pooled over folds. A network
or a result that is there already is not computed again, so several of these may run side by side on one OUT.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gramcli.audio.condition import parse
from gramcli.cache import clips as table
from gramcli.cache import statistics
from gramcli.cache.view import CLEAN, View
from gramcli.decide import fusion, likelihood
from gramcli.decide.crossfit import crossfit, parts
from gramcli.decide.likelihood import log_softmax
from gramcli.decide.unknown import strangeness
from gramcli.gram.decision import total
from gramcli.gram.descriptor import normalise
from gramcli.gram.deviation import deviations
from gramcli.gram.ranking import curve, how_many, layer_score
from gramcli.judge.intervals import paired
from gramcli.settings import Settings
from gramcli.stages.altered import altered
from gramcli.stages.calibrate import calibrate
from gramcli.stages.configure import configure
from gramcli.stages.extract import extract
from gramcli.stages.rows import read_rows
from gramcli.stages.train import train

# a quarter of the default front end's numbers, so that five folds of CPU training are affordable
FRONTEND = {"n_mels": 64, "hop_ms": 40.0}
EPOCHS = {"resnet18": 40, "mobilenetv2_100": 60, "densenet121": 30, "vgg16_bn": 15}
REPORTED = ("noise:20", "noise:10", "noise:0", "lowpass:3000", "reverb:0.5", "gain:-20")
TUNED = ("gain:-20", "lowpass:3000", "reverb:0.5")
"""Kinds of change that "altered" is fitted on; those of `REPORTED` that are not among them are news to it."""

Clips = Mapping[str, np.ndarray]


def settings(data: Path, out: Path, name: str, fold: int, seed: int, augment: Sequence[str]) -> tuple[Settings, Path]:
    """Returns the settings of one network, and where its checkpoint is."""
    known = f"{name}-{'-'.join(augment) or 'plain'}-fold{fold}-seed{seed}"
    flags = {
        "data": {"manifest": str(data / "meta.csv"), "test_fold": fold, "validation_fold": fold % 5 + 1, "seed": seed},
        "segment": {"seconds": 5},
        "frontend": FRONTEND,
        "network": {"name": name},
        "run": {"threads": 1, "precision": "fp32" if name.startswith("mobilenet") else "bf16"},
        "train": {"epochs": EPOCHS[name] * (3 if augment else 2) // 2, "augment": list(augment)},
        "cache": {"dir": str(out / known)},
    }
    return configure(flags, config=None), out / f"{known}.safetensors"


def network(data: Path, out: Path, *which: object) -> Path:
    """Trains one network, fills its cache and returns the cache's folder."""
    chosen, weights = settings(data, out, *which)  # type: ignore[arg-type]
    if not weights.exists():
        train(chosen, weights)
    cache = Path(chosen.cache.dir)
    flags = {
        "data": {
            "manifest": chosen.data.manifest,
            "test_fold": chosen.data.test_fold,
            "validation_fold": chosen.data.validation_fold,
        },
        "network": {"weights": str(weights)},
        "run": {"threads": 1},
        "cache": {"dir": str(cache)},
    }
    extract(configure(flags, config=None))
    calibrate(cache)
    altered(cache, [parse(text) for text in REPORTED], table.require(cache).used("validation", "test"))
    return cache


def read(view: View, clips: Sequence[table.Clip], known: statistics.Statistics) -> Clips:
    """Returns δ of all layers (N, L, C), log p (N, C), labels and groups (N,) of some clips of a view."""
    index = {label: n for n, label in enumerate(known.classes)}
    found: dict[str, list[object]] = {"deviations": [], "log_p": [], "labels": [], "groups": []}
    for group, rows, where in read_rows(view, clips):
        layers = [
            deviations(normalise(rows.descriptors[layer][where]), *known.bounds(layer), known.epsilon)
            for layer in known.layers
        ]
        found["deviations"] += list(np.stack(layers, axis=1))
        found["log_p"] += list(log_softmax(rows.logits[where]))
        found["labels"] += [index[clip.label] for clip in group]
        found["groups"] += [clip.group for clip in group]
    return {name: np.array(values) for name, values in found.items()}


def candidates(heard: Mapping[str, Mapping[str, Clips]]) -> dict[str, dict[str, np.ndarray]]:
    """Fits every candidate on validation clips and returns scores of the test clips, by candidate and condition.

    Only "altered" sees validation clips under a condition; no candidate sees a test clip before this returns.
    """
    known = heard[CLEAN]["validation"]
    far, log_p, labels = known["deviations"], known["log_p"], known["labels"]
    whole = far[np.arange(len(labels)), :, labels].mean(axis=0, dtype=np.float64)
    usable = np.flatnonzero(whole > 0)
    whole, far = whole[usable], far[:, usable]
    part_of = parts(known["groups"], labels)

    def expect(clips: np.ndarray) -> np.ndarray:
        where = np.flatnonzero(clips)
        found = far[where, :, labels[where]].mean(axis=0, dtype=np.float64)
        return np.where(found > 0, found, whole)

    everyone = np.ones(far.shape[2], bool)
    score = [layer_score((far[:, n] / whole[n]).astype(np.float32), labels, "rank") for n in range(len(whole))]
    order = sorted(range(len(whole)), key=lambda n: -score[n])
    best = order[: how_many("auto", curve((far[:, n] for n in order), whole[order], everyone, log_p, labels))]
    (sharp,) = likelihood.fit(log_p[..., None], labels, ridge=1e-3, centre=1.0)
    fused = fusion.choose(far, log_p, labels, part_of, expect).fusion
    alone = fusion.choose(far, None, labels, part_of, expect).fusion
    equal = fusion.fit(far, log_p, labels, whole, 1e6)
    raw = likelihood.fit(np.stack([log_p, -np.log1p(total(far, whole))], axis=-1), labels)
    also = [heard[name]["validation"] for name in (CLEAN, *TUNED)]
    joined = {name: np.concatenate([one[name] for one in also]) for name in known}
    widened = fusion.choose(
        joined["deviations"][:, usable],
        joined["log_p"],
        joined["labels"],
        parts(joined["groups"], joined["labels"]),
        lambda clips: whole,
    ).fusion
    strange = crossfit(part_of, lambda seen, held: strangeness(far[held], expect(seen)))
    gate = np.sort(strange)[int(np.ceil(0.95 * len(strange))) - 1]
    said: dict[str, dict[str, np.ndarray]] = {}
    for name, splits in heard.items():
        test = splits["test"]
        there, own = test["deviations"][:, usable], test["log_p"]
        both = fused.scores(there, own)
        beyond = strangeness(there, whole) > gate
        said[name] = {
            "network": own,
            "network, temperature": own * sharp,
            "gram, all layers": -total(there, whole),
            "gram, chosen layers": -total(there[:, best], whole[best]),
            "a·log p - b·log(1 + Δ̄)": np.stack([own, -np.log1p(total(there, whole))], axis=-1) @ raw,
            "one weight for all layers": equal.scores(there, own),
            "layers without the network": alone.scores(there, None),
            "fused, fitted on altered clips too": widened.scores(there, own),
            "fused, network where strange": np.where(beyond[:, None], own * sharp, both),
            "fused": both,
        }
    return {candidate: {name: said[name][candidate] for name in said} for candidate in said[CLEAN]}


def judge(cache: Path) -> dict[str, np.ndarray]:
    """Returns, for one network, which test clips each candidate has right and the log-probability of their class."""
    view, clips = View.open(cache), table.require(cache)
    known = statistics.load(cache, view.fingerprint)
    heard: dict[str, dict[str, Clips]] = {}
    for split in ("validation", "test"):
        used = clips.used(split)
        views = {CLEAN: (view, used)} | altered(cache, [parse(text) for text in REPORTED], used)
        for name, (one, placed) in views.items():
            heard.setdefault(name, {})[split] = read(one, placed, known)
    result = {}
    for candidate, by_condition in candidates(heard).items():
        for name, scores in by_condition.items():
            labels = heard[name]["test"]["labels"]
            result[f"{candidate}/{name}/right"] = (scores.argmax(axis=1) == labels).astype(float)
            result[f"{candidate}/{name}/log_p"] = log_softmax(scores)[np.arange(len(labels)), labels]
            result[f"groups/{name}"] = heard[name]["test"]["groups"]
    return result


def report(results: Sequence[Mapping[str, np.ndarray]]) -> str:
    """Returns the pooled table: accuracy under each condition, and points beyond the network with their interval."""

    def pooled(name: str) -> np.ndarray:
        return np.concatenate([one[name] for one in results])

    conditions = [CLEAN, *REPORTED]
    names = [key.removesuffix(f"/{CLEAN}/right") for key in results[0] if key.endswith(f"/{CLEAN}/right")]
    lines = [
        f"| {len(results)} networks | {' | '.join(conditions)} | NLL, clean |",
        "|---" * (len(conditions) + 2) + "|",
    ]
    for name in names:
        cells = []
        for condition in conditions:
            right = pooled(f"{name}/{condition}/right")
            gain = paired(right - pooled(f"network/{condition}/right"), pooled(f"groups/{condition}"))
            interval = (
                ""
                if gain.low is None
                else f" ({100 * gain.mean:+.1f}, {100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
            )
            cells.append(f"{100 * right.mean():.1f}{'' if name == 'network' else interval}")
        loss = -pooled(f"{name}/{CLEAN}/log_p").mean()
        lines.append(f"| {name} | {' | '.join(cells)} | {'' if name.startswith('gram') else f'{loss:.2f}'} |")
    return "\n".join(lines)


def main() -> None:
    """Runs what is missing and prints one table a network, and one of all."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.study", description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="ESC-10: audio/ and meta.csv")
    parser.add_argument("--networks", default="resnet18,mobilenetv2_100")
    parser.add_argument("--folds", default="1,2,3,4,5")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--augment", default="none,specaugment+mixup", help="none, or names joined with +")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[Mapping[str, np.ndarray]]] = {}
    for seed in map(int, options.seeds.split(",")):
        for augment in options.augment.split(","):
            for name in options.networks.split(","):
                for fold in map(int, options.folds.split(",")):
                    wanted = [] if augment == "none" else augment.split("+")
                    chosen, _ = settings(options.data, options.out, name, fold, seed, wanted)
                    done = Path(chosen.cache.dir).with_suffix(".npz")
                    if not done.exists():
                        found = judge(network(options.data, options.out, name, fold, seed, wanted))
                        np.savez(done.with_suffix(".part.npz"), **found)
                        done.with_suffix(".part.npz").rename(done)
                    results.setdefault(name, []).append(np.load(done))
                    right = (
                        results[name][-1]["network/clean/right"].mean(),
                        results[name][-1]["fused/clean/right"].mean(),
                    )
                    print(f"{done.stem}: network {right[0]:.3f}, fused {right[1]:.3f}", flush=True)
    for name, some in results.items():
        print(f"\n{name}\n\n{report(some)}")
    print(f"\nall\n\n{report([one for some in results.values() for one in some])}")


if __name__ == "__main__":
    main()
