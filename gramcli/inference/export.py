"""``gramcli export``: weights, statistics, decision and settings in one file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from gramcli.inference import bundle
from gramcli.network.prepare import StoredNetwork, prepare
from gramcli.settings.schema import Settings
from gramcli.system import durable_files


def export(settings: Settings, cache: Path, path: Path) -> int:
    """Packs a calibrated cache into one file that `gramcli classify --model` needs nothing else for.

    A factory of the user's stays code: its module must be importable where the model is used.

    Args:
        settings: Settings of the extract, as `configure` returns them.
        cache: Folder of the cache.
        path: The file to write.

    Returns:
        Its size in bytes.

    Raises:
        ArtefactError: A stage has not run, or the network is not the one that was extracted.
        UsageError: The name is no place for a file.
        ResourceError: It cannot be written.
    """
    durable_files.require_place(path)
    model = bundle.from_cache(cache)
    stored = StoredNetwork(model.identity, model.rule.layers)
    ready = prepare(settings, model.rule.classes, model.folder, stored)
    state = {name: tensor.detach().float().cpu() if tensor.is_floating_point() else tensor.cpu()
             for name, tensor in ready.built.module.state_dict().items()}  # fmt: skip
    weights = {name: tensor.contiguous().numpy() for name, tensor in state.items()}
    # where the weights came from means nothing elsewhere
    sections = {name: dict(table) for name, table in model.settings.items() if name not in ("data", "run", "cache")}
    sections["network"].pop("weights", None)
    sections["run"] = {"precision": settings.run.precision}
    # nor does where on this machine the recordings of a threshold lie
    limit, rule = model.rule.threshold, model.rule
    if limit is not None and limit.folder is not None:
        rule = dataclasses.replace(rule, threshold=dataclasses.replace(limit, folder=Path(limit.folder).name))
    bundle.save(path, dataclasses.replace(model, rule=rule, settings=sections, weights=weights))
    return path.stat().st_size
