"""``gramcli export``: pack a calibrated network into one file, with weights, statistics, rule and settings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from gramcli.inference import bundle
from gramcli.network.prepare import prepare
from gramcli.settings.schema import Settings
from gramcli.system import durable_files


def export(settings: Settings, cache: Path, path: Path) -> int:
    """Packs a calibrated cache into one file, which is all that `gramcli classify --model` needs.

    The code of a network's factory is not packed: its module must be importable where the model is used.

    Args:
        settings: Settings of the extract, as `configure` returns them.
        cache: Folder of the cache.
        path: The file to write.

    Returns:
        Its size in bytes.

    Raises:
        ArtefactError: The cache is not calibrated, or the network is not the one that was extracted.
        UsageError: `path` is a folder, or lies in none.
        ResourceError: It cannot be written.
    """
    durable_files.require_place(path)
    model = bundle.from_cache(cache)
    ready = prepare(settings, model.rule.classes, model.folder, only=model.rule.layers, identity=model.identity)
    state = {name: tensor.detach().float().cpu() if tensor.is_floating_point() else tensor.cpu()
             for name, tensor in ready.built.module.state_dict().items()}  # fmt: skip
    weights = {name: tensor.contiguous().numpy() for name, tensor in state.items()}
    # paths of this machine are left out: of the checkpoint here, of the threshold's recordings below
    sections = {name: dict(table) for name, table in model.settings.items() if name not in ("data", "run", "cache")}
    sections["network"].pop("weights", None)
    sections["run"] = {"precision": settings.run.precision}
    limit, rule = model.rule.threshold, model.rule
    if limit is not None and limit.folder is not None:
        rule = dataclasses.replace(rule, threshold=dataclasses.replace(limit, folder=Path(limit.folder).name))
    bundle.save(path, dataclasses.replace(model, rule=rule, settings=sections, weights=weights))
    return path.stat().st_size
