"""The settings of a run from all their sources, checkpoint and earlier extract included."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gramcli.audio.limits import Limits
from gramcli.errors import UsageError
from gramcli.network import checkpoint
from gramcli.settings import sources
from gramcli.settings.schema import PRESETS, Settings
from gramcli.settings.sources import Source

FILE = "gramcli.toml"

_LIMITS = {key.name for key in dataclasses.fields(Limits)}


def configure(
    flags: Mapping[str, Mapping[str, Any]],
    *,
    config: Path | None = None,
    preset: str | None = None,
    remembered: Mapping[str, Any] | None = None,
    override_metadata: bool = False,
    standalone: bool = False,
    weights: bool = True,
) -> Settings:
    """Puts the settings of a run together.

    Args:
        flags: Values given on the command line, by section and key.
        config: A settings file; ``gramcli.toml`` of the working folder if None and there is one.
        preset: Name of a preset, over the file and under the flags.
        remembered: Settings of the extract that made the cache, under all others.
        override_metadata: Whether explicit settings may contradict the checkpoint's metadata.
        standalone: Whether `remembered` is all there is to know, so that of a settings file only [run] and the
            limits of audio files count.
        weights: Whether to read the metadata of the checkpoint.

    Raises:
        UsageError: Unknown or invalid settings.
        ArtefactError: Explicit settings contradict the metadata of the checkpoint.
    """
    explicit = _explicit(flags, config)
    if standalone:
        explicit = [Source(one.origin, _of_a_run(one.values)) for one in explicit]
    if preset is not None:
        if preset not in PRESETS:
            raise UsageError(f"unknown preset {preset!r}; there are {', '.join(PRESETS)}")
        explicit.insert(-1, sources.source(PRESETS[preset], f"preset {preset}", Path.cwd()))
    base = [] if remembered is None else [sources.source(remembered, "earlier extract", Path.cwd())]
    path = sources.resolve(*base, *explicit).network.weights
    if weights and path is not None:
        metadata = checkpoint.as_source(Path(path))
        if not override_metadata:
            sources.check_metadata(metadata, explicit, base[0] if base else None)
        base.insert(0, metadata)
    return sources.resolve(*base, *explicit)


def _of_a_run(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns of settings those that say nothing about what a network computes."""
    limits = {key: value for key, value in values.get("data", {}).items() if key in _LIMITS}
    return {key: value for key, value in (("run", values.get("run")), ("data", limits)) if value}


def says_what_to_extract(flags: Mapping[str, Mapping[str, Any]], config: Path | None = None) -> bool:
    """Returns whether network, weights or manifest are named anywhere, so that an earlier extract is not asked."""
    settings = sources.resolve(*_explicit(flags, config))
    return bool(settings.network.name or settings.network.weights or settings.data.manifest)


def cache_folder(flags: Mapping[str, Mapping[str, Any]], config: Path | None = None) -> Path:
    """Returns where the cache is, which no checkpoint and no earlier extract has a say in."""
    return Path(sources.resolve(*_explicit(flags, config)).cache.dir)


def _explicit(flags: Mapping[str, Mapping[str, Any]], config: Path | None) -> list[Source]:
    path = config or Path(FILE)
    explicit = [sources.from_file(path)] if config is not None or path.is_file() else []
    explicit.append(sources.from_environment(os.environ))
    explicit.append(sources.source(flags, "command line", Path.cwd()))
    return explicit


def home(config: Path | None = None) -> Path:
    """Returns the folder that comes first on the import path of factories: that of the settings file."""
    return config.parent.absolute() if config is not None else Path.cwd()
