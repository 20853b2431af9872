"""A model bundle: network, settings and decision rule, read from a calibrated cache or from an exported file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from gramcli.cache import decision, fitted_rule, sealed, sealed_writer, statistics
from gramcli.cache.sealed import Sealed
from gramcli.cache.view import View
from gramcli.errors import UsageError
from gramcli.extraction.reopen import code_origin, require_network
from gramcli.identity import require_identity
from gramcli.inference.rule import Rule
from gramcli.network.code_trust import CodeOrigin
from gramcli.network.prepare import StoredNetwork, prepare
from gramcli.settings import sources
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import Settings
from gramcli.system import output_file
from gramcli.text import shown

KIND = "model"


@dataclass(frozen=True)
class ModelBundle:
    """A calibrated network that is not built yet."""

    identity: Mapping[str, Any]
    """Identity of the view that the rule was fitted on."""
    settings: Mapping[str, Any]
    """Settings of extract, by section."""
    origin: CodeOrigin
    """The cache or file, and the folder of the project whose code it may name."""
    rule: Rule
    weights: Mapping[str, npt.NDArray[Any]] | None
    """Weights of the network by name; None if `settings` name a checkpoint."""


def load(path: Path) -> ModelBundle:
    """Reads a model from the folder of a cache or from an exported file; see `from_cache` and `from_file`.

    Raises:
        NoInputError: The path is that of a pipe or device.
    """
    return from_file(path) if path.exists() and not path.is_dir() else from_cache(path)


def from_cache(cache: Path) -> ModelBundle:
    """Reads the model of a calibrated cache.

    Raises:
        ArtefactError: A command has not run yet, or its result does not fit any more.
        DamagedError: A file is damaged.
    """
    view = View.open(cache)
    require_network(view)
    stored = statistics.load(cache, view.fingerprint)
    return of_view(view, Rule.of(stored, decision.load(cache, stored)))


def of_view(view: View, rule: Rule) -> ModelBundle:
    """Returns the network of a view with a rule, which need not be stored; see `reopen.require_network`."""
    return ModelBundle(view.identity, view.recorded["settings"], code_origin(view), rule, None)


def from_file(path: Path) -> ModelBundle:
    """Reads an exported model.

    Raises:
        ArtefactError: The file is missing, or is no exported model.
        DamagedError: The file is damaged.
    """
    file = sealed.load(path, KIND)
    about = file.about
    with sealed.reading(file):
        layers = tuple(about["layers"])
        rule = Rule(
            tuple(about["classes"]),
            {layer: (file.numbers(f"lower/{layer}"), file.numbers(f"upper/{layer}")) for layer in layers},
            file.numbers("counts", least=0),
            about["epsilon"],
            fitted_rule.unpack(file, layers, file.numbers("expected", least=0)),
        )
        rule.check()
        require_identity(about["identity"])
        if not isinstance(about["identity"]["weights"], str):
            raise TypeError("weights")
        weights = {name.removeprefix("weights/"): file[name] for name in file.names if name.startswith("weights/")}
        _require_settings(file, about["settings"])
        # the module of a network factory is looked for beside the model, as it is beside gramcli.toml
        origin = CodeOrigin(shown(path), path.absolute().parent)
        return ModelBundle(about["identity"], dict(about["settings"]), origin, rule, weights)


def _require_settings(file: Sealed, settings: Mapping[str, Any]) -> None:
    """Raises a DamagedError unless a model's settings are valid ones."""
    try:
        sources.require_moderate(
            sources.resolve(sources.source(settings, "its settings", file.path.parent)), "its settings"
        )
    except UsageError as error:
        raise sealed.damaged(file, str(error)) from None


def save(path: Path, model: ModelBundle) -> None:
    """Writes a model with its weights as one sealed file.

    Raises:
        ValueError: The model has no weights.
        ResourceError: The file cannot be written.
    """
    if model.weights is None:
        raise ValueError("a model is exported with its weights")
    rule = model.rule
    packed, described = fitted_rule.pack(rule.fitted)
    tensors = {"expected": rule.fitted.expected, "counts": rule.counts} | packed
    for layer in rule.layers:
        tensors[f"lower/{layer}"], tensors[f"upper/{layer}"] = rule.bounds[layer]
    tensors |= {f"weights/{name}": array for name, array in model.weights.items()}
    about = {
        "identity": model.identity,
        "settings": model.settings,
        "classes": list(rule.classes),
        "layers": list(rule.layers),
        "epsilon": rule.epsilon,
    }
    sealed_writer.write(path, KIND, tensors, about | described)


def require_writable(path: Path) -> None:
    """Checks that a model can be written under this name; it may replace an exported model only.

    Raises:
        UsageError: Something else is there, or no file can be there.
        ResourceError: The folder cannot be written, or the file that is there cannot be read.
    """
    output_file.require_writable(path)
    if path.exists() and sealed.kind_of(path) != KIND:
        raise UsageError(f"{shown(path)}: exists and is no model of gramcli; name another file")


def export(settings: Settings, cache: Path, path: Path, context: RunContext | None = None) -> int:
    """Writes a calibrated network to one file, which is all that `gramcli classify --model` needs besides own code.

    A network factory is not in the file, which is noted: its module must lie beside the model or be installed.

    Args:
        settings: Settings of extract, as `configure` returns them.
        cache: Folder of the cache.
        path: The file to write.
        context: What the user named, whether the code of files is trusted, and progress.

    Returns:
        Its size in bytes.

    Raises:
        ArtefactError: A command has not run yet, or the network is not the one of extract.
        UsageError: No file can be written at this path, or one is there that is no exported model.
        ResourceError: The file cannot be written.
        UnsafeError: The cache names code or arguments that the user has not named or trusted.
    """
    require_writable(path)
    context = context or RunContext()
    model = from_cache(cache)
    stored = StoredNetwork(model.identity, model.rule.layers, origin=model.origin)
    ready = prepare(settings, model.rule.classes, context, stored)
    state = {name: tensor.detach().float().cpu() if tensor.is_floating_point() else tensor.cpu()
             for name, tensor in ready.built.module.state_dict().items()}  # fmt: skip
    weights = {name: tensor.contiguous().numpy() for name, tensor in state.items()}
    # paths of this machine mean nothing on another one
    sections = {name: dict(table) for name, table in model.settings.items() if name not in ("data", "run", "cache")}
    sections["network"].pop("weights", None)
    sections["run"] = {"precision": settings.run.precision}
    # the same holds for the folder of the recordings that a threshold was set on
    limit, rule = model.rule.threshold, model.rule
    if limit is not None and limit.folder is not None:
        named = dataclasses.replace(limit, folder=Path(limit.folder).name)
        rule = dataclasses.replace(rule, fitted=dataclasses.replace(rule.fitted, threshold=named))
    require_writable(path)  # again: the network may have taken long to build
    save(path, dataclasses.replace(model, rule=rule, settings=sections, weights=weights))
    if code := ready.built.code:
        context.progress.note(
            f"{', '.join(map(shown, code))}: not in the model, as it is code; take it along, and give --trust-code or "
            "--network where the model is used"
        )
    return path.stat().st_size
