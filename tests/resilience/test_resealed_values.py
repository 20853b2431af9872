"""Files of a cache and models whose digest is right and whose values nobody writes: exit code 6, or 4 for settings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gramcli.cache import decision, sealed, sealed_writer, statistics
from gramcli.cache.view import View, _with_digest
from gramcli.errors import ArtefactError, DamagedError, GramcliError
from gramcli.inference import bundle
from gramcli.inference.classifier import GramClassifier
from gramcli.maintenance.info import info
from gramcli.network import checkpoint
from gramcli.settings.configure import configure
from gramcli.settings.run_context import RunContext

NAN = float("nan")


@pytest.fixture(scope="module")
def exported(selected: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated cache with a model beside its files."""
    cache = tmp_path_factory.mktemp("resealed") / "cache"
    shutil.copytree(selected, cache)
    settings = configure(
        RunContext(), earlier=View.open(cache).recorded["settings"], metadata=checkpoint.settings_of_file
    )
    bundle.export(settings, cache, cache / "model.safetensors")
    return cache


@pytest.fixture
def cache(exported: Path, tmp_path: Path) -> Path:
    shutil.copytree(exported, tmp_path / "cache")
    return tmp_path / "cache"


def reseal(path: Path, kind: str, about: dict[str, Any], **tensors: np.ndarray) -> None:
    file = sealed.load(path, kind)
    arrays = {name: file[name].copy() for name in file.names} | {
        name.replace("__", "/"): array for name, array in tensors.items()
    }
    sealed_writer.write(path, kind, arrays, {**file.about, **about})


THRESHOLD = {"value": 1.0, "false_reject": 0.05, "groups": 20, "low": 0.01, "high": 0.1, "folder": None}


@pytest.mark.parametrize(
    "about",
    [
        {"ranking": 3}, {"ranking": "best"}, {"ranking": None}, {"top_k": 3}, {"top_k": [1]}, {"top_k": "many"},
        {"held_out": "x"}, {"held_out": 7}, {"held_out": -1}, {"chosen": True}, {"format": -1}, {"format": 0},
        {"format": True}, {"format": 1.5}, {"threshold": {**THRESHOLD, "groups": 2.5}},
        {"threshold": {**THRESHOLD, "groups": True}}, {"threshold": {**THRESHOLD, "groups": 0}},
        {"threshold": {**THRESHOLD, "false_reject": 2}}, {"threshold": {**THRESHOLD, "false_reject": 5e-324}},
        {"threshold": {**THRESHOLD, "low": 0.5}},
        {"threshold": {**THRESHOLD, "value": True}}, {"threshold": {**THRESHOLD, "x": 1}}, {"threshold": 5},
        {"order": [1, 2]}, {"held_out": NAN}, {"format": NAN}, {"sharpness": NAN},
    ], ids=str,
)  # fmt: skip
def test_fields_of_a_decision(cache: Path, about: dict[str, Any]) -> None:
    reseal(cache / decision.FILE, "decision", about)
    with pytest.raises(DamagedError, match=r"decision\.safetensors: ") as caught:
        decision.load(cache, statistics.load(cache))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("epsilon", [5e-324, 1e-31, 1e300, 0.0, -1.0, "0.05", True, None])
def test_epsilon_of_statistics_and_of_a_model(cache: Path, epsilon: Any) -> None:
    reseal(cache / statistics.FILE, "statistics", {"epsilon": epsilon})
    with pytest.raises(DamagedError, match=r"statistics\.safetensors: "):
        statistics.load(cache)
    reseal(cache / "model.safetensors", "model", {"epsilon": epsilon})
    with pytest.raises(DamagedError, match=r"model\.safetensors: "):
        bundle.from_file(cache / "model.safetensors")


@pytest.mark.parametrize("name", ["scores", "accuracy"])
@pytest.mark.parametrize("shape", [(0,), (2,), (7, 1), ()])
def test_shapes_of_a_decision(cache: Path, name: str, shape: tuple[int, ...]) -> None:
    reseal(cache / decision.FILE, "decision", {}, **{name: np.zeros(shape)})
    with pytest.raises(DamagedError, match=r"decision\.safetensors: "):
        decision.load(cache, statistics.load(cache))


@pytest.mark.parametrize(
    "settings",
    [
        {"segment": {"seconds": 1e308}}, {"frontend": {"n_fft": 10**9}}, {"frontend": {"n_mels": 10**9}},
        {"frontend": {"sample_rate": 10**12}}, {"run": {"precision": "x"}}, {"x": {}}, {"network": 3},
        {"network": {"x": 1}}, {"segment": {"seconds": 86_400}}, 3, [1], None,
    ], ids=str,
)  # fmt: skip
def test_settings_of_a_model_and_of_a_cache(cache: Path, settings: Any) -> None:
    reseal(cache / "model.safetensors", "model", {"settings": settings})
    with pytest.raises(DamagedError, match=r"model\.safetensors: "):
        GramClassifier.load(cache / "model.safetensors")
    rewrite(cache, recorded={"settings": settings})
    with pytest.raises((ArtefactError, DamagedError), match=r"view\.json: ") as caught:
        GramClassifier.load(cache)
    assert "\n" not in str(caught.value)


def rewrite(cache: Path, **changes: dict[str, Any]) -> None:
    """Changes fields of the clean view's identity or records, with a right digest."""
    path = cache / "views" / "clean" / "view.json"
    content = json.loads(path.read_bytes())
    del content["sha256"]
    for part, values in changes.items():
        content[part] |= values
    path.write_bytes(_with_digest(content))


@pytest.mark.parametrize(
    "identity",
    [
        {"layers": [["a", True]]}, {"layers": [["a", 2**40]]}, {"head": "none", "outputs": True}, {"outputs": [1]},
        {"head": "none", "outputs": -1}, {"with_means": "yes"}, {"precision": 3}, {"architecture": None},
        {"x": [[[[[[[[[]]]]]]]] * 1, "deep", [0]]} | {"y": json.loads("[" * 70 + "]" * 70)},
    ], ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_identities(cache: Path, identity: dict[str, Any]) -> None:
    rewrite(cache, identity=identity)
    with pytest.raises(DamagedError, match=r"view\.json: is damaged"):
        View.open(cache)
    known = sealed.load(cache / "model.safetensors", "model").about["identity"]
    reseal(cache / "model.safetensors", "model", {"identity": {**known, **identity}})
    with pytest.raises(DamagedError, match=r"model\.safetensors: "):
        bundle.from_file(cache / "model.safetensors")


@pytest.mark.parametrize("recorded", [{"folder": 5}, {"versions": [1]}, {"settings": {"run": 3}}], ids=str)
def test_records(cache: Path, recorded: dict[str, Any]) -> None:
    rewrite(cache, recorded=recorded)
    with pytest.raises(DamagedError, match=r"view\.json: is damaged"):
        View.open(cache)


@pytest.mark.parametrize(("recorded", "told"), [({}, "extra"), ({"condition": 1}, "1")])
def test_a_view_without_a_condition_is_described(cache: Path, recorded: dict[str, Any], told: str) -> None:
    content = json.loads((cache / "views" / "clean" / "view.json").read_bytes())
    del content["sha256"]
    content["recorded"] |= recorded
    (cache / "views" / "extra").mkdir()
    (cache / "views" / "extra" / "view.json").write_bytes(_with_digest(content))
    assert info(cache)["conditions"] == told


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "9" * 50, "[" * 900 + "]" * 900])
def test_what_is_no_json_anybody_writes(cache: Path, number: str) -> None:
    path = cache / "views" / "clean" / "view.json"
    path.write_text(path.read_text().replace('"precision": "fp32"', f'"precision": {number}'))
    with pytest.raises(DamagedError, match=r"view\.json: is damaged"):
        View.open(cache)


@pytest.mark.parametrize("value", [NAN, 1e300, True, 1 + 2j])
def test_weights_of_a_model_pass_the_checks_of_a_checkpoint(cache: Path, value: Any) -> None:
    path = cache / "model.safetensors"
    name = next(name for name in sealed.load(path, "model").names if name.endswith("conv1.weight"))
    shape = sealed.load(path, "model")[name].shape
    if isinstance(value, complex):
        value = np.array(7, np.int64)
    reseal(path, "model", {}, **{name.replace("/", "__"): np.full(shape, value)})
    with pytest.raises(GramcliError, match=r"does not fit the network: 1 (not finite|of another kind): ") as caught:
        GramClassifier.load(path)
    assert caught.value.exit_code == 4
