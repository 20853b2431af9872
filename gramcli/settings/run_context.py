"""What a command takes over from its caller beside its own arguments: settings, progress, folder, and trust in code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gramcli.progress import Progress, Silent
from gramcli.settings.settings_file import SettingsFile


@dataclass(frozen=True)
class RunContext:
    """How one run differs from the defaults and from earlier runs, and who follows its progress.

    Args:
        settings: Values by section and key, e.g. ``{"run": {"device": "cpu"}}``. They win over the settings file, the
            environment and the settings that a cache was extracted with.
        config: A settings file; ``gramcli.toml`` of the working folder, where there is one, if None.
        progress: Follows tasks, steps and notes.
        folder: Folder of the project, in which the modules of network factories are looked for; the folder of `config`,
            or else the working folder, if None. It is never None afterwards.
        trust_code: Whether to run the code under the project's folder that a settings file, a checkpoint, a cache or a
            model names. A factory that `settings` names needs neither.
        remember_code: As `trust_code`, and remembers it: see `gramcli.network.remembered_code`.
        settings_from: What messages call the origin of `settings`.
        file: The settings file, which is read once for this context and for those made of it with
            `dataclasses.replace`; made of `config` if None. It is never None afterwards.
    """

    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    config: Path | None = None
    progress: Progress = field(default_factory=Silent)
    folder: Path = None  # type: ignore[assignment]
    trust_code: bool = False
    remember_code: bool = False
    settings_from: str = "settings"
    file: SettingsFile = field(default=None, repr=False, compare=False)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.config is not None:
            object.__setattr__(self, "config", Path(self.config))
        if self.file is None or self.file.named != self.config:
            object.__setattr__(self, "file", SettingsFile(self.config))
        folder = self.folder
        if folder is None:
            folder = Path.cwd() if self.config is None else self.config.parent
        object.__setattr__(self, "folder", Path(folder).absolute())

    @property
    def trusts_files(self) -> bool:
        """Whether to run code that a file names."""
        return self.trust_code or self.remember_code
