"""What ``import gramcli`` offers, and that it loads nothing before it is used."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import gramcli
from gramcli import GramClassifier, RunContext, Settings, calibrate, evaluate, extract, select_layers, train
from gramcli.errors import UsageError
from tests.support.commands import TOML
from tests.support.sets import ROOT, read_manifest, write_set

FACE = {
    "extract", "calibrate", "select_layers", "evaluate", "train", "GramClassifier", "RunContext", "Settings", "cache",
}  # fmt: skip


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_all_names_are_there_and_hide_no_module():
    assert set(gramcli.__all__) == FACE
    assert set(dir(gramcli)) >= FACE | {"__version__"}
    modules = {module.name for module in pkgutil.iter_modules(gramcli.__path__)}
    assert FACE & modules == {"cache"}
    for name in FACE:
        assert getattr(gramcli, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'extrakt'"):
        _ = gramcli.extrakt


def test_importing_it_loads_neither_torch_nor_h5py_nor_numpy():
    heavy = "{'torch', 'h5py', 'numpy', 'soundfile', 'typer'}"
    assert run(f"import sys, gramcli; print(sorted({heavy} & set(sys.modules)))") == "[]"
    assert (
        run(f"import sys, gramcli; gramcli.Settings, gramcli.RunContext; print(sorted({heavy} & set(sys.modules)))")
        == "[]"
    )
    assert run("import sys, gramcli; gramcli.calibrate; print('torch' in sys.modules)") == "False"


def test_names_work_before_and_after_the_modules_of_their_rooms_are_imported():
    script = (
        "import gramcli.extraction.extract, gramcli.cache.view, gramcli\n"
        "from gramcli import extract, cache\n"
        "print(callable(extract), callable(cache.write), callable(gramcli.extract), callable(gramcli.evaluate))"
    )
    assert run(script) == "True True True True"
    assert run("import gramcli; print(callable(gramcli.cache.write))") == "True"


def test_there_is_one_version():
    project = tomllib.loads((Path(ROOT) / "pyproject.toml").read_text())
    assert "version" not in project["project"]
    assert project["project"]["dynamic"] == ["version"]
    source = Path(project["tool"]["hatch"]["version"]["path"])
    assert f'__version__ = "{gramcli.__version__}"' in (Path(ROOT) / source).read_text()


def test_modules_and_names_that_the_sources_refer_to_exist():
    missing = []
    for path in sorted(Path(ROOT, "gramcli").rglob("*.py")):
        for name in re.findall(r"(?<!`)`(gramcli(?:\.\w+)+)`(?!`)", path.read_text()):
            try:
                pkgutil.resolve_name(name)
            except (ImportError, AttributeError):
                missing.append(f"{path.name}: {name}")
    assert missing == []


def test_from_sounds_to_predictions_with_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT)
    manifest = write_set(tmp_path / "sounds", clips=2)
    values = tomllib.loads(TOML)
    values["data"]["manifest"] = str(manifest)
    done = extract(values)
    assert (done.clips, done.failed) == (24, 0)
    calibrate()
    decision, statistics = select_layers(".gramcli")
    assert set(decision.ranking.layers) <= set(statistics.layers)
    result = evaluate(context=RunContext({"run": {"device": "cpu"}}))
    assert result.clean.clips == 6
    assert evaluate(".gramcli", "validation", conditions=["gain:-6"]).conditions.keys() == {"clean", "gain:-6"}
    classifier = GramClassifier.load(context=RunContext({"run": {"device": "cpu"}}), prior={"hum": 0.5})
    (row,) = classifier.predict([manifest.parent / read_manifest(manifest)[0].file])
    assert row.label in result.classes


def test_settings_may_be_complete_or_plain(tmp_path):
    assert isinstance(Settings(), Settings)
    for act in (extract, lambda settings: train(settings, tmp_path / "w.safetensors")):
        with pytest.raises(UsageError, match=r"settings: unknown key data.manifst; did you mean 'manifest'"):
            act({"data": {"manifst": "x"}})


def test_caches_are_written_from_descriptors(tmp_path):
    count = gramcli.cache.write(
        ["a", "b"], {"l": np.ones((2, 3))}, labels=["x", "x"], splits=["train", "validation"], cache=tmp_path
    )
    assert count == 2
