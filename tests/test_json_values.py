"""What is refused of JSON that somebody else wrote."""

from __future__ import annotations

import json

import pytest

from gramcli.json_values import DEEPEST, RefusedJsonError, parse, require_shallow


def test_ordinary_values_come_back() -> None:
    value = {"a": [1, -2.5, "x", None, True], "b": {"c": [[]]}, "é": 1791504000123456789}
    assert parse(json.dumps(value)) == value
    assert parse(json.dumps(value).encode()) == value
    assert parse("-" + "9" * 40) == 1 - 10**40
    assert parse(b'"\\udc80"') == "\udc80"
    assert parse("NaN", finite=False) != parse("Infinity", finite=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * (DEEPEST + 2) + "]" * (DEEPEST + 2), "more than 64 deep"),
        ("[" * 900 + "]" * 900, "more than 64 deep"),
        ("[" * 100_000, "more than 64 deep"),
        ('{"a": ' * 100 + "1" + "}" * 100, "more than 64 deep"),
        ("[NaN]", "the number NaN"),
        ("[-Infinity]", "the number -Infinity"),
        ("[1e999]", "not finite"),
        ("9" * 41, "a number of 41 digits"),
        ("-" + "9" * 41, "a number of 41 digits"),
        ("9" * 5000, "a number of 5000 digits"),
        ('{"a": 1, "a": 1}', "given twice"),
    ],
)
def test_what_no_program_needs_is_refused(text: str, message: str) -> None:
    with pytest.raises(RefusedJsonError, match=message):
        parse(text)


@pytest.mark.parametrize("text", ["", "{", b"\xff", "[1]]", "'a'"])
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse(text)


def test_depth_is_counted_not_brackets() -> None:
    flat = [[] for _ in range(10_000)]
    assert parse(json.dumps(flat)) == flat
    assert len(parse("[" * DEEPEST + "]" * DEEPEST)) == 1
    assert parse(json.dumps("[" * 1000)) == "[" * 1000


def test_a_list_that_holds_itself_is_too_deep_and_one_held_often_is_not() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(RefusedJsonError):
        require_shallow(loop)
    often: list[object] = []
    for _ in range(DEEPEST - 1):
        often = [often, often]
    require_shallow(often)


def test_many_empty_lists_are_refused_before_they_take_memory() -> None:
    with pytest.raises(RefusedJsonError, match="more than 2000000 lists and objects"):
        parse("[" + ",".join(["[]"] * 2_000_001) + "]")
