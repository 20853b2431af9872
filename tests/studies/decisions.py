"""Study of the default decision: ``python -m tests.studies.decisions OUT --data ESC10 [--seeds 0]``.

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
from gramcli.cache import clip_table
from gramcli.cache.labelled_rows import read_rows
from gramcli.cache.view import CLEAN, View
from gramcli.dataset.clip import SPLITS
from gramcli.extraction.conditions import extract_conditions
from gramcli.extraction.extract import extract
from gramcli.fitting.conditional_logit import log_softmax
from gramcli.metrics.intervals import paired
from gramcli.network import checkpoint
from gramcli.settings.configure import configure
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import Settings
from gramcli.training.train import train
from tests.studies.candidates import ByCondition, Clips, candidates, without_labels

# a quarter of the default front end's numbers, so that five folds of CPU training are affordable
FRONTEND = {"n_mels": 64, "hop_ms": 40.0}
EPOCHS = {"resnet18": 40, "mobilenetv2_100": 60, "densenet121": 30, "vgg16_bn": 15}
NETWORK, DEFAULT = "network", "fused"
REPORTED = ("noise:20", "noise:10", "noise:0", "lowpass:3000", "reverb:0.5", "gain:-20")


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
    return configure(RunContext(flags), metadata=checkpoint.settings_of_file), out / f"{known}.safetensors"


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
        "network": {"weights": str(weights), "with_means": True},
        "run": {"threads": 1},
        "cache": {"dir": str(cache)},
    }
    extract(configure(RunContext(flags), metadata=checkpoint.settings_of_file))
    extract_conditions(cache, [parse(text) for text in REPORTED], clip_table.require(cache).used("validation", "test"))
    return cache


def read(view: View, clips: Sequence[clip_table.Clip]) -> Clips:
    """Returns the clips of a view in the order of their keys."""
    index = {label: n for n, label in enumerate(view.outputs)}
    found: list[Clips] = []
    keys: list[str] = []
    for group, rows, where in read_rows(view, clips, with_means=True):
        found.append(
            Clips(
                {layer: values[where] for layer, values in rows.descriptors.items()},
                {layer: values[where] for layer, values in rows.means.items()},
                log_softmax(rows.logits[where]),
                np.array([index[clip.label] for clip in group]),
                np.array([clip.group for clip in group]),
            )
        )
        keys += [clip.key for clip in group]
    return Clips.joined(found).some(np.argsort(keys))


def hear(cache: Path) -> dict[str, dict[str, Clips]]:
    """Returns the clips of a cache by condition and split."""
    view, clips = View.open(cache), clip_table.require(cache)
    by_condition: dict[str, dict[str, Clips]] = {}
    for split in SPLITS:
        used = clips.used(split)
        asked = [] if split == "train" else [parse(text) for text in REPORTED]
        views = {CLEAN: (view, used)} | extract_conditions(cache, asked, used)
        for name, (one, placed) in views.items():
            by_condition.setdefault(name, {})[split] = read(one, placed)
    return by_condition


def judge(by_condition: ByCondition) -> dict[str, np.ndarray]:
    """Returns, for one network, which test clips each candidate has right and the log-probability of their class."""
    result = {}
    for candidate, score in candidates(by_condition).items():
        for name, splits in by_condition.items():
            test = splits["test"]
            scores = score(without_labels(test))
            result[f"{candidate}/{name}/right"] = (scores.argmax(axis=1) == test.labels).astype(float)
            result[f"{candidate}/{name}/log_p"] = log_softmax(scores)[np.arange(len(test.labels)), test.labels]
            result[f"groups/{name}"] = test.groups
    return result


def report(results: Sequence[Mapping[str, np.ndarray]]) -> str:
    """Returns the pooled table.

    Accuracy under each condition with points beyond the network and their interval over groups, negative
    log-likelihood of the clips as recorded, and by how many points the default is ahead on them.
    """

    def pooled(name: str) -> np.ndarray:
        return np.concatenate([one[name] for one in results])

    def ahead(name: str, of: str, condition: str) -> str:
        gain = paired(
            pooled(f"{name}/{condition}/right") - pooled(f"{of}/{condition}/right"), pooled(f"groups/{condition}")
        )
        if gain.low is None:
            return f"{100 * gain.mean:+.1f}"
        return f"{100 * gain.mean:+.1f}, {100 * gain.low:+.1f} to {100 * gain.high:+.1f}"

    conditions = [CLEAN, *REPORTED]
    names = [key.removesuffix(f"/{CLEAN}/right") for key in results[0] if key.endswith(f"/{CLEAN}/right")]
    lines = [
        f"| {len(results)} networks | {' | '.join(conditions)} | NLL, clean | {DEFAULT} beyond it, clean |",
        "|---" * (len(conditions) + 3) + "|",
    ]
    for name in names:
        cells = []
        for condition in conditions:
            right = 100 * pooled(f"{name}/{condition}/right").mean()
            cells.append(f"{right:.1f}" + ("" if name == NETWORK else f" ({ahead(name, NETWORK, condition)})"))
        loss = -pooled(f"{name}/{CLEAN}/log_p").mean()
        cells.append("" if name.startswith(("gram", "the paper")) else f"{loss:.2f}")
        cells.append("" if name == DEFAULT else ahead(DEFAULT, name, CLEAN))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing and prints one table a network, and one of all."""
    parser = argparse.ArgumentParser(prog="python -m tests.studies.decisions", description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="ESC-10: audio/ and meta.csv")
    parser.add_argument("--networks", default="resnet18,mobilenetv2_100")
    parser.add_argument("--folds", default="1,2,3,4,5")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--augment", default="none,specaugment+mixup", help="none, or names joined with +")
    options = parser.parse_args(arguments)
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
                        found = judge(hear(network(options.data, options.out, name, fold, seed, wanted)))
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
