from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gramcli.errors import ArtefactError, GramcliError, NoInputError, UnsafeError
from gramcli.network import checkpoint
from gramcli.settings import sources
from tests.support import toys

ABOUT = {
    "architecture": "toys:ResNet",
    "args": {"inplace": False},
    "classes": ["dog", "rain"],
    "frontend": {"mean": -15.5, "f_max": "nyquist"},
    "segment": {"seconds": 5},
    "training": "said here for people",
}


@pytest.fixture
def network() -> nn.Module:
    return toys.make(toys.ResNet)


def stored(path: Path, network: nn.Module, about: Any = None) -> Path:
    text = about if isinstance(about, str) else json.dumps(about)
    save_file(network.state_dict(), path, metadata=None if about is None else {"gramcli": text})
    return path


def test_metadata_becomes_settings(tmp_path: Path, network: nn.Module) -> None:
    path = stored(tmp_path / "net.safetensors", network, ABOUT)
    assert checkpoint.metadata(path) == ABOUT
    source = checkpoint.settings_of_file(path)
    assert source.origin == "net.safetensors"
    found = sources.resolve(source)
    assert (found.network.name, found.network.classes) == ("toys:ResNet", ("dog", "rain"))
    assert found.network.args == {"in_chans": 1, "inplace": False}
    assert (found.frontend.mean, found.segment.seconds) == (-15.5, 5)


def test_no_metadata(tmp_path: Path, network: nn.Module) -> None:
    plain = stored(tmp_path / "net.bin", network)
    torch.save(network.state_dict(), tmp_path / "net.pt")
    for path in (plain, tmp_path / "net.pt"):
        assert checkpoint.metadata(path) == {}
        assert sources.resolve(checkpoint.settings_of_file(path)) == sources.resolve()


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ("{", "gramcli metadata is not JSON"),
        ("[1]", "is not a JSON object"),
        ({"frontend": {"nmels": 3}}, r"unknown key frontend.nmels; did you mean 'n_mels'\? \(gramcli metadata of "),
        ({"segment": {"seconds": -1}}, "segment.seconds must be above 0"),
        ({"classes": 4}, "network.classes must be a list of names"),
    ],
)
def test_metadata_that_says_nonsense(tmp_path: Path, network: nn.Module, about: Any, message: str) -> None:
    path = stored(tmp_path / "net.safetensors", network, about)
    with pytest.raises(ArtefactError, match=message):
        checkpoint.settings_of_file(path)


def test_metadata_needs_no_torch(tmp_path: Path, network: nn.Module) -> None:
    path = stored(tmp_path / "net.safetensors", network, ABOUT)
    script = """
import sys
from pathlib import Path
from gramcli.network import checkpoint
assert checkpoint.settings_of_file(Path(sys.argv[1])).values
assert not {"torch", "timm"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", script, path], check=True, cwd=Path(__file__).parents[2])


WRAPPED: list[Callable[[dict[str, Any]], Any]] = [
    lambda state: state,
    lambda state: {"state_dict": state, "epoch": 3},
    lambda state: {"model": {"state_dict": state}},
    lambda state: {"epoch": 3, "model_state_dict": {f"module.{name}": one for name, one in state.items()}},
    lambda state: {f"module._orig_mod.{name}": one for name, one in state.items()},
    lambda state: {"state_dict": {f"model._orig_mod.{name}": one for name, one in state.items()}},
    lambda state: {"net": {name: one.half() if one.dim() > 1 else one for name, one in state.items()}},
    lambda state: {name: one for name, one in state.items() if "num_batches_tracked" not in name},
]


@pytest.mark.parametrize("wrap", WRAPPED)
def test_state_dicts_of_all_kinds(tmp_path: Path, network: nn.Module, wrap: Callable[..., Any]) -> None:
    torch.save(wrap(network.state_dict()), tmp_path / "net.pt")
    other = toys.ResNet()
    checkpoint.load_into(other, checkpoint.read(tmp_path / "net.pt").weights(), tmp_path / "net.pt")
    for name, one in network.state_dict().items():
        found = other.state_dict()[name]
        assert found.dtype == one.dtype
        assert torch.equal(found, one) or torch.equal(found, one.half().float())


def test_safetensors_are_known_by_content(tmp_path: Path, network: nn.Module) -> None:
    state = checkpoint.read(stored(tmp_path / "net.pth", network)).weights()
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(one, network.state_dict()[name]) for name, one in state.items())


def test_a_prefix_that_belongs_to_the_network_stays(tmp_path: Path) -> None:
    inside = nn.Module()
    inside.model = toys.make(toys.ResNet)
    other = nn.Module()
    other.model = toys.ResNet()
    checkpoint.load_into(other, inside.state_dict(), tmp_path)
    assert checkpoint.state_digest(other) == checkpoint.state_digest(inside)


def test_what_does_not_fit_is_listed(network: nn.Module) -> None:
    before = checkpoint.state_digest(network)
    state = dict(network.state_dict())
    for name in [name for name in state if name.startswith("layer1.1.conv")]:
        del state[name]
    state |= {"fc.weight": torch.zeros(10, 8), "odd\n": torch.zeros(1)}
    with pytest.raises(ArtefactError) as caught:
        checkpoint.load_into(network, state, Path("some") / "net.pt")
    assert str(caught.value) == (
        "some/net.pt: does not fit the network: 6 missing: layer1.1.conv1.weight, layer1.1.conv1.bias, "
        "layer1.1.conv2.weight, layer1.1.conv2.bias, layer1.1.conv3.weight, …; 1 extra: odd\\n; "
        "1 misshapen: fc.weight (10, 8) for (3, 8); check network.name, network.args and network.classes"
    )
    assert checkpoint.state_digest(network) == before


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("evil"),)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "what", [Evil(), toys.ResNet(), {"state_dict": {"a": torch.zeros(1)}, "hyper": Path("x")}, print]
)
def test_what_could_run_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: object, legacy: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(what, "net.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UnsafeError, match=r"net.pt: holds \S+, which could run code and is not loaded") as caught:
        checkpoint.read(Path("net.pt")).weights()
    assert "\n" not in str(caught.value)
    assert not Path("evil").exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("no checkpoint at all"),
        lambda path: path.write_bytes(b"\x10\0\0\0\0\0\0\0{not json      }"),
        lambda path: path.write_bytes(b"\xff" * 8 + b"{" + b" " * 50),
        lambda path: (save_file({"a": torch.zeros(99)}, path), cut(path)),
        lambda path: (torch.save({"a": torch.zeros(999)}, path), cut(path)),
        lambda path: torch.save({"epoch": 3}, path),
        lambda path: torch.save([torch.zeros(1)], path),
        lambda path: torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), path),
    ],
)
def test_what_is_no_checkpoint(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    path = tmp_path / "net.pt"
    damage(path)
    with pytest.raises(ArtefactError, match=r"net.pt: (is no|holds no)") as caught:
        checkpoint.read(path).weights()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "read", [checkpoint.read, checkpoint.metadata, checkpoint.settings_of_file, checkpoint.identify]
)
def test_what_cannot_be_read(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing\n.pt", "", "pipe", "nul\0"):
        path = tmp_path / name
        with pytest.raises(
            NoInputError,
            match=r"cannot be read: No such|is a (pipe|folder), not a file; name a|is not a valid file name",
        ) as caught:
            read(path)
        assert isinstance(caught.value, GramcliError)
        assert "\n" not in str(caught.value)


def bomb(path: Path) -> None:
    """An archive of zeros that unpacks to a thousand times its size."""
    torch.save({"a": torch.zeros(1 << 20)}, path)
    with zipfile.ZipFile(path) as archive:
        content = {one.filename: archive.read(one) for one in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def doubled(path: Path) -> None:
    torch.save({"a": torch.zeros(9)}, path)
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings(action="ignore"):
        archive.writestr(archive.infolist()[0].filename, b"other")


@pytest.mark.parametrize("make", [bomb, doubled])
def test_an_archive_that_is_not_what_torch_writes_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "net.pt")
    with pytest.raises(UnsafeError, match=r"net\.pt: unpacks to \d+ bytes from \d+, or to files of one name"):
        checkpoint.read(tmp_path / "net.pt").weights()


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(4).to_sparse(),
        torch.ones(1).expand(1 << 40),
        torch.empty(3, device="meta"),
    ],
    ids=["sparse", "expanded", "meta"],
)
def test_tensors_that_are_not_dense_are_refused(tmp_path: Path, tensor: Tensor) -> None:
    torch.save({"a": tensor}, tmp_path / "net.pt")
    with pytest.raises(ArtefactError, match=r"net\.pt: (a is no dense tensor|is no checkpoint)"):
        checkpoint.read(tmp_path / "net.pt").weights()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(network: nn.Module, value: float) -> None:
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state["fc.weight"][1, 2] = value
    with pytest.raises(ArtefactError, match=r"does not fit the network: 1 not finite: fc\.weight"):
        checkpoint.load_into(network, state, Path("net.pt"))


def test_digests(tmp_path: Path, network: nn.Module) -> None:
    path = stored(tmp_path / "net.safetensors", network)
    assert checkpoint.identify(path)[0] == hashlib.sha256(path.read_bytes()).hexdigest()
    digest = checkpoint.state_digest(network)
    assert digest == checkpoint.state_digest(toys.make(toys.ResNet))
    network.to(memory_format=torch.channels_last)
    assert checkpoint.state_digest(network) == digest
    with torch.no_grad():
        network.fc.bias[0] += 1e-6
    assert checkpoint.state_digest(network) != digest
    assert checkpoint.state_digest(network.bfloat16()) != digest


@pytest.mark.parametrize("text", ['{"args": ' + "9" * 5000 + "}", "[" * 100_000], ids=["digits", "depth"])
def test_metadata_that_json_gives_up_on(tmp_path: Path, network: nn.Module, text: str) -> None:
    save_file(network.state_dict(), tmp_path / "net.safetensors", {"gramcli": text})
    with pytest.raises(ArtefactError, match=r"net\.safetensors: its gramcli metadata is not JSON") as caught:
        checkpoint.settings_of_file(tmp_path / "net.safetensors")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [1, 2])
def test_a_state_dict_that_holds_itself_is_refused(tmp_path: Path, length: int) -> None:
    first: dict[str, Any] = {"epoch": 3}
    last = first
    for _ in range(length - 1):
        last["state_dict"] = {}
        last = last["state_dict"]
    last["state_dict"] = first
    torch.save(first, tmp_path / "net.pt")
    with pytest.raises(ArtefactError, match=r"net\.pt: its state_dict holds itself, so it has no weights: save"):
        checkpoint.read(tmp_path / "net.pt").weights()
