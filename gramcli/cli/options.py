"""Flags of the commands, made from the table of settings so that each setting has one name and one help text."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gramcli.cli.render import Format
from gramcli.errors import NoInputError, ResourceError
from gramcli.progress import Progress, Silent
from gramcli.settings import schema
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import Settings
from gramcli.settings.settings_file import SettingsFile
from gramcli.system.machine_faults import is_out_of_memory
from gramcli.text import shown


class Panel(StrEnum):
    """Groups of commands in ``gramcli --help``, in the order in which they are used."""

    START = "First: try it, and get a network"
    BUILD = "Then build the decision, in this order"
    USE = "Then evaluate and use it"
    CACHE = "At any time"


def example(*commands: str) -> str:
    """Returns the last lines of a command's help: how it is typed."""
    return "\n\n".join([f"Example{'s' * (len(commands) > 1)}:", *commands])


_METAVARS = {
    "text": "TEXT",
    "path": "PATH",
    "int": "N",
    "number": "NUMBER",
    "names": "NAME,...",
    "table": "KEY=VALUE",
}
_PANELS = {
    "data": "Data",
    "segment": "Windows",
    "frontend": "Front end",
    "network": "Network",
    "run": "Run",
    "train": "Training",
    "calibrate": "Calibration",
    "decision": "Decision",
    "cache": "Cache",
}

Condition = Annotated[
    list[str] | None,
    typer.Option(
        "--condition",
        metavar="KIND:VALUE",
        help="Also with the audio changed: noise:DB, gain:DB, lowpass:HZ, reverb:SECONDS, background:FOLDER:DB or "
        "codec:mp3-KBPS; may be repeated.",
    ),
]

OverrideMetadata = Annotated[
    bool, typer.Option("--override-metadata", help="Use settings that contradict the checkpoint's metadata.")
]

Model = Annotated[Path | None, typer.Option("--model", help="Use a file made by gramcli export instead of a cache.")]

FormatOption = Annotated[
    Format | None, typer.Option("--format", help="How to print (default: table on a terminal, else csv).")
]

AsJson = Annotated[bool, typer.Option("--json", help="Short for --format json.")]


@dataclass
class Given:
    """The options that many commands have."""

    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Values by section and key."""
    config: Path | None = None
    quiet: bool = False
    verbose: bool = False
    trust_code: bool = False
    remember_code: bool = False
    file: SettingsFile | None = None
    """The settings file, once a context has been made; all contexts of the command share it, so it is read once."""

    def put(self, section: str, key: str, value: object) -> None:
        """Adds a setting; None means that it is not given."""
        if value is not None:
            self.settings.setdefault(section, {})[key] = value

    def context(self, progress: Progress) -> RunContext:
        """Returns what the stages need of the command line."""
        if self.file is None:
            self.file = SettingsFile(self.config)
        return RunContext(
            self.settings,
            self.config,
            progress,
            trust_code=self.trust_code,
            remember_code=self.remember_code,
            settings_from="command line",
            file=self.file,
        )

    @property
    def cache(self) -> Path:
        """Folder of the cache, from flags, environment, file or default."""
        from gramcli.settings.cache_folder import cache_folder

        return cache_folder(self.context(Silent()))

    def model(self, named: Path | None) -> Path:
        """Returns the exported model that was named, or else the folder of the cache.

        Raises:
            NoInputError: There is no file of that name.
        """
        if named is not None and not named.exists():
            raise NoInputError(f"{shown(named)}: no such file; gramcli export makes one from a cache")
        return self.cache if named is None else named

    def note_settings(self, progress: Progress, chosen: Settings) -> None:
        """With --verbose, notes every setting that differs from the default."""
        if self.verbose:
            default = Settings().as_dict()
            for section, table in chosen.as_dict().items():
                for key, value in table.items():
                    if default[section].get(key) != value:
                        progress.note(f"{section}.{key} = {value}")


def takes(*wanted: str, builds_network: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds the flags of some settings to a command, which gets their values as its first argument, a `Given`.

    Args:
        wanted: ``section`` for all of its keys, or ``section.key``.
        builds_network: Whether to add the flags that say whose code may run, too.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        flags = {f"{section}__{key.name}": (section, key) for section, key in _chosen(wanted)}
        added = [_parameter(name, section, key) for name, (section, key) in flags.items()]
        added += [*(_trust() if builds_network else ()), *_common()]
        keys = {(section, key.name) for section, key in flags.values()}

        @functools.wraps(command)
        def run(**values: Any) -> None:
            given = Given(config=values.pop("config"), quiet=values.pop("quiet"), verbose=values.pop("verbose"))
            given.trust_code, given.remember_code = values.pop("trust_code", False), values.pop("remember_code", False)
            for name, (section, key) in flags.items():
                value = values.pop(name)
                if isinstance(value, list):
                    value = (",".join(value) if key.metadata["kind"] == "names" else value) if value else None
                given.put(section, key.name, value)
            try:
                command(given, **values)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                raise ResourceError(_out_of_memory(command, ("run", "batch") in keys)) from error

        parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*own, *added)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__doc__ = _reflowed(command.__doc__ or "")
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


def _reflowed(text: str) -> str:
    """Returns a docstring with one line per paragraph, for the help, which breaks lines where the terminal ends."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in inspect.cleandoc(text).split("\n\n"))


def _out_of_memory(command: Callable[..., None], has_batch: bool) -> str:
    name = command.__name__.removesuffix("_cmd").replace("_", "-")
    name = f"cache {name}" if command.__module__.endswith(".cache") else name
    advice = "use a smaller --batch, or close other programs" if has_batch else "close other programs"
    return f"out of memory in gramcli {name}; {advice}"


def _chosen(wanted: tuple[str, ...]) -> list[tuple[str, dataclasses.Field[Any]]]:
    return [(s, key) for s, key in schema.fields() if s in wanted or f"{s}.{key.name}" in wanted]


def _parameter(name: str, section: str, key: dataclasses.Field[Any]) -> inspect.Parameter:
    about: Mapping[str, Any] = key.metadata
    flag = "--" + (about["flag"] or key.name).replace("_", "-")
    if about["kind"] == "switch":
        switch = typer.Option(flag, help=about["help"], rich_help_panel=_PANELS[section], show_default=False)
        return inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[bool | None, switch]
        )
    many = about["kind"] in ("names", "table")
    words = "|".join(about["words"])
    metavar = _METAVARS.get(about["kind"], "")
    option = typer.Option(
        flag,
        help=f"{about['help']}{_default(key)}",
        metavar=f"{metavar}|{words}".strip("|") if words else metavar,
        rich_help_panel=_PANELS[section],
        show_default=False,
        autocompletion=(lambda: list(about["words"])) if about["words"] else None,
    )
    kind = list[str] if many else str | None
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option] if not many else
        Annotated[list[str] | None, option],
    )  # fmt: skip


def _default(key: dataclasses.Field[Any]) -> str:
    if key.default_factory is not dataclasses.MISSING:
        table = key.default_factory()
        return f" (default: {', '.join(f'{k}={v}' for k, v in table.items())})" if table else ""
    if key.default is None or key.default == ():
        return ""
    text = ",".join(key.default) if isinstance(key.default, tuple) else key.default
    return f" (default: {text:g})" if isinstance(text, float) else f" (default: {text})"


def _flag(name: str, default: object, kind: Any, option: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


def _trust() -> list[inspect.Parameter]:
    def switch(name: str, flag: str, help: str) -> inspect.Parameter:
        return _flag(name, False, bool, typer.Option(flag, help=help, rich_help_panel=_PANELS["network"]))

    return [
        switch(
            "trust_code",
            "--trust-code",
            "Run code of the project that a settings file, checkpoint, cache or model names.",
        ),
        switch(
            "remember_code",
            "--always-trust-code",
            "As --trust-code, and remember it for this code with these arguments, in your configuration folder.",
        ),
    ]


def _common() -> list[inspect.Parameter]:
    return [
        _flag(
            "config",
            None,
            Path | None,
            typer.Option("--config", "-c", help="Settings file (default: ./gramcli.toml, if there is one)."),
        ),
        _flag("quiet", False, bool, typer.Option("--quiet", "-q", help="Print no progress and no notes.")),
        _flag(
            "verbose",
            False,
            bool,
            typer.Option("--verbose", "-v", help="Also print the settings that differ from the defaults."),
        ),
    ]
