"""Paths outside a project's folder count only as the user's own word."""

from __future__ import annotations

from pathlib import Path

import pytest

from gramcli.errors import UnsafeError
from gramcli.settings.configure import complete, configure, require_recorded_inside
from gramcli.settings.run_context import RunContext

PATHS = {
    "data.manifest": ('[data]\nmanifest = "../m.csv"\n', {"data": {"manifest": "m.csv"}}),
    "data.audio_root": ('[data]\naudio_root = "/"\n', {"data": {"audio_root": "."}}),
    "data.allow_outside": ("[data]\nallow_outside = true\n", {"data": {"allow_outside": True}}),
    "network.weights": ('[network]\nweights = "a/../../w"\n', {"network": {"weights": "w"}}),
    "cache.dir": ('[cache]\ndir = "/x"\n', {"cache": {"dir": "x"}}),
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.mark.parametrize("name", PATHS)
def test_a_settings_file_that_nobody_named_names_paths_in_its_folder_only(folder, monkeypatch, name):
    text, own = PATHS[name]
    (folder / "gramcli.toml").write_text(text)
    variable = f"GRAMCLI_{name.replace('.', '_').upper()}"
    for attempt in (lambda: configure(RunContext()), lambda: complete({"run": {"batch": 2}}, RunContext())):
        with pytest.raises(UnsafeError, match=rf"^gramcli\.toml: {name} .*{variable}.*--config gramcli\.toml"):
            attempt()
    configure(RunContext(config=Path("gramcli.toml")))
    configure(RunContext(own))
    complete(own, RunContext())
    monkeypatch.setenv(variable, "true" if name.endswith("outside") else "x")
    configure(RunContext())


def test_paths_in_its_folder_may_be_named_by_any_settings_file(folder):
    (folder / "gramcli.toml").write_text(
        '[data]\nmanifest = "x/../m.csv"\naudio_root = "."\nallow_outside = false\n[network]\nweights = "./w"\n'
    )
    assert configure(RunContext()).data.manifest == str(folder / "m.csv")


def test_a_cache_repeats_an_extract_in_its_own_folder_only(folder):
    context = RunContext()
    inside = {"data": {"manifest": f"{folder}/m.csv", "audio_root": str(folder)}, "network": {"weights": "/far/w"}}
    require_recorded_inside(inside, "view.json", folder, context)
    for data in ({"manifest": "/far/m.csv"}, {"audio_root": "/"}, {"allow_outside": True}):
        with pytest.raises(UnsafeError, match=r"^view\.json: data\."):
            require_recorded_inside({"data": data}, "view.json", folder, context)
        require_recorded_inside({"data": data}, "view.json", folder, RunContext({"data": data}))
