"""What a run takes over from its caller."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gramcli.progress import Silent
from gramcli.settings.run_context import RunContext


def test_by_default_nothing_is_set_and_factories_are_looked_for_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    context = RunContext()
    assert (context.settings, context.config, context.folder) == ({}, None, tmp_path)
    assert isinstance(context.progress, Silent)
    assert RunContext().progress is not context.progress


def test_factories_are_looked_for_beside_the_settings_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert RunContext(config=Path("sub/gramcli.toml")).folder == tmp_path / "sub"
    assert RunContext(config="sub/gramcli.toml").config == Path("sub/gramcli.toml")  # type: ignore[arg-type]
    assert RunContext(config=tmp_path / "x.toml", folder=tmp_path / "y").folder == tmp_path / "y"


def test_who_trusts_code_for_good_trusts_it_now():
    assert not RunContext().trusts_files
    assert RunContext(trust_code=True).trusts_files
    assert RunContext(remember_code=True).trusts_files


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunContext().config = Path("x")  # type: ignore[misc]
