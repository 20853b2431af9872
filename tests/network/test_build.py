from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gramcli.errors import ArtefactError, NoInputError, UsageError
from gramcli.network import checkpoint, torch_compat
from gramcli.network.build import build
from gramcli.progress import Progress, Silent
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import NetworkSettings

FACTORIES = """
from torch import nn

def narrow(num_classes, width=4):
    return nn.Sequential(nn.Linear(width, num_classes))

def wide(num_classes, in_chans, **others):
    module = nn.Conv2d(in_chans, num_classes, 3)
    module.others = others
    return module

def none(num_classes):
    return None

def fails(num_classes):
    raise KeyError("first line\\nsecond line")

class Own(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.dropout, self.fc = nn.Dropout(), nn.Linear(2, num_classes)

number = 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with factories that no import path leads to."""
    package = tmp_path / "mynets"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "factories.py").write_text(FACTORIES)
    (tmp_path / "broken_net.py").write_text("1 / 0")
    (tmp_path / "needy_net.py").write_text("import no_such_library_anywhere")
    return tmp_path


def made(folder: Path, name: str, outputs: int | None = 3, **arguments: Any) -> Any:
    network = NetworkSettings(name=f"mynets.factories:{name}", args={"in_chans": 1, **arguments})
    return build(network, outputs, 0, named(network, folder))


def named(network: NetworkSettings, folder: Path, progress: Progress | None = None) -> RunContext:
    """Returns the context of a user who has named the network."""
    values = {"args": network.args, **({} if network.name is None else {"name": network.name})}
    return RunContext({"network": values}, folder=folder, progress=progress or Silent())


def test_a_timm_network_of_random_weights() -> None:
    state = torch.random.get_rng_state()
    one, same, other = (build(NetworkSettings(name="test_resnet"), 3, seed, RunContext()) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert one.weights == same.weights != other.weights
    assert one.weights == checkpoint.state_digest(one.module)
    assert (one.architecture, one.arguments, one.outputs) == ("test_resnet", {"in_chans": 1}, 3)
    assert not any(module.training for module in one.module.modules())
    with torch.no_grad():
        assert one.module(torch.zeros(2, 1, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_outputs_of_a_timm_network_from_its_checkpoint(tmp_path: Path, prefix: str) -> None:
    network = torch_compat.timm().create_model("test_resnet", in_chans=1, num_classes=7)
    torch.save({f"{prefix}{name}": one for name, one in network.state_dict().items()}, tmp_path / "net.pt")
    built = build(NetworkSettings(name="test_resnet", weights=str(tmp_path / "net.pt")), None, 0, RunContext())
    assert built.outputs == 7
    assert built.weights == checkpoint.identify(tmp_path / "net.pt")[0]
    assert checkpoint.state_digest(built.module) == checkpoint.state_digest(network)
    with pytest.raises(ArtefactError, match=r"fc.weight \(7, \d+\) for \(3, \d+\)"):
        build(NetworkSettings(name="test_resnet", weights=str(tmp_path / "net.pt")), 3, 0, RunContext())


def test_outputs_from_the_arguments(folder: Path) -> None:
    assert made(folder, "narrow", None, num_classes=5).outputs == 5
    assert made(folder, "narrow", 5, num_classes=5).arguments == {}
    with pytest.raises(UsageError, match=r"num_classes = 5 contradicts the 4 classes of network\.classes or"):
        made(folder, "narrow", 4, num_classes=5)
    with pytest.raises(UsageError, match="num_classes must be a whole number above 0, not 'many'"):
        made(folder, "narrow", None, num_classes="many")


@pytest.mark.parametrize("name", ["mynets.factories:narrow", "test_resnet"])
def test_outputs_that_nobody_knows(folder: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: its number of outputs is not known; give --arg num_classes=N"):
        build(NetworkSettings(name=name), None, 0, named(NetworkSettings(name=name), folder))


def test_a_factory(folder: Path) -> None:
    path = list(sys.path)
    built = made(folder, "narrow", 3, width=6)
    assert (built.module[0].in_features, built.module[0].out_features) == (6, 3)
    assert (built.architecture, built.arguments, built.outputs) == ("mynets.factories:narrow", {"width": 6}, 3)
    assert sys.path == path


def test_a_class_is_a_factory(folder: Path) -> None:
    built = made(folder, "Own")
    assert built.module.fc.out_features == 3
    assert not built.module.dropout.training


def test_in_chans_goes_where_it_is_taken(folder: Path) -> None:
    wide = made(folder, "wide", pad="same")
    assert wide.arguments == {"in_chans": 1, "pad": "same"}
    assert wide.module.others == {"pad": "same"}
    with pytest.raises(UsageError, match=r"cannot be built with {'in_chans': 2}: TypeError"):
        made(folder, "narrow", in_chans=2)


def test_weights_of_a_factory(folder: Path) -> None:
    torch.save(nn.Sequential(nn.Linear(4, 3)).state_dict(), folder / "net.pt")
    network = NetworkSettings(name="mynets.factories:narrow", weights=str(folder / "net.pt"))
    assert torch.equal(
        build(network, 3, 0, named(network, folder)).module[0].weight, torch.load(folder / "net.pt")["0.weight"]
    )
    with pytest.raises(NoInputError, match=r"other.pt: cannot be read"):
        build(replace(network, weights=str(folder / "other.pt")), 3, 0, named(network, folder))


def test_each_folder_has_its_own_module(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert made(folder, "narrow").module[0].in_features == 4
    other = tmp_path_factory.mktemp("other")
    (other / "mynets").mkdir()
    (other / "mynets" / "__init__.py").write_text("")
    (other / "mynets" / "factories.py").write_text(FACTORIES.replace("width=4", "width=9"))
    assert made(other, "narrow").module[0].in_features == 9
    assert made(folder, "narrow").module[0].in_features == 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet5", "timm has no 'resnet5'; did you mean .*resnet50"),
        ("zzzzzz", "timm has no 'zzzzzz'; name a network of your own as package.module:factory"),
        ("hf-hub:timm/resnet18", "is no factory; name it as package.module:function"),
        ("mynets.missing:make", "there is no module 'mynets.missing'"),
        ("needy_net:make", "there is no module 'no_such_library_anywhere'"),
        ("broken_net:make", "broken_net:make: ZeroDivisionError: division by zero"),
        ("mynets.factories:missing", "the module has no 'missing'"),
        ("mynets.factories:number", "is not a function or class"),
        (":make", "network.name"),
        ("mynets.factories:none", "returned NoneType, not a torch.nn.Module"),
        ("mynets.factories:fails", r"fails: cannot be built with {}: KeyError: .first line"),
        (None, "no network given; name it with --network"),
    ],
)
def test_networks_that_cannot_be_made(folder: Path, name: str | None, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        build(NetworkSettings(name=name), 3, 0, named(NetworkSettings(name=name), folder))
    assert caught.match(message)
    assert "\n" not in str(caught.value)


def test_arguments_that_timm_does_not_take() -> None:
    network = NetworkSettings(name="test_resnet", args={"in_chans": 1, "colour": 3})
    with pytest.raises(UsageError, match=r"test_resnet: cannot be built with .*'colour': 3.*: TypeError"):
        build(network, 3, 0, named(network, Path()))


def test_whose_code_ran_is_said(folder: Path) -> None:
    network, progress = NetworkSettings(name="mynets.factories:fails"), Warnings()
    with pytest.raises(UsageError):
        build(network, 3, 0, named(network, folder, progress))
    (note,) = progress.warnings
    place = folder / "mynets" / "factories.py"
    assert note == f"running the code of {place} (network.name = mynets.factories:fails, named by you)"
    build(NetworkSettings(name="test_resnet"), 3, 0, named(NetworkSettings(name="test_resnet"), folder, progress))
    assert len(progress.warnings) == 1


class Warnings(Silent):
    """Keeps what must be shown."""

    def __init__(self) -> None:
        super().__init__()
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)
