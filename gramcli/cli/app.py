"""The program: its commands, and the conversion of every error into one line and an exit code."""

from __future__ import annotations

import atexit
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from gramcli import __version__
from gramcli.cli import (
    cache,
    calibrate,
    check,
    classify,
    demo,
    evaluate,
    export,
    extract,
    guide,
    layers,
    select_layers,
    signals,
    streams,
    train,
)
from gramcli.cli.options import Panel, example
from gramcli.cli.render import print_stderr
from gramcli.errors import Exit, GramcliError
from gramcli.system import malloc
from gramcli.system.machine_faults import TO_START, guard_torch, machine_fault, require_memory
from gramcli.text import shown

_CODES = ", ".join(f"{code} {code.meaning}" for code in Exit)
_EPILOG = f"Exit codes: {_CODES}.\n\n{example('gramcli demo', 'gramcli guide start')}"

app = typer.Typer(
    name="gramcli",
    help="Classify sounds with every layer of a trained CNN, and tell when a sound is like none of the classes.",
    epilog=_EPILOG,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
# in the order in which the commands are used, which is that of the help
for module in (demo, layers, train, extract, calibrate, select_layers, evaluate, check, classify, export, guide):
    module.register(app)
app.add_typer(cache.app, name="cache", rich_help_panel=Panel.CACHE)

# typer brings its own click; this is its ClickException, whichever that is
_ClickError: Any = typer.BadParameter.__mro__[2]


def _version(wanted: bool) -> None:
    if wanted:
        streams.write(f"gramcli {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the Python traceback of an error.")] = False,
) -> None:
    _DEBUG[0] = debug


_DEBUG = [False]
_COMPLETION = "_GRAMCLI_COMPLETE"
"""Variable by which a shell asks for completions."""


def main() -> NoReturn:
    """Runs the command line and ends the process."""
    ended: list[int] = []
    atexit.register(_end_now, ended)  # the first to be registered runs last
    try:
        streams.take_over()
        signals.hide_ignored(_debug)
        _silence_libraries()
        code = _started() or run(sys.argv[1:])
        signals.stop_raising()
    except (KeyboardInterrupt, signals.Terminated):  # the signal came when `run` had ended
        code = int(signals.received() or Exit.INTERRUPTED)
        print_stderr("error", signals.message(Exit(code)))
    ended.append(code)
    sys.exit(code)


def _started() -> int:
    """Prepares the process for a command; returns an exit code if there is too little memory, else 0."""
    try:
        _drop_odd_widths()
        require_memory(TO_START)
        guard_torch()
        signals.install()
        malloc.keep_freed()
    except GramcliError as error:
        return _fail(str(error), error.exit_code)
    except Exception as error:
        if (fault := machine_fault(error)) is None:
            raise
        return _fail(str(fault), fault.exit_code)
    return 0


def _drop_odd_widths() -> None:
    """Drops sizes of the terminal that are none from the environment, on which libraries would fail."""
    for name in ("TERMINAL_WIDTH", "COLUMNS", "LINES"):
        if not re.fullmatch("[1-9][0-9]{0,3}", os.environ.get(name, "80"), re.ASCII):
            del os.environ[name]


def _end_now(ended: Sequence[int]) -> None:
    """Ends the process before Python empties its modules, where destructors fail and signals are not handled."""
    if ended:
        os._exit(ended[0])


def _debug(text: str) -> None:
    if _DEBUG[0]:
        print_stderr("debug", text)


def _silence_libraries() -> None:
    """Keeps warnings and log messages of libraries, which can hold paths and names of strangers, off stderr."""

    def warned(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any) -> None:
        _debug(f"{filename}:{lineno}: {category.__name__}: {message}")

    warnings.showwarning = warned
    logging.disable(logging.CRITICAL)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code; every error is one line on stderr."""
    _DEBUG[0] = False
    streams.begin()
    code = _run(arguments)
    if code == Exit.OK and (loss := streams.lost()):
        return _fail(str(loss), loss.exit_code)
    return code


def _run(arguments: Sequence[str]) -> int:
    try:
        code = int(app(list(arguments), prog_name="gramcli", standalone_mode=False) or Exit.OK)
        # typer turns Ctrl-C into an exit without a message
        return _interrupted() if code == Exit.INTERRUPTED else code
    except SystemExit as end:  # of the completion of the shell
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except signals.Terminated:
        return _fail(signals.message(Exit.TERMINATED), Exit.TERMINATED)
    except streams.ReaderGone:
        return Exit.OK
    except GramcliError as error:
        return _fail(str(error), error.exit_code)
    except _ClickError as error:
        message = error.format_message().replace("Value error, ", "")
        return _fail(f"{message} (see --help)", Exit.USAGE) if message else Exit.USAGE
    except Exception as error:
        if _COMPLETION in os.environ and not _DEBUG[0]:  # a shell asked in a way of its own; it expects no message
            return int(Exit.USAGE)
        if (fault := machine_fault(error)) is not None:  # outside of a command that says what to do
            return _fail(str(fault), fault.exit_code)
        return _fail(
            f"internal error: {type(error).__name__}: {error}; please report it with the output of gramcli --debug "
            "and the same command",
            Exit.INTERNAL,
        )


def _interrupted() -> int:
    return _fail(signals.message(Exit.INTERRUPTED), Exit.INTERRUPTED)


def _fail(text: str, code: Exit) -> int:
    if _DEBUG[0]:
        for line in traceback.format_exc().splitlines():
            streams.write_error(f"{shown(line)}\n")
    if (ended := signals.received()) is not None:
        text, code = signals.message(ended), ended
    print_stderr("error", text)
    return int(code)
