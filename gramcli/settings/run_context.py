"""What a command takes over from its caller beside its own arguments: settings, settings file, progress and folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gramcli.progress import Progress, Silent


@dataclass(frozen=True)
class RunContext:
    """How one run differs from the defaults and from earlier runs, and who follows its progress.

    Args:
        settings: Values by section and key, e.g. ``{"run": {"device": "cpu"}}``. They win over the settings file, the
            environment and the settings that a cache was extracted with.
        config: A settings file; ``gramcli.toml`` of the working folder, where there is one, if None.
        progress: Follows tasks, steps and notes.
        folder: First on the import path of a network's factory; the folder of `config`, or else the working folder, if
            None. It is never None afterwards.
    """

    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    config: Path | None = None
    progress: Progress = field(default_factory=Silent)
    folder: Path = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.config is not None:
            object.__setattr__(self, "config", Path(self.config))
        folder = self.folder
        if folder is None:
            folder = Path.cwd() if self.config is None else self.config.parent
        object.__setattr__(self, "folder", Path(folder).absolute())
