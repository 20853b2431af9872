"""Puts the settings of a run together, from the settings file, the environment, the caller and earlier runs.

Nothing here reads a checkpoint: callers that want its metadata hand over the function that reads it, which is
`gramcli.network.checkpoint.settings_of_file`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gramcli.errors import ArtefactError, UnsafeError, UsageError
from gramcli.settings import sources
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import PRESETS, Settings
from gramcli.settings.sources import Source
from gramcli.text import shown

FILE = "gramcli.toml"

AUDIO_LIMITS = ("max_seconds", "allow_truncated")
"""Keys of [data] that say which audio files may be read, and nothing about what is computed from them."""

MetadataReader = Callable[[Path], Source]
"""Reads the settings in the metadata of a checkpoint, given its path."""


def configure(
    context: RunContext,
    *,
    preset: str | None = None,
    earlier: Mapping[str, Any] | None = None,
    origin: str = "earlier extract",
    metadata: MetadataReader | None = None,
    override_metadata: bool = False,
) -> Settings:
    """Puts the settings of a run together; `gramcli.settings.sources` says which source wins.

    Args:
        context: Settings of the caller, and the settings file.
        preset: Name of a preset. It wins over settings file and environment; the caller's settings win over it.
        earlier: Settings of the extract that made the cache; all others win over them.
        origin: The file that `earlier` comes from, for messages.
        metadata: Reads the metadata of the checkpoint, over which all others win. None: they are not needed.
        override_metadata: Whether other settings may contradict the metadata.

    Raises:
        UsageError: Unknown or invalid settings.
        ArtefactError: Settings contradict the metadata of the checkpoint, or those of the extract are invalid.
    """
    explicit = _explicit(context)
    if preset is not None:
        if preset not in PRESETS:
            raise UsageError(f"unknown preset {preset!r}; there are {', '.join(PRESETS)}")
        explicit.insert(-1, sources.source(PRESETS[preset], f"preset {preset}", Path.cwd()))
    base = [] if earlier is None else [_stored(earlier, origin)]
    return _resolve(explicit, base, metadata, override_metadata)


def complete(
    settings: Settings | Mapping[str, Mapping[str, Any]], context: RunContext, metadata: MetadataReader | None = None
) -> tuple[Settings, RunContext]:
    """Returns complete settings as they are, and completes values by section and key as the command line does.

    The context that is returned holds these values, too, as they are the caller's own word. Complete settings are not:
    they may come from a file.

    Args:
        settings: Complete settings, or values such as ``{"data": {"manifest": "clips.csv"}}``. These win over settings
            file and environment; the settings of `context` win over them.
        context: As for `configure`.
        metadata: As for `configure`.

    Raises:
        UsageError: Unknown or invalid settings.
        ArtefactError: Settings contradict the metadata of the checkpoint.
    """
    if isinstance(settings, Settings):
        return settings, context
    explicit = _explicit(context)
    explicit.insert(-1, sources.source(settings, "settings", Path.cwd()))
    sections: dict[str, dict[str, Any]] = {}
    for one in explicit[-2:]:
        for section, table in one.values.items():
            args = {**sections.get(section, {}).get("args", {}), **table.get("args", {})}
            sections[section] = {**sections.get(section, {}), **table, **({"args": args} if args else {})}
    return _resolve(explicit, [], metadata, override_metadata=False), replace(context, settings=sections)


def configure_stored(context: RunContext, stored: Mapping[str, Any], origin: str = "the exported model") -> Settings:
    """Returns stored settings of a network; of the context count only [run] and the limits of audio files.

    Args:
        context: Settings of the caller, and the settings file.
        stored: All that there is to know of the network: no checkpoint is read.
        origin: The file that they come from, for messages.

    Raises:
        UsageError: Unknown or invalid settings of the context.
        ArtefactError: Unknown or invalid stored settings.
    """
    explicit = [Source(one.origin, _of_a_run(one.values)) for one in _explicit(context)]
    return _resolve(explicit, [_stored(stored, origin)], None, override_metadata=False)


def _resolve(
    explicit: list[Source], earlier: list[Source], metadata: MetadataReader | None, override_metadata: bool
) -> Settings:
    base, found = list(earlier), None
    path = sources.resolve(*base, *explicit).network.weights
    if metadata is not None and path is not None:
        found = metadata(Path(path))
        if not override_metadata:
            sources.check_metadata(found, explicit, base[0] if base else None)
        base.insert(0, found)
    settings = sources.require_moderate(sources.resolve(*base, *explicit))
    return settings if found is None else replace(settings, stated=found.values)


def _stored(settings: Mapping[str, Any], origin: str) -> Source:
    """Checks settings that a file of gramcli holds; such a file may hold anything."""
    # what is written goes to the cache that was named, wherever a cache says that it was made
    cache = settings.get("cache")
    if isinstance(cache, Mapping):
        settings = {**settings, "cache": {key: value for key, value in cache.items() if key != "dir"}}
    try:
        found = sources.source(settings, origin, Path.cwd())
        sources.require_moderate(sources.resolve(found), origin)
    except UsageError as error:
        raise ArtefactError(f"{error}; this gramcli never writes such settings") from None
    return found


def _of_a_run(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that say nothing about what a network computes."""
    limits = {key: value for key, value in values.get("data", {}).items() if key in AUDIO_LIMITS}
    return {key: value for key, value in (("run", values.get("run")), ("data", limits)) if value}


def names_extract(context: RunContext) -> bool:
    """Returns whether network, weights or manifest are named anywhere; if not, extract repeats the earlier extract."""
    settings = sources.resolve(*_explicit(context))
    return bool(settings.network.name or settings.network.weights or settings.data.manifest)


def cache_folder(context: RunContext, settings: Settings | Mapping[str, Mapping[str, Any]] | None = None) -> Path:
    """Returns the folder of the cache; neither checkpoint nor earlier extract can name it.

    Args:
        context: As for `configure`.
        settings: As for `complete`.

    Raises:
        UsageError: Unknown or invalid settings.
        UnsafeError: It is a link, or lies behind one, that the user has not named: a project of somebody else could
            send what is written to any folder.
    """
    if isinstance(settings, Settings):
        return Path(settings.cache.dir)
    explicit = _explicit(context)
    explicit.insert(-1, sources.source(settings or {}, "settings", Path.cwd()))
    folder = Path(sources.resolve(*explicit).cache.dir)
    if not any("dir" in one.values.get("cache", {}) for one in explicit[-3:]):  # environment and the caller
        project = Path() if context.config is None else context.config.parent
        for path in (folder, *folder.parents):
            if path.absolute() != project.absolute() and path.absolute().is_relative_to(project.absolute()):
                _require_no_link(path)
        _require_no_link(folder)
    return folder


def _require_no_link(path: Path) -> None:
    if path.is_symlink():
        raise UnsafeError(f"{shown(path)}: is a link; if the cache is to lie where it leads, name it with --cache")


@dataclass(frozen=True)
class OwnNetwork:
    """What the user named himself: by flags, environment variables, or values that a Python caller passes."""

    name: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)


def own_network(context: RunContext) -> OwnNetwork:
    """Returns name and arguments of the network that the user named himself; a settings file is not his own word."""
    named = [one.values.get("network", {}) for one in _own(context)]
    name = next((one["name"] for one in reversed(named) if "name" in one), None)
    return OwnNetwork(name, {key: value for one in named for key, value in one.get("args", {}).items()})


def origin_of_network(context: RunContext, name: str) -> str | None:
    """Returns which source names a network, e.g. ``gramcli.toml``; None if it is neither a file nor the user."""
    named = [one.origin for one in _explicit(context) if one.values.get("network", {}).get("name") == name]
    return named[-1] if named else None


def _explicit(context: RunContext) -> list[Source]:
    """Returns what the user has set: settings file, environment, and last the caller."""
    path = context.config or Path(FILE)
    explicit = [sources.from_file(path)] if context.config is not None or path.is_file() else []
    return [*explicit, *_own(context)]


def _own(context: RunContext) -> list[Source]:
    """Returns what the user has set himself: environment, and last the caller."""
    return [sources.from_environment(os.environ), sources.source(context.settings, "command line", Path.cwd())]
