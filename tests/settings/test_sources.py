"""Settings from every source, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gramcli.errors import ArtefactError, NoInputError, UsageError
from gramcli.settings import sources as c
from gramcli.settings.schema import PRESETS, NetworkSettings, Settings, fields
from gramcli.settings.settings_file import read
from gramcli.text import shown

SOME: dict[str, tuple[Any, str]] = {
    "path": ("/data/x", "/data/x"),
    "text": ("thing", "thing"),
    "int": (7, "7"),
    "number": (0.5, "0.5"),
    "switch": (True, "true"),
    "names": (["a", "b"], "a, b"),
    "table": ({"in_chans": 3, "x": "y"}, "in_chans=3"),
}
EVERY = [(section, key) for section, key in fields()]


def value_of(settings: Settings, section: str, name: str) -> Any:
    return getattr(getattr(settings, section), name)


@pytest.mark.parametrize(("section", "key"), EVERY, ids=lambda value: getattr(value, "name", value))
def test_every_setting_means_the_same_from_a_file_a_variable_and_a_flag(tmp_path, section, key):
    kind = key.metadata["kind"]
    typed, text = (key.metadata["words"][-1],) * 2 if kind == "word" else SOME[kind]
    if key.name == "sample_rate":
        typed, text = 8000, "8000"
    if kind == "table":
        typed, text = {"in_chans": 3}, "in_chans=3"
        toml = "{in_chans = 3}"
    else:
        toml = "true" if kind == "switch" else repr(typed)
    (tmp_path / "gramcli.toml").write_text(f"[{section}]\n{key.name} = {toml}\n")
    sources = [
        read(tmp_path / "gramcli.toml"),
        c.from_environment({f"GRAMCLI_{section}_{key.name}".upper(): text}),
        c.source({section: {key.name: text}}, "command line", Path.cwd()),
    ]
    values = [value_of(c.resolve(source), section, key.name) for source in sources]
    assert values[0] == values[1] == values[2]
    assert values[0] == (tuple(typed) if isinstance(typed, list) else typed)
    assert value_of(Settings(), section, key.name) != values[0] or kind == "word"


@pytest.mark.parametrize(("section", "key"), EVERY, ids=lambda value: getattr(value, "name", value))
def test_a_wrong_value_is_refused_with_its_origin(section, key):
    kind = key.metadata["kind"]
    wrong: list[Any] = {"names": [3, [""], [1]], "table": ["x", 3, ["=1"]], "switch": [1, "yes", [], ""]}.get(
        kind, [True, [], {}, ""]
    )
    if kind in ("int", "number"):
        wrong += ["x", "nan", "inf", -1e9 if key.metadata["least"] is not None else "1e"]
    for value in wrong:
        with pytest.raises(UsageError, match=rf"^here: {section}\.{key.name} must be ") as caught:
            c.source({section: {key.name: value}}, "here", Path.cwd())
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("run.batch = inf", "run.batch must be a whole number, not"),
        ("run.batch = nan", "run.batch must be a whole number, not"),
        ("run.batch = 2.5", "run.batch must be a whole number, not"),
        ("run.batch = 0", "run.batch must be at least 1, not"),
        (f"run.batch = 1{'0' * 400}", "run.batch must be a whole number, not"),
        (f"segment.seconds = 1{'0' * 400}", "segment.seconds must be a number, not"),
        ("decision.false_reject = 1", "decision.false_reject must be below 1, not"),
        ("segment.seconds = 0", "segment.seconds must be above 0, not"),
        ("segment.channel = -1", "segment.channel must be at least 0 or 'mix', not"),
        ("frontend.top_db = 'x'", "frontend.top_db must be a number or 'none', not"),
        ("frontend.log = 1", "frontend.log must be 'db' or 'ln', not"),
        ("network.args = {x = nan}", "network.args must be a table of text, finite numbers"),
        ("network.args = {x = 2020-01-01}", "network.args must be a table of text, finite numbers"),
        ("network.args = ['x=-Infinity']", "network.args must be a table of text, finite numbers"),
        ("network.weights = 'a\\u0000b'".replace("'", '"'), "network.weights must be text, not"),
    ],
)
def test_values_from_a_file_that_nothing_can_use(tmp_path, line, message):
    (tmp_path / "x.toml").write_text(line)
    with pytest.raises(UsageError, match=rf"x\.toml: {re.escape(message)}"):
        read(tmp_path / "x.toml")


def test_arguments_keep_their_types():
    pairs = ["a=1", "b=1.5", "c=true", "d=[1, 2]", "e=text", 'f="1"', "g=x=y", "h=", "i=" + "9" * 5000, "j=01"]
    args = c.resolve(c.source({"network": {"args": pairs}}, "command line", Path.cwd())).network.args
    wanted = {"a": 1, "b": 1.5, "c": True, "d": [1, 2], "e": "text", "f": "1", "g": "x=y", "h": "", "j": "01"}
    assert args == {"in_chans": 1, "i": "9" * 5000, **wanted}


def test_words_stand_in_for_numbers():
    chosen = c.resolve(
        c.source(
            {
                "segment": {"channel": "mix"},
                "frontend": {"top_db": "none", "f_max": "8000"},
                "decision": {"top_k": "all"},
            },
            "here",
            Path.cwd(),
        )
    )
    assert (chosen.segment.channel, chosen.frontend.top_db, chosen.decision.top_k) == ("mix", "none", "all")
    assert chosen.frontend.f_max == 8000.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"frontend": {"n_mel": 3}}, "unknown key frontend.n_mel; did you mean 'n_mels'?"),
        ({"fronted": {}}, "unknown section [fronted]; did you mean 'frontend'?"),
        ({"cache": {"zzz": 3}}, "unknown key cache.zzz; there are dir, clips_per_shard"),
        ({"run": 3}, "[run] must be a table of settings"),
    ],
)
def test_unknown_names(values, message):
    with pytest.raises(UsageError, match=re.escape(f"here: {message}")):
        c.source(values, "here", Path.cwd())


def test_unknown_variables():
    with pytest.raises(UsageError, match="GRAMCLI_FRONTEND_NMELS; did you mean 'GRAMCLI_FRONTEND_N_MELS'"):
        c.from_environment({"GRAMCLI_FRONTEND_NMELS": "3", "OTHER": "x"})


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(NoInputError, match=r"no\.toml: cannot be read"):
        read(tmp_path / "no.toml")
    for content in (b"[run\n", b"\xff\xfe", b"a = " + b"[" * 100_000):
        (tmp_path / "x.toml").write_bytes(content)
        with pytest.raises(UsageError, match=r"x\.toml: is not TOML"):
            read(tmp_path / "x.toml")


def test_later_sources_win_and_arguments_are_merged():
    one = c.source({"run": {"batch": 3}, "network": {"args": {"a": 1, "b": 1}}}, "one", Path.cwd())
    two = c.source({"run": {"batch": 4}, "network": {"args": ["b=2", "c=x"]}}, "two", Path.cwd())
    chosen = c.resolve(one, two)
    assert chosen.run.batch == 4
    assert chosen.network.args == {**NetworkSettings().args, "a": 1, "b": 2, "c": "x"}
    assert c.resolve() == Settings()


def test_paths_are_relative_to_the_file_that_names_them(tmp_path):
    (tmp_path / "gramcli.toml").write_text('[data]\nmanifest = "m/../x.csv"\n[cache]\ndir = "c"\n')
    chosen = c.resolve(read(tmp_path / "gramcli.toml"))
    assert (chosen.data.manifest, chosen.cache.dir) == (str(tmp_path / "x.csv"), str(tmp_path / "c"))
    flags = c.resolve(c.source({"data": {"manifest": "x.csv"}}, "command line", Path.cwd()))
    assert flags.data.manifest == str(Path.cwd() / "x.csv")


def test_settings_come_back_from_plain_values():
    chosen = c.resolve(
        c.source(
            {"network": {"classes": ["a", "b"], "name": "x"}, "run": {"threads": 2}, "cache": {"dir": "/c"}},
            "",
            Path.cwd(),
        )
    )
    assert c.resolve(c.source(chosen.as_dict(), "earlier extract", Path.cwd())) == chosen


def test_metadata_that_is_contradicted_is_named():
    metadata = c.source({"frontend": {"n_mels": 64, "hop_ms": 10}, "network": {"args": {"a": 1}}}, "w", Path.cwd())
    c.check_metadata(metadata, [c.source({"frontend": {"n_mels": 64}}, "file", Path.cwd())])
    wrong = c.source({"frontend": {"n_mels": 32}, "network": {"args": {"a": 2}}}, "file", Path.cwd())
    with pytest.raises(
        ArtefactError, match=r"^the metadata of w contradicts .*n_mels 64 → 32 \(file\).*args .*override-metadata"
    ):
        c.check_metadata(metadata, [wrong])
    c.check_metadata(metadata, [wrong], wrong)
    with pytest.raises(ArtefactError, match=r"n_mels 64 → 32 \(file\); leave these settings out, or use them"):
        c.check_metadata(metadata, [wrong], c.source({"network": {"args": {"a": 2}}}, "earlier", Path.cwd()))


def test_presets_are_valid_settings():
    for name, values in PRESETS.items():
        c.resolve(c.source(values, name, Path.cwd()))


@pytest.mark.parametrize(
    ("name", "line"),
    [("a\nb", r"a\nb"), ("\x1b[31m", r"\x1b[31m"), ("[red]x", "[red]x"), ("\udcff", r"\udcff"), ("é 音", "é 音")],
)
def test_names_are_shown_on_one_line(name, line):
    assert shown(name) == line
