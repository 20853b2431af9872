"""Every field of a view's identity, changed in turn: refused, named, and nothing written."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from gramcli.cache import statistics
from gramcli.cache.view import View
from gramcli.calibration.select_layers import select_layers
from gramcli.errors import ArtefactError
from gramcli.extraction.extract import extract
from gramcli.identity import fingerprint
from gramcli.inference.classifier import GramClassifier
from gramcli.network import descriptor_identity
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import FrontendSettings, SegmentSettings, Settings
from tests.support import toys
from tests.support.interruption_cases import contents
from tests.support.sets import ROOT, quick

Change = Callable[[Settings, Path], Settings]


def of(section: str, **changed: Any) -> Change:
    """Changes settings of a section."""
    return lambda before, folder: replace(before, **{section: replace(getattr(before, section), **changed)})


def weighted(before: Settings, folder: Path) -> Settings:
    save_file(toys.make(toys.ResNet).state_dict(), folder / "net.safetensors")
    return replace(before, network=replace(before.network, weights=str(folder / "net.safetensors")))


FRONTEND = {
    "kind": "waveform", "sample_rate": 8001, "n_fft": 512, "window_ms": 30.0, "hop_ms": 15.0, "n_mels": 17,
    "f_min": 50.0, "f_max": 3000.0, "mel_scale": "slaney", "norm": "slaney", "log": "ln", "amin": 1e-9, "top_db": 60.0,
    "mean": 1.0, "std": 2.0,
}  # fmt: skip
SEGMENT = {"seconds": 0.5, "pad": "repeat", "channel": 0}
WITH_OTHERS = {"architecture", "arguments.inplace", "weights", "head", "layers", "channel_dims.act1", "frontend.kind"}
"""Fields that do not change alone."""


def waveform(before: Settings, folder: Path) -> Settings:
    network = replace(before.network, name="tests.support.toys:Cnn1d")
    return replace(before, network=network, frontend=replace(before.frontend, kind="waveform"))


CHANGES: dict[str, Change] = {
    "architecture": of("network", name="tests.support.toys:DenseNet"),
    "arguments.inplace": of("network", args={"inplace": True}),
    "weights": weighted,
    "head": of("network", head="none", classes=(), args={"num_classes": 3}),
    "outputs": of("network", classes=("hum", "hiss", "click")),
    "layers": of("network", layers=("layer1.*",)),
    "channel_dims.act1": of("network", channel_dims={"act1": 1}),
    "precision": of("run", precision="bf16"),
    "with_means": of("network", with_means=True),
    **{f"frontend.{key}": of("frontend", **{key: value}) for key, value in FRONTEND.items()},
    "frontend.kind": waveform,
    **{f"segment.{key}": of("segment", **{key: value}) for key, value in SEGMENT.items()},
}
FIXED = {"format": ("FORMAT", 2), "resampler": ("RESAMPLER", "sinc")}
"""Fields that only another version of this program would change."""


def test_there_is_a_change_for_every_field(selected: Path) -> None:
    fields = set(View.open(selected).identity) | {"with_means"}
    changed = {name.partition(".")[0] for name in CHANGES} | set(FIXED)
    assert fields - {"condition"} == changed  # a condition has a view of its own
    assert set(FRONTEND) == {field.name for field in dataclasses.fields(FrontendSettings)}
    assert set(SEGMENT) == {field.name for field in dataclasses.fields(SegmentSettings)}


@pytest.mark.parametrize("field", [*CHANGES, *FIXED])
def test_a_changed_field_is_refused_named_and_writes_nothing(sounds, cache, tmp_path, monkeypatch, field):
    before, wanted = contents(cache), quick(sounds, cache)
    if field in FIXED:
        monkeypatch.setattr(descriptor_identity, *FIXED[field])
    else:
        wanted = CHANGES[field](wanted, tmp_path)
    with pytest.raises(ArtefactError, match=rf"was extracted otherwise \(.*{re.escape(field)}\S*: .* → ") as caught:
        extract(wanted, RunContext(folder=ROOT, trust_code=True))
    assert "\n" not in str(caught.value)
    assert contents(cache) == before
    if field not in WITH_OTHERS:
        assert str(caught.value).count(" → ") == 1, "only that field differs"


def store(cache: Path, identity: Mapping[str, Any]) -> None:
    """Gives the view another identity, sealed as the program seals it."""
    path = cache / "views" / "clean" / "view.json"
    content = {**json.loads(path.read_text()), "identity": identity}
    del content["sha256"]
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    text = json.dumps({**json.loads(canonical), "sha256": hashlib.sha256(canonical).hexdigest()}, indent=1)
    path.write_text(text + "\n")


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return f"{value}0"
    if isinstance(value, list):
        return value[:-1]
    if isinstance(value, Mapping):
        return {"act1": 1}
    return 1 if value is None else value + 1


def otherwise(identity: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every field, and every field of a section, by its name: each time the identity with another value of it."""
    for field, value in identity.items():
        if isinstance(value, Mapping) and value:
            for key in value:
                yield f"{field}.{key}", {**identity, field: {**value, key: other(value[key])}}
        elif field == "head":  # outputs without a meaning are a number
            yield field, {**identity, "head": "none", "outputs": len(identity["outputs"])}
        else:
            yield field, {**identity, field: other(value)}


def test_an_identity_stored_otherwise_is_refused_named_and_writes_nothing(sounds, cache):
    """Also what no setting changes; fields are those that the program stores, so a new one has its case."""
    identity = View.open(cache).identity
    tried = []
    for field, changed in otherwise({"with_means": False, **identity}):
        store(cache, changed)
        before = contents(cache)
        with pytest.raises(ArtefactError, match=rf"was extracted otherwise \(.*{re.escape(field)}\S*: .* → "):
            extract(quick(sounds, cache), RunContext(folder=ROOT))
        assert contents(cache) == before
        tried.append(field)
    assert {name.partition(".")[0] for name in tried} == set(identity) | {"with_means"}


@pytest.mark.parametrize(
    "field", ["weights", "architecture", "resampler", "precision", "segment", "frontend", "layers"]
)
def test_a_view_of_another_identity_is_refused_by_all_that_read_it(cache, tmp_path, field):
    """Identity and shards are exchanged for those of another network: statistics and decision tell."""
    stored = View.open(cache).identity
    value = stored[field]
    changed = {"segment": lambda: {**value, "pad": "repeat"}, "frontend": lambda: {**value, "std": 2.0}}
    identity = {**stored, field: changed.get(field, lambda: value[:-1])()}
    store(cache, identity)
    view = View.open(cache)
    assert view.fingerprint == fingerprint(identity)
    for read in (
        lambda: statistics.load(cache, view.fingerprint),
        lambda: select_layers(cache),
        lambda: GramClassifier.load(cache),
    ):
        with pytest.raises(ArtefactError, match="was made from other descriptors; run gramcli calibrate again"):
            read()
    with pytest.raises(ArtefactError, match="belongs to another view"):
        view.read(0)
    shutil.rmtree(cache)
