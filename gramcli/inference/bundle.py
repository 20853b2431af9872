"""What classify needs: a network, its settings and a decision rule, from a cache or from one exported file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from gramcli.cache import decision, sealed, statistics
from gramcli.cache.statistics import damaged
from gramcli.cache.view import View
from gramcli.extraction.reopen import require_network
from gramcli.identity import require_identity
from gramcli.inference.rule import Rule
from gramcli.rule.threshold import Threshold

KIND = "model"


@dataclass(frozen=True)
class ModelBundle:
    """A calibrated network, not yet built."""

    identity: Mapping[str, Any]
    """Of the view that the rule was made from."""
    settings: Mapping[str, Any]
    """Settings of the extract, by section."""
    folder: Path
    """First on the import path of a factory."""
    rule: Rule
    weights: Mapping[str, npt.NDArray[Any]] | None
    """State of the network, or None where `settings` name a checkpoint."""


def load(path: Path) -> ModelBundle:
    """Reads a model from the folder of a cache or from an exported file; see `from_cache` and `from_file`."""
    return from_file(path) if path.is_file() else from_cache(path)


def from_cache(cache: Path) -> ModelBundle:
    """Reads the model of a calibrated cache.

    Raises:
        ArtefactError: A stage has not run, or its result no longer fits.
        DamagedError: A file is not as it was written.
    """
    view = View.open(cache)
    require_network(view)
    known = statistics.load(cache, view.fingerprint)
    return of_view(view, Rule.of(known, decision.load(cache, known)))


def of_view(view: View, rule: Rule) -> ModelBundle:
    """Returns the network of a view with a rule, which may not be stored yet; see `reopen.require_network`."""
    return ModelBundle(view.identity, view.recorded["settings"], Path(view.recorded["folder"]), rule, None)


def from_file(path: Path) -> ModelBundle:
    """Reads an exported model.

    Raises:
        ArtefactError: It is not there, or is something else.
        DamagedError: It is not as it was written.
    """
    file = sealed.load(path, KIND, "make it with gramcli export")
    try:
        return _exported(path, file)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        raise damaged(file) from None


def _exported(path: Path, file: sealed.Sealed) -> ModelBundle:
    """Reads what `save` writes; a file that is whole may still hold anything, as whoever can write one can seal it."""
    about = file.about
    layers = tuple(about["layers"])
    rule = Rule(
        tuple(about["classes"]),
        layers,
        {layer: (file.numbers(f"lower/{layer}"), file.numbers(f"upper/{layer}")) for layer in layers},
        file.numbers("expected", least=0),
        file.numbers("counts", least=0),
        about["epsilon"],
        about["chosen"],
        about["rule"],
        decision.unpacked(file),
        about["sharpness"],
        None if about["threshold"] is None else Threshold(**about["threshold"]),
        decision.levelling(file),
        decision.discriminant(file),
    )
    rule.check()
    require_identity(about["identity"])
    if not isinstance(about["identity"]["weights"], str):
        raise TypeError("weights")
    weights = {name.removeprefix("weights/"): file[name] for name in file.names if name.startswith("weights/")}
    # a factory of the user's is looked for beside the model, as beside gramcli.toml
    return ModelBundle(about["identity"], dict(about["settings"]), path.absolute().parent, rule, weights)


def save(path: Path, model: ModelBundle) -> None:
    """Writes a model, weights included, as one sealed safetensors file.

    Raises:
        ResourceError: It cannot be written.
    """
    if model.weights is None:
        raise ValueError("a model is exported with its weights")
    rule = model.rule
    fused, described = decision.packed(rule.fusion, rule.levelling, rule.discriminant)
    tensors = {"expected": rule.expected, "counts": rule.counts} | fused
    for layer in rule.layers:
        tensors[f"lower/{layer}"], tensors[f"upper/{layer}"] = rule.bounds[layer]
    tensors |= {f"weights/{name}": array for name, array in model.weights.items()}
    about = {
        "identity": model.identity,
        "settings": model.settings,
        "classes": list(rule.classes),
        "layers": list(rule.layers),
        "epsilon": rule.epsilon,
        "chosen": rule.chosen,
        "rule": rule.name,
        "sharpness": rule.sharpness,
        "threshold": None if rule.threshold is None else asdict(rule.threshold),
    }
    sealed.write(path, KIND, tensors, about | described)
