"""A settings file of somebody else puts the cache outside its folder, or over files of other programs."""

from __future__ import annotations

import pytest

COMMANDS = [
    "extract sounds/manifest.csv --network tests.support.toys:ResNet",
    "extract",
    "extract --dry-run",
    "calibrate",
    "select-layers",
    "select-layers --threshold-from sounds",
    "evaluate",
    "evaluate --folds net{fold}.safetensors",
    "classify sounds",
    "check sounds",
    "export model.safetensors",
    "cache info",
    "cache verify --full --repair",
    "cache clean --yes",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_cache_outside_the_folder_is_refused(project, gramcli, command):
    data = '[data]\nmanifest = "sounds/manifest.csv"\n'
    (project / "gramcli.toml").write_text(f'[cache]\ndir = "../other/.gramcli"\n{data}')
    done = gramcli(*command.split())
    assert done.code == 8, done.err
    assert "gramcli.toml: cache.dir = " in done.err
    assert "name it yourself (--cache, or GRAMCLI_CACHE_DIR)" in done.err
    assert not (project.parent / "other").exists()


def test_files_of_other_programs_are_not_replaced(project, gramcli):
    toml = project / "gramcli.toml"
    toml.write_text(toml.read_text().replace("[cache]\n", '[cache]\ndir = "."\n'))
    (project / "failures.csv").write_text("id,what\n")
    done = gramcli("extract")
    assert done.code == 2
    assert "failures.csv: is no file of gramcli, and would be replaced" in done.err
    assert (project / "failures.csv").read_text() == "id,what\n"
    assert not (project / "views").exists()
