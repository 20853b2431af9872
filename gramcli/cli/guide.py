"""``gramcli guide``: the user's guide, page by page."""

from __future__ import annotations

import difflib
import os
import sys
from typing import Annotated

import typer

from gramcli import guide
from gramcli.cli import render
from gramcli.errors import UsageError
from gramcli.text import shown


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("guide")(guide_cmd)


def _complete(incomplete: str) -> list[str]:
    return [topic for topic in guide.TOPICS if topic.startswith(incomplete)]


def guide_cmd(
    topic: Annotated[
        str | None,
        typer.Argument(help="Page to show; without it, the list of pages.", autocompletion=_complete),
    ] = None,
) -> None:
    """Show a page of the guide, or list the pages.

    On a terminal a page opens in the pager that PAGER names, or less. In a pipe it is plain Markdown.

    Example: gramcli guide data
    """
    if topic is None:
        pages = [{"topic": name, "about": guide.summary(name)} for name in guide.TOPICS]
        render.rows(["topic", "about"], pages, render.Format.table)
        render.say("\nShow a page with: gramcli guide TOPIC")
        return
    if topic not in guide.TOPICS:
        near = difflib.get_close_matches(topic, guide.TOPICS, n=1, cutoff=0.4)
        question = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"{shown(topic)}: no such page; {question}The pages are: {', '.join(guide.TOPICS)}")
    text = guide.readable(guide.page(topic))
    if sys.stdout.isatty():
        _page(text)
    else:
        render.out(text.rstrip("\n"))


def _page(text: str) -> None:
    """Shows Markdown in the pager, which a page that fits the screen does not wait in."""
    from rich.console import Console
    from rich.markdown import Markdown

    os.environ.setdefault("LESS", "-FRX")  # colours, and no waiting for a page that fits the screen
    console = Console()
    with console.pager(styles=True):
        console.print(Markdown(text, hyperlinks=False))
