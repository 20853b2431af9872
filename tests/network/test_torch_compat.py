"""Both ways of importing torchaudio and timm, each in its own process, whichever of the two this machine needs."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2]


def run(script: str, *first: Path) -> str:
    """Runs a script with warnings as errors, the folders `first` ahead on the import path; returns what it printed."""
    path = os.pathsep.join(str(folder) for folder in (*first, PACKAGE))
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def package(folder: Path, name: str, **modules: str) -> None:
    """Writes a package; ``init`` is its ``__init__``."""
    (folder / name).mkdir(parents=True)
    for module, text in modules.items():
        (folder / name / f"{'__init__' if module == 'init' else module}.py").write_text(text)


MEL = """
import warnings
warnings.simplefilter("ignore")
from gramcli.network import torch_compat
module = torch_compat.torchaudio()
assert module is torch_compat.torchaudio()
import torch
assert module.transforms.MelSpectrogram(n_mels=16)(torch.ones(1600)).shape == (16, 9)
"""


def test_plain_torchaudio_is_left_alone(tmp_path: Path) -> None:
    package(tmp_path, "torchaudio", init="from . import _extension", _extension="_IS_TORCHAUDIO_EXT_AVAILABLE = True")
    script = """
    from gramcli.network import torch_compat
    print(torch_compat.torchaudio()._extension._IS_TORCHAUDIO_EXT_AVAILABLE)
    import sys
    assert "torch" not in sys.modules
    """
    assert run(script, tmp_path) == "True\n"


@pytest.mark.parametrize("failure", ["OSError('no such library')", "RuntimeError('made for another CUDA')"])
def test_torchaudio_without_its_compiled_part(failure: str) -> None:
    run(f"""
import importlib.abc, sys
class Fails(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torchaudio._extension":
            raise {failure}
sys.meta_path.insert(0, Fails())
{MEL}
assert not module._extension._IS_TORCHAUDIO_EXT_AVAILABLE
""")


def test_torchaudio_as_installed_here() -> None:
    run(MEL)


def test_other_failures_are_not_hidden(tmp_path: Path) -> None:
    package(tmp_path, "torchaudio", init="raise ImportError('half installed')")
    with pytest.raises(AssertionError, match="ImportError: half installed"):
        run("from gramcli.network import torch_compat\ntorch_compat.torchaudio()", tmp_path)


def test_plain_timm_is_left_alone(tmp_path: Path) -> None:
    package(tmp_path, "torchvision", init="")
    package(tmp_path, "timm", init="import torchvision")
    script = """
    from gramcli.network import torch_compat
    print(torch_compat.timm().__file__)
    import sys
    assert "torch" not in sys.modules
    assert not torch_compat._operators
    """
    assert run(script, tmp_path) == f"{tmp_path / 'timm' / '__init__.py'}\n"


FORWARD = """
from gramcli.network import torch_compat
module = torch_compat.timm()
assert module is torch_compat.timm()
import torch
with torch.inference_mode():
    network = module.create_model("test_resnet.r160_in1k", in_chans=1, num_classes=3).eval()
    assert network(torch.zeros(1, 1, 64, 64)).shape == (1, 3)
"""


def test_timm_without_the_operators_of_torchvision() -> None:
    run(f"""
import torch
def missing(path):
    raise OSError(path)
torch.ops.load_library = missing
{FORWARD}
assert torch_compat._operators
""")


def test_timm_as_installed_here() -> None:
    run(FORWARD)


def test_importing_gramcli_imports_neither() -> None:
    run("import gramcli.network.torch_compat, sys\nassert not {'torch', 'torchaudio', 'timm'} & sys.modules.keys()")
