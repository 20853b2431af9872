"""Puts the settings of a run together, from the settings file, the environment, the caller and earlier runs.

Nothing here reads a checkpoint: callers that want its metadata hand over the function that reads it, which is
`gramcli.network.checkpoint.settings_of_file`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gramcli.errors import ArtefactError, UsageError
from gramcli.settings import outside_paths, sources
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import PRESETS, Settings
from gramcli.settings.sources import Source

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
        NoInputError: The settings file cannot be read.
        UsageError: Unknown or invalid settings.
        ArtefactError: Settings contradict the metadata of the checkpoint, or those of the extract are invalid.
    """
    found = explicit(context)
    if preset is not None:
        if preset not in PRESETS:
            raise UsageError(f"unknown preset {preset!r}; there are {', '.join(PRESETS)}")
        found.insert(-1, sources.source(PRESETS[preset], f"preset {preset}", Path.cwd()))
    base = [] if earlier is None else [_stored(earlier, origin)]
    return _resolve(found, base, metadata, override_metadata)


def complete(
    settings: Settings | Mapping[str, Mapping[str, Any]], context: RunContext, metadata: MetadataReader | None = None
) -> tuple[Settings, RunContext]:
    """Returns complete settings as they are, and completes values by section and key as the command line does.

    The context that is returned holds these values, too, as they are what the user gave. Complete settings do not count
    as that: they may come from a file.

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
    found = explicit(context, settings)
    sections: dict[str, dict[str, Any]] = {}
    for one in (one for one in found if one.by_user):
        for section, table in one.values.items():
            args = {**sections.get(section, {}).get("args", {}), **table.get("args", {})}
            sections[section] = {**sections.get(section, {}), **table, **({"args": args} if args else {})}
    return _resolve(found, [], metadata, override_metadata=False), replace(context, settings=sections)


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
    found = [Source(one.origin, _of_a_run(one.values), one.by_user) for one in explicit(context)]
    return _resolve(found, [_stored(stored, origin)], None, override_metadata=False)


def _resolve(
    given: list[Source], earlier: list[Source], metadata: MetadataReader | None, override_metadata: bool
) -> Settings:
    base, found = list(earlier), None
    path = sources.resolve(*base, *given).network.weights
    if metadata is not None and path is not None:
        found = metadata(Path(path))
        if not override_metadata:
            sources.check_metadata(found, given, base[0] if base else None)
        base.insert(0, found)
    settings = sources.require_moderate(sources.resolve(*base, *given))
    return settings if found is None else replace(settings, stated=found.values)


def _stored(settings: Mapping[str, Any], origin: str) -> Source:
    """Checks settings that a file of gramcli holds; such a file may hold anything."""
    # how the computer is used is the user's affair; of a file counts only what results depend on
    if isinstance(run := settings.get("run"), Mapping):
        settings = {**settings, "run": {key: value for key, value in run.items() if key == "precision"}}
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
    settings = sources.resolve(*explicit(context))
    return bool(settings.network.name or settings.network.weights or settings.data.manifest)


def explicit(context: RunContext, settings: Mapping[str, Mapping[str, Any]] | None = None) -> list[Source]:
    """Returns what the user has set, the later the stronger: settings file, environment, and what a caller passes.

    Args:
        context: The settings file, and settings that win over all others.
        settings: Settings that a Python caller passes besides.

    Raises:
        NoInputError: The settings file cannot be read.
        UsageError: Unknown or invalid settings.
        UnsafeError: A settings file that the user has not named names paths outside its folder.
    """
    passed = [] if settings is None else [sources.source(settings, "settings", Path.cwd(), by_user=True)]
    user = [
        sources.from_environment(os.environ),
        *passed,
        sources.source(context.settings, context.settings_from, Path.cwd(), by_user=True),
    ]
    if context.file.named is None:
        for one in context.file.sources():
            advice = f", or name the settings file with --config {one.origin}"
            outside_paths.require_inside(one, context.file.folder, user, advice)
    return [*context.file.sources(), *user]


def require_recorded_inside(earlier: Mapping[str, Any], origin: str, folder: Path, context: RunContext) -> None:
    """Checks that the settings of an extract that is repeated name no manifest and no audio outside the project.

    Args:
        earlier: Settings that the cache recorded.
        origin: The file that they come from, for messages.
        folder: Folder that holds the cache, absolute and without ``..``.
        context: Settings of the caller, and the settings file.

    Raises:
        UnsafeError: They do, and the user has not named these.
    """
    data = {key: earlier.get("data", {}).get(key) for key in ("manifest", "audio_root", "allow_outside")}
    stored = _stored({"data": {key: value for key, value in data.items() if value is not None}}, origin)
    outside_paths.require_inside(stored, folder, [one for one in explicit(context) if one.by_user], "")
