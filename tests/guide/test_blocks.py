"""Every console block of the README and the guide is run here, or is the output of a study."""

from __future__ import annotations

import importlib.util

import pytest

from tests.guide import folders, program
from tests.guide.pages import ELISION, PAGES, Block, console_blocks
from tests.guide.terminal import difference, terminal
from tests.support.esc10 import NEW

BLOCKS = [block for page in PAGES for block in console_blocks(page)]
RUNS = {
    f"{page.stem}-{where}": [block for block in console_blocks(page) if (block.kind, block.where) == ("run", where)]
    for page in PAGES
    for where in dict.fromkeys(block.where for block in console_blocks(page) if block.kind == "run")
}
"""Blocks that run one after another, by page and folder."""


@pytest.fixture(scope="module")
def made(tmp_path_factory, request):
    return folders.Folders(tmp_path_factory.mktemp("pages"), lambda: request.getfixturevalue("esc10").folder)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_it_says_where_its_output_comes_from(block: Block):
    assert block.kind, f"{block.name}: precede the block with a line <!-- run: FOLDER --> or <!-- study: MODULE -->"


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_its_commands_and_options_exist(block: Block):
    for command in block.commands:
        program.check(command.arguments)


@pytest.mark.parametrize("name", RUNS)
def test_it_prints_what_the_page_shows(name, made, monkeypatch, request):
    blocks = RUNS[name]
    if blocks[0].where == NEW:
        printed = request.getfixturevalue("esc10").printed
        wrong = [difference(command, printed[command.line]) for block in blocks for command in block.commands]
    else:
        folder = made.copy(blocks[0].where)
        wrong = []
        with folders.environment(blocks[0].where):
            for command in [command for block in blocks for command in block.commands]:
                wrong.append(difference(command, terminal(command.arguments, folder)[1]))
    assert not any(wrong), "\n".join(filter(None, wrong))


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.kind == "study"], ids=lambda block: block.name)
def test_the_study_is_there_and_columns_are_those_of_the_program(block: Block):
    assert importlib.util.find_spec(block.where) is not None
    headers = program.headers()
    for command in block.commands:
        name = program.split(command.arguments)[0]
        lines = [line for line in command.output if line.strip() != ELISION]
        if lines and name in headers:
            assert any(line.split() == header.split() for line in lines for header in headers[name]), (
                f"{block.name}: no line of the output has the columns of gramcli {name}: {headers[name]}"
            )


def test_a_changed_number_or_word_is_noticed(tmp_path):
    """The comparison itself, on a real command."""
    from tests.guide.pages import Command

    _, printed = terminal(["layers", "gramcli.demo.network:small_cnn"], tmp_path)
    shown = tuple(printed)
    assert difference(Command("gramcli layers", shown), printed) is None
    assert difference(Command("gramcli layers", (shown[0], ELISION, shown[-1])), printed) is None
    for wrong in (
        shown[:-1],
        (*shown, "more"),
        (shown[0].replace("positions", "places"), *shown[1:]),
        (shown[0], ELISION, shown[-1].replace("6 layers", "8 layers")),
        (shown[0], ELISION, "layer9.relu", ELISION, shown[-1]),
    ):
        assert difference(Command("gramcli layers", wrong), printed) is not None
