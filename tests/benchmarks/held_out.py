"""Sounds of a class that nothing has learnt: ``python -m tests.benchmarks.held_out OUT --data ESC10``.

For each class in turn, trains a network without it, calibrates, and asks every score to tell the test clips of that
class from those of the others. No score is fitted on anything but training and validation clips of the known classes. A
network or a result that is there already is not computed again, and several of these may run side by side on one OUT.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gramcli.settings import Settings
from gramcli.stages.calibrate import calibrate
from gramcli.stages.configure import configure
from gramcli.stages.extract import extract
from gramcli.stages.train import train
from tests.benchmarks import study


def settings(data: Path, out: Path, name: str, fold: int, seed: int, held: str) -> tuple[Settings, Path]:
    """Returns the settings of the network that has not learnt one label, and where its checkpoint is."""
    chosen, weights = study.settings(data, out, name, fold, seed, ())
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
    data = chosen.data
    flags = {
        "data": {
            "manifest": data.manifest,
            "test_fold": data.test_fold,
            "validation_fold": data.validation_fold,
            "hold_out": list(data.hold_out),
        },
        "network": {"weights": str(weights)},
        "run": {"threads": 1},
        "cache": {"dir": chosen.cache.dir},
    }
    cache = Path(chosen.cache.dir)
    extract(configure(flags, config=None))
    calibrate(cache)
    return cache
