"""Every console block of the README and the guide is run here, or is the output of a study."""

from __future__ import annotations

import importlib.util

import pytest

from tests.guide import folders, program
from tests.guide.pages import ELISION, PAGES, Block, console_blocks
from tests.guide.terminal import difference, terminal
from tests.support.esc10 import ESC10
from tests.support.sets import write_strange

BLOCKS = [block for page in PAGES for block in console_blocks(page)]
RUNS = {
    f"{page.stem}-{where}": [block for block in console_blocks(page) if (block.kind, block.where) == ("run", where)]
    for page in PAGES
    for where in dict.fromkeys(block.where for block in console_blocks(page) if block.kind == "run")
    if where != ESC10
}
"""Blocks that run one after another, by page and folder; those on ESC-10 run in `tests.test_real_audio`."""
SMALL_LIKE = {
    "evaluate": ("--condition", "gain:-3", "--unknown", "strange"),
    "check": ("sounds/alarm",),
}
"""Arguments that print tables of the same columns as a study does, in the demo's folder."""


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_it_says_where_its_output_comes_from(block: Block):
    assert block.kind, f"{block.name}: precede the block with a line <!-- run: FOLDER --> or <!-- study: MODULE -->"


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_its_commands_and_options_exist(block: Block):
    for command in block.commands:
        program.check(command.arguments)


@pytest.mark.parametrize("name", RUNS)
def test_it_prints_what_the_page_shows(name, page_folders):
    blocks = RUNS[name]
    folder = page_folders.copy(blocks[0].where)
    wrong = []
    with folders.environment(blocks[0].where):
        for command in [command for block in blocks for command in block.commands]:
            code, printed = terminal(command.arguments, folder)
            assert code == 0 or any(line.startswith("error:") for line in command.output), "\n".join(printed)
            wrong.append(difference(command, printed))
    assert not any(wrong), "\n".join(filter(None, wrong))


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.kind == "study"], ids=lambda block: block.name)
def test_the_study_is_there_and_columns_are_those_of_the_program(block: Block, demo_folder):
    assert importlib.util.find_spec(block.where) is not None
    write_strange(demo_folder / "strange", 5)
    for command in block.commands:
        name = command.arguments[0]
        _, printed = terminal([name, *SMALL_LIKE[name]], demo_folder)
        headers = {tuple(line.split()) for line in printed}
        shown = [line for line in command.output if line.strip() != ELISION]
        title = next(n for n, line in enumerate(shown) if tuple(line.split()) in headers)
        assert title <= 1, f"{block.name}: no line of the output has the columns of gramcli {name}"


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
