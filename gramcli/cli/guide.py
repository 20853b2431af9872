"""``gramcli guide``: the user's guide, page by page."""

from __future__ import annotations

import difflib
import os
from typing import Annotated

import typer

from gramcli import guide
from gramcli.cli import render, streams
from gramcli.cli.options import Panel, example
from gramcli.errors import UsageError
from gramcli.text import shown


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("guide", epilog=example("gramcli guide", "gramcli guide start"), rich_help_panel=Panel.START)(guide_cmd)


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
    """
    if topic is None:
        pages = [{"topic": name, "about": guide.summary(name)} for name in guide.TOPICS]
        render.rows(["topic", "about"], pages, render.Format.table)
        render.print_line("")
        render.print_text("Show a page with: gramcli guide TOPIC")
        return
    if topic not in guide.TOPICS:
        near = difflib.get_close_matches(topic, guide.TOPICS, n=1, cutoff=0.4)
        question = f" did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"{shown(topic)}: no such page;{question} there are {', '.join(guide.TOPICS)}")
    text = guide.readable(guide.page(topic))
    if streams.stdout_is_terminal():
        _page(text)
    else:
        render.print_line(text.rstrip("\n"))


def _page(text: str) -> None:
    """Shows Markdown in the pager, which does not wait with a page that fits the screen."""
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.markdown import CodeBlock, Markdown, TableElement
    from rich.table import Table
    from rich.text import Text

    class Block(CodeBlock):
        """Output of commands, which is as wide as a terminal, so without margins."""

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            yield Text(f"\n{str(self.text).rstrip()}\n", style="cyan", overflow="fold")

    class Grid(TableElement):
        """A table of which no word is cut; one that is too long goes on in the next line."""

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            for table in super().__rich_console__(console, options):
                for column in table.columns if isinstance(table, Table) else ():
                    column.overflow = "fold"
                yield table

    class Page(Markdown):
        elements = {**Markdown.elements, "fence": Block, "code_block": Block, "table_open": Grid}  # noqa: RUF012

    os.environ.setdefault("LESS", "-FRX")  # colours, and an end by itself
    console = Console()
    with console.pager(styles=True):
        console.print(Page(text, hyperlinks=False))
