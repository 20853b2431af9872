"""The README: its size, its settings and its test command."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from gramcli.settings import sources
from tests.guide.pages import PAGES, fenced

README = PAGES[0]
MAX_BYTES = 8191


def test_it_stays_short():
    assert len(README.read_bytes()) <= MAX_BYTES


def test_the_settings_are_valid():
    (text,) = fenced(README, "toml")
    chosen = sources.resolve(sources.source(tomllib.loads(text), "README", Path.cwd()))
    assert chosen.network.name == "resnet18"
    assert len(chosen.network.classes) == 10


def test_the_test_command_is_one_that_the_check_can_read():
    """`.ci/run` takes it from between two marks."""
    (marked,) = re.findall(r"<!-- test -->\n(.*?)<!-- /test -->", README.read_text(), re.DOTALL)
    assert re.fullmatch(r"    pip install '\.\[test\]' && pytest\n", marked)


def test_the_four_commands_and_the_demo_are_in_it():
    text = README.read_text()
    for command in ("extract", "calibrate", "select-layers", "classify", "evaluate", "demo", "train", "guide"):
        assert f"gramcli {command}" in text
