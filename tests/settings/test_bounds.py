"""Settings that are too large, too deep or too long, from any source: refused with their bound."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from gramcli.errors import ArtefactError, NoInputError, UsageError
from gramcli.settings import sources
from gramcli.settings.configure import configure, configure_stored
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import Settings, fields
from gramcli.settings.settings_file import read

NUMBERS = [(section, key) for section, key in fields() if key.metadata["kind"] in ("int", "number")]


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(("section", "key"), NUMBERS, ids=lambda value: getattr(value, "name", value))
@pytest.mark.parametrize("value", ["1e308", "9" * 30, 10**12 * 10**20, -1e308], ids=str)
def test_no_number_is_without_a_bound(section, key, value):
    with pytest.raises(UsageError, match=rf"^here: {section}\.{key.name} must be ") as caught:
        sources.source({section: {key.name: value}}, "here", Path.cwd())
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"segment": {"seconds": 86_400}}, "segment.seconds = 86400 at 16000 Hz are 1382400000 samples a window"),
        ({"segment": {"seconds": 600}, "frontend": {"sample_rate": 768_000}}, "more than 268435456"),
        ({"frontend": {"n_fft": 2**20, "n_mels": 16_384}}, "frontend.n_fft = 1048576, n_mels = 16384 and hop_ms"),
        ({"frontend": {"hop_ms": 0.001, "n_fft": 65_536}}, "numbers for a window of 10 s, more than 1073741824"),
    ],
)
def test_settings_that_are_too_large_together(settings, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        configure(RunContext(settings))
    with pytest.raises(ArtefactError, match=rf"{re.escape(message)}.*this gramcli never writes such settings"):
        configure(RunContext(), earlier=settings, origin="view.json")
    assert sources.resolve(sources.source(settings, "", Path.cwd())).excess()
    assert not Settings().excess()


def test_tables_are_neither_deep_nor_long():
    for args in ({"x": nested(40)}, {"x": nested(5000)}, ["x=" + "[" * 40 + "]" * 40], ["x=" + "[" * 100_000]):
        with pytest.raises(UsageError, match=r"network\.args must be a table of .*, at most 32 levels deep") as caught:
            sources.source({"network": {"args": args}}, "here", Path.cwd())
        assert len(str(caught.value)) < 600
    with pytest.raises(UsageError, match=r"at most 100000 characters of JSON"):
        sources.source({"network": {"args": {"x": "y" * 100_000}}}, "here", Path.cwd())
    assert sources.source({"network": {"args": {"x": nested(20)}}}, "here", Path.cwd())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 0x" + "f" * 5000, "unknown section"),
        ("[run]\nbatch = 0x" + "f" * 5000, "run.batch must be"),
        ("[network]\nargs = {x = 0x" + "f" * 5000 + "}", "network.args must be a table"),
        ("[run]\nbatch = " + "9" * 5000, "is not TOML"),
        ("[network.args]\n" + ".".join("a" * 2000) + " = 1", "is not TOML: a key of more than 64 parts"),
        ("[network]\nargs = {x = " + "[" * 300 + "]" * 300 + "}", "(network.args must be a table|is not TOML)"),
        ("#" * (1 << 22) + "\n", "is larger than 4194304 bytes"),
        ("\0", "is not TOML"),
    ],
    ids=range(8),
)
def test_odd_settings_files(tmp_path, content, message):
    (tmp_path / "x.toml").write_text(content)
    with pytest.raises(UsageError, match=rf"x\.toml: {message}|x\.toml: \[?x\]? must") as caught:
        read(tmp_path / "x.toml")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_stored_settings_that_are_invalid_are_the_files_fault():
    with pytest.raises(ArtefactError, match=r"^x/view\.json: segment\.seconds must be above 0.*never writes"):
        configure(RunContext(), earlier={"segment": {"seconds": 0}}, origin="x/view.json")
    with pytest.raises(ArtefactError, match=r"^the exported model: unknown key frontend\.x"):
        configure_stored(RunContext(), {"frontend": {"x": 1}})
    with pytest.raises(UsageError, match=r"^settings: run\.batch"):
        configure_stored(RunContext({"run": {"batch": 0}}), {})


def test_a_settings_file_that_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    for path in (tmp_path / "pipe.toml", tmp_path, Path("/dev/null")):
        with pytest.raises(NoInputError, match=r"not a file; name a file$"):
            read(path)
