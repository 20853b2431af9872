"""``gramcli cache``: look at a cache, and check it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gramcli.cli import render
from gramcli.cli.options import Given, takes
from gramcli.cli.render import Bar
from gramcli.errors import DamagedError

app = typer.Typer(help="Look at a cache, and check it.", no_args_is_help=True, pretty_exceptions_enable=False)

Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]


@app.command("info")
@takes("cache.dir")
def info_cmd(given: Given, as_json: Json = False) -> None:
    """Say what a cache holds and which stages have run."""
    from gramcli.stages.inspect import info

    found = info(given.cache)
    if as_json:
        render.document({"format": render.FORMAT, **found})
        return
    rows = [{"what": name, "value": _words(name, value)} for name, value in found.items()]
    render.rows(["what", "value"], rows, render.Format.table)


def _words(name: str, value: Any) -> str:
    if name == "bytes":
        return render.size(value)
    return ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, dict) else str(value)


@app.command("verify")
@takes("cache.dir")
def verify_cmd(given: Given, as_json: Json = False) -> None:
    """Read every file of a cache and compare it with the digest it carries; nothing is changed."""
    from gramcli.stages.inspect import verify

    with Bar(quiet=given.quiet) as bar:
        result = verify(given.cache, progress=bar)
    if as_json:
        render.document({"format": render.FORMAT, "files": result.files, "damaged": list(result.damaged)})
    for line in result.damaged:
        render.complain("damaged", line)
    if result.damaged:
        raise DamagedError(f"{given.cache}: {len(result.damaged)} of {result.files} files are damaged or do not fit")
    if not as_json:
        render.say(f"{result.files} files, all whole")
