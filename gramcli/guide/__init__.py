"""The pages of the user's guide, which ``gramcli guide`` shows: one Markdown file a topic, in this folder."""

from __future__ import annotations

import re
from importlib import resources

TOPICS = (
    "start",
    "data",
    "networks",
    "settings",
    "evaluate",
    "unknown-sounds",
    "cache",
    "speed",
    "many-machines",
    "python",
    "method",
    "paper",
    "troubleshooting",
)
"""Names of the pages, in the order in which a newcomer reads them."""

_COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
_LINK = re.compile(r"\[([^\]]+)\]\(([\w-]+)\.md(?:#[\w-]+)?\)")


def page(topic: str) -> str:
    """Returns the Markdown of a page as its file holds it.

    Raises:
        ValueError: There is no such page.
    """
    if topic not in TOPICS:
        raise ValueError(f"no page named {topic!r}")
    return resources.files(__name__).joinpath(f"{topic}.md").read_text(encoding="utf-8")


def readable(markdown: str) -> str:
    r"""Returns Markdown for a reader at a terminal: without comments, and with commands in place of links to pages.

    >>> readable("<!-- run: demo -->\nSee [the cache](cache.md).")
    'See the cache (`gramcli guide cache`).'
    """
    return _LINK.sub(r"\1 (`gramcli guide \2`)", _COMMENT.sub("", markdown))


def summary(topic: str) -> str:
    """Returns what a page is about in one line: the sentence below its heading."""
    return page(topic).split("\n\n")[1].replace("\n", " ")
