"""``gramcli guide``."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from rich.cells import cell_len

from gramcli import guide
from tests.guide.pages import console_blocks
from tests.guide.terminal import terminal
from tests.support.sets import ROOT


def test_without_a_topic_it_lists_all(gramcli):
    done = gramcli("guide")
    assert (done.code, done.err) == (0, "")
    assert [line.split()[0] for line in done.out.splitlines()[1:] if line[:1].isalpha()][:-1] == list(guide.TOPICS)
    assert "gramcli guide TOPIC" in done.out


@pytest.mark.parametrize("topic", guide.TOPICS)
def test_in_a_pipe_a_page_is_plain_markdown(gramcli, topic):
    done = gramcli("guide", topic)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("# ")
    assert "<!--" not in done.out
    assert ".md)" not in done.out
    assert "\x1b" not in done.out


@pytest.mark.parametrize("topic", guide.TOPICS)
def test_on_a_terminal_a_page_is_set_and_fits(topic, tmp_path):
    code, lines = terminal(["guide", topic], tmp_path)
    text = "\n".join(lines)
    assert code == 0
    assert max(map(cell_len, lines)) <= 80
    assert not re.search(r"\*\*\w[^*\n]*\*\*", text)
    assert "|---|" not in text
    assert "…" not in text  # no cell of a table is cut


@pytest.mark.parametrize("topic", guide.TOPICS)
def test_output_that_a_page_shows_is_not_broken(topic, tmp_path):
    """But for commands, which a user copies in one piece."""
    _, lines = terminal(["guide", topic], tmp_path)
    path = ROOT / "gramcli" / "guide" / f"{topic}.md"
    for block in console_blocks(path):
        for command in block.commands:
            for line in command.output:
                assert line in lines


def test_an_unknown_topic_names_the_nearest_and_all(gramcli):
    done = gramcli("guide", "unknown-sound")
    assert done.code == 2
    assert "did you mean 'unknown-sounds'?" in done.error
    assert all(topic in done.error for topic in guide.TOPICS)


def test_topics_are_completed():
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "_GRAMCLI_COMPLETE": "complete_bash",
        "COMP_WORDS": "gramcli guide ma",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(
        [sys.executable, "-m", "gramcli"], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["many-machines"]


def test_it_loads_neither_torch_nor_numpy():
    script = (
        "import sys\nfrom gramcli.cli.app import run\n"
        "code = run(['guide', 'data'])\n"
        "assert code == 0\n"
        "assert not {'torch', 'numpy', 'h5py', 'timm'} & set(sys.modules), sorted(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_pages_are_where_the_package_is_built_from():
    """The wheel holds every file of the package's folder, and no pattern leaves these out."""
    import tomllib

    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert built["packages"] == ["gramcli"]
    assert not {"exclude", "only-include"} & set(built)
