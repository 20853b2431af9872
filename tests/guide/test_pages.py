"""The guide tells of everything that the program has, and its links lead somewhere."""

from __future__ import annotations

import csv
import dataclasses
import io
import re

import pytest

from gramcli import guide
from gramcli.errors import Exit
from gramcli.settings import schema
from tests.guide import program
from tests.guide.pages import PAGES, fenced
from tests.guide.terminal import terminal
from tests.support.sets import ROOT

GUIDE = {topic: guide.page(topic) for topic in guide.TOPICS}
ALL = "\n".join(GUIDE.values())
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_CODE = re.compile(r"`(gramcli [^`]+)`")


def test_every_file_in_the_folder_is_a_topic_and_back():
    files = {path.stem for path in (ROOT / "gramcli" / "guide").glob("*.md")}
    assert files == set(guide.TOPICS)


@pytest.mark.parametrize("topic", guide.TOPICS)
def test_a_page_has_a_heading_and_says_in_one_sentence_what_it_is_about(topic):
    assert GUIDE[topic].startswith("# ")
    assert re.fullmatch(r"[A-Z][^\n]{20,150}\.", guide.summary(topic))


@pytest.mark.parametrize("command", program.COMMANDS)
def test_every_command_is_in_the_guide(command):
    assert f"gramcli {command}" in ALL


@pytest.mark.parametrize("command", [program.ROOT_COMMAND, *program.COMMANDS.values()], ids=lambda one: one.name)
def test_every_option_is_in_the_guide(command):
    missing = [
        flag
        for flag in program.options(command)
        if flag.startswith("--") and flag != "--help" and not re.search(rf"{flag}(?![\w-])", ALL)
    ]
    assert not missing


@pytest.mark.parametrize("panel", sorted(program.panels()))
def test_every_group_of_options_has_a_section(panel):
    assert re.search(rf"^## {panel}:", GUIDE["settings"], re.MULTILINE)


@pytest.mark.parametrize("section", schema.SECTIONS)
def test_every_setting_is_in_the_table_of_its_section_with_its_default(section):
    (table,) = re.findall(rf"^## [^\n]*`\[{section}\]`$(.*?)(?=^## |\Z)", GUIDE["settings"], re.M | re.S)
    rows = {cells[1].strip(" `"): cells for cells in (line.split("|") for line in table.splitlines()) if len(cells) > 4}
    for key in dataclasses.fields(schema.section_type(section)):
        flag = "--" + (key.metadata["flag"] or key.name).replace("_", "-")
        row = rows[key.name]
        assert flag in row[2] or (section, key.name) == ("data", "manifest")
        if isinstance(key.default, bool):
            assert row[3].strip() == "off"
        elif isinstance(key.default, int | float):
            assert float(row[3]) == key.default
        elif isinstance(key.default, str):
            assert row[3].strip(" `") == key.default
        for word in key.metadata["words"]:
            assert f"`{word}`" in row[3] + row[4]


@pytest.mark.parametrize("code", Exit)
def test_every_exit_code_is_in_the_table(code):
    rows = [line for line in GUIDE["troubleshooting"].splitlines() if line.startswith(f"| {int(code)} |")]
    assert len(rows) == 1
    assert rows[0].split("|")[2].strip().startswith(code.meaning)


def test_every_column_of_every_command_is_explained(tmp_path_factory, demo_folder):
    for command in (
        ["layers", "gramcli.demo.network:small_cnn"],
        ["select-layers"],
        ["classify", "sounds/alarm/12-0.wav"],
        ["check", "sounds/alarm"],
        ["evaluate", "--condition", "gain:-3"],
    ):
        _, lines = terminal([*command, "--format", "csv", "--quiet"], demo_folder)
        (section,) = re.findall(rf"^### {command[0]}$(.*?)(?=^###? |\Z)", GUIDE["start"], re.M | re.S)
        for column in next(csv.reader(io.StringIO(lines[0]))):
            assert f"`{column}`" in section, f"{command[0]}: {column}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in _LINK.findall(page.read_text()):
        if not target.startswith("https://"):
            path, _, anchor = target.partition("#")
            assert (page.parent / path).is_file(), target
            assert not anchor, f"{target}: not every forge makes the same anchors"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_in_running_text_exist(page):
    text = " ".join(page.read_text().split())
    for line in _CODE.findall(text):
        words = line.split()[1:]
        if not words[0].startswith("-") and words[0].islower() and words[0] != "cache":
            program.check([word.strip("'") for word in words])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_and_modules_that_are_named_are_there(page):
    text = page.read_text()
    for name in re.findall(r"`(\w+/test_\w+\.py)`", text):
        assert (ROOT / "tests" / name).is_file(), name
    for name in re.findall(r"pytest [^`]*?(tests/[\w/]+\.py)", text):
        assert (ROOT / name).is_file(), name
    for module in re.findall(r"python -m (tests[\w.]+)", text):
        path = ROOT.joinpath(*module.split("."))
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module
    for module in re.findall(r"`(gramcli\.[a-z_.]+)\.\w+\(\)`", text):
        path = ROOT.joinpath(*module.split("."))
        assert path.with_suffix(".py").is_file() or path.is_dir(), module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_install_commands_name_extras_that_there_are(page):
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for body in fenced(page, "sh"):
        for line in body.splitlines():
            found = re.fullmatch(r"pip install (?:\.|'\.\[(\w+)\]')|gramcli demo", line)
            assert found, line
            assert found[1] is None or found[1] in extras


def test_no_fence_escapes_the_checks():
    for page in PAGES:
        languages = set(re.findall(r"^```(\w*)$", page.read_text(), re.MULTILINE)) - {""}
        assert languages <= {"console", "sh", "toml", "json", "python"}, page.name
