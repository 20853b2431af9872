"""Where the cache lies, and which folders a settings file of somebody else may not choose."""

from __future__ import annotations

from pathlib import Path

import pytest

from gramcli.errors import UnsafeError
from gramcli.settings.cache_folder import cache_folder
from gramcli.settings.run_context import RunContext


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def test_the_cache_is_known_without_a_checkpoint(folder):
    assert cache_folder(RunContext({"cache": {"dir": "x"}})) == folder / "x"
    assert cache_folder(RunContext()) == Path(".gramcli")


def test_a_cache_that_is_a_link_must_be_named(folder, monkeypatch):
    """A link in a project of somebody else could send what is written to any folder."""
    (folder / "elsewhere" / "cache").mkdir(parents=True)
    (folder / ".gramcli").symlink_to("elsewhere")
    (folder / "way").symlink_to("elsewhere")
    for attempt in (lambda: cache_folder(RunContext()), lambda: cache_folder(RunContext(), {"run": {"batch": 1}})):
        with pytest.raises(UnsafeError, match=r"^\.gramcli: is a link; .* name it with --cache"):
            attempt()
    assert cache_folder(RunContext({"cache": {"dir": ".gramcli"}})) == folder / ".gramcli"
    assert cache_folder(RunContext(), {"cache": {"dir": ".gramcli"}}) == folder / ".gramcli"
    for value in (".gramcli", "way/cache"):
        (folder / "gramcli.toml").write_text(f'[cache]\ndir = "{value}"\n')
        for context in (RunContext(), RunContext(config=folder / "gramcli.toml")):
            with pytest.raises(UnsafeError, match=r"(way|\.gramcli): is a link"):
                cache_folder(context)
    monkeypatch.setenv("GRAMCLI_CACHE_DIR", "way/cache")
    assert cache_folder(RunContext()) == folder / "way" / "cache"


def test_a_link_is_found_however_the_settings_file_is_named(folder):
    (folder.parent / "elsewhere").mkdir()
    (folder / "way").symlink_to(folder.parent / "elsewhere")
    (folder / "gramcli.toml").write_text('[cache]\ndir = "way/cache"\n')
    with pytest.raises(UnsafeError, match=r"way: is a link"):
        cache_folder(RunContext(config=Path("../project/gramcli.toml")))


@pytest.mark.parametrize("value", ["../other/.gramcli", "/tmp/x", "sub/../../other", ".."])
def test_a_settings_file_that_nobody_named_puts_the_cache_in_its_folder_only(folder, monkeypatch, value):
    (folder / "gramcli.toml").write_text(f'[cache]\ndir = "{value}"\n')
    message = (
        r"^gramcli\.toml: cache\.dir = /.* lies outside /.*: name it yourself \(--cache, or .*--config gramcli\.toml$"
    )
    for settings in (None, {"run": {"batch": 1}}):
        with pytest.raises(UnsafeError, match=message):
            cache_folder(RunContext(), settings)
    there = Path(folder / value).resolve()
    assert cache_folder(RunContext(config=folder / "gramcli.toml")) == there
    assert cache_folder(RunContext({"cache": {"dir": value}})) == there
    assert cache_folder(RunContext(), {"cache": {"dir": value}}) == there
    monkeypatch.setenv("GRAMCLI_CACHE_DIR", value)
    assert cache_folder(RunContext()) == there


@pytest.mark.parametrize("value", [".gramcli", "a/../b/c", "deep/er", "."])
def test_a_settings_file_may_choose_a_folder_below_its_own(folder, value):
    (folder / "gramcli.toml").write_text(f'[cache]\ndir = "{value}"\n')
    assert cache_folder(RunContext()) == (folder / value).resolve()
