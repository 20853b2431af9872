"""Code of a project: found by its location, run from the bytes that were hashed, and never in place of a library."""

from __future__ import annotations

import json
import os
import py_compile
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from gramcli.errors import ArtefactError, UnsafeError, UsageError
from gramcli.network import remembered_code
from gramcli.network.build import build
from gramcli.network.code_trust import CodeOrigin, Verdict
from gramcli.network.module_files import ModuleFiles
from gramcli.network.permission import Permission
from gramcli.progress import Silent
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import NetworkSettings

MAKE = "from torch import nn\ndef make(num_classes, width=4):\n    return nn.Linear(width, num_classes)\n"


class Warnings(Silent):
    """Keeps what must be shown."""

    def __init__(self) -> None:
        super().__init__()
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project's folder, with a user's configuration beside it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "project").mkdir()
    yield tmp_path / "project"
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def made(
    folder: Path, name: str, *, named: bool = False, origin: CodeOrigin | None = None,
    args: Mapping[str, Any] | None = None, progress: Silent | None = None, **trust: bool,
) -> nn.Module:  # fmt: skip
    own = {"network": {"name": name}} if named else {}
    context = RunContext(own, folder=folder, progress=progress or Silent(), **trust)
    return build(NetworkSettings(name=name, args=args or {}), 3, 0, context, origin).module


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def test_named_trusted_or_refused(folder: Path) -> None:
    write(folder / "net.py", MAKE)
    progress = Warnings()
    with pytest.raises(UnsafeError, match=r"network\.name = net:make .*: is not built"):
        made(folder, "net:make", progress=progress)
    assert progress.warnings == []
    assert isinstance(made(folder, "net:make", named=True), nn.Linear)
    assert isinstance(made(folder, "net:make", trust_code=True, progress=progress), nn.Linear)
    assert progress.warnings[0].startswith(
        f"running the code of {folder / 'net.py'} (network.name = net:make, named by"
    )
    assert not (folder / "__pycache__").exists()


def test_other_modules_of_the_project_are_importable(folder: Path) -> None:
    write(folder / "nets" / "__init__.py", "from .parts import WIDTH\n")
    write(folder / "nets" / "parts.py", "WIDTH = 5\n")
    write(folder / "helper_of_nets" / "deep.py", "def late():\n    import last_of_nets\n    return last_of_nets.BIAS\n")
    write(folder / "last_of_nets.py", "BIAS = False\n")
    body = "from . import WIDTH\nfrom helper_of_nets.deep import late\nfrom torch import nn\n"
    write(folder / "nets" / "big.py", body + "def make(n):\n    return nn.Linear(WIDTH, n, bias=late())\n")
    path, finders = list(sys.path), list(sys.meta_path)
    module = made(folder, "nets.big:make", named=True)
    assert (module.in_features, module.bias) == (5, None)
    assert (sys.path, sys.meta_path) == (path, finders)
    assert not list(folder.rglob("__pycache__"))


def test_compiled_files_of_the_folder_are_not_read(folder: Path) -> None:
    write(folder / "net.py", "raise SystemExit('compiled')\n")
    write(folder / "pkg" / "other.py", "raise SystemExit('compiled')\n")
    for path in (folder / "net.py", folder / "pkg" / "other.py"):
        py_compile.compile(str(path), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    (folder / "pkg" / "other.py").rename(folder / "pkg" / "gone.py")
    py_compile.compile(str(folder / "pkg" / "gone.py"), str(folder / "pkg" / "bare.pyc"))
    write(folder / "net.py", MAKE)
    write(folder / "pkg" / "__init__.py", "import pkg.bare\n" + MAKE)
    assert isinstance(made(folder, "net:make", named=True), nn.Linear)
    with pytest.raises(UsageError, match=r"there is no module 'pkg\.bare'"):
        made(folder, "pkg:make", named=True)


def test_code_is_announced_also_where_nobody_follows_the_progress(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder / "net.py", MAKE)
    made(folder, "net:make", trust_code=True)
    assert [one.getMessage().partition(" (")[0] for one in caplog.records] == [
        f"running the code of {folder / 'net.py'}"
    ]


def test_what_has_no_python_files_is_not_remembered(folder: Path) -> None:
    write(folder / "net.py", MAKE)
    progress = Silent()
    made(folder, "net:make", remember_code=True, progress=progress)
    assert progress.notes[0].endswith("now lists net:make as trusted; delete its entry there to be asked again")
    files = ModuleFiles((folder / "compiled.so",))
    Permission("compiled:make", {}, Verdict.NAMED, files=files).remember(progress)
    assert (
        progress.notes[1] == "compiled:make: is compiled or part of Python, so that you trust it cannot be remembered"
    )
    assert remembered_code.files("compiled:make", {}, progress.warn) is None


@pytest.mark.parametrize("module", ["json", "typer", "sympy", "timm", "gramcli"])
def test_the_name_of_an_installed_module_is_refused(folder: Path, module: str) -> None:
    write(folder / f"{module}.py", MAKE)
    with pytest.raises(UsageError, match=f"has the same name as the installed module '{module}'.*rename it"):
        made(folder, f"{module}:make", named=True)
    assert "make" not in vars(sys.modules.get(module, sys))


def test_an_installed_module_wins_over_one_of_the_project(folder: Path) -> None:
    write(folder / "json.py", "raise SystemExit('shadowed')\n")
    write(folder / "wave.py", "raise SystemExit('shadowed')\n")
    sys.modules.pop("wave", None)
    write(folder / "net.py", "import json, wave\nassert wave.open and json.loads\n" + MAKE)
    assert isinstance(made(folder, "net:make", named=True), nn.Linear)


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    write(folder.parent / "outside.py", MAKE)
    (folder / "net.py").symlink_to(folder.parent / "outside.py")
    (folder / "pkg").symlink_to(folder.parent)
    for name in ("net:make", "pkg.outside:make"):
        with pytest.raises(UnsafeError, match="which is not under the project's folder"):
            made(folder, name, trust_code=True)
    write(folder / "real.py", MAKE)
    (folder / "inner.py").symlink_to("real.py")
    assert isinstance(made(folder, "inner:make", named=True), nn.Linear)


def test_trust_covers_the_project_and_not_what_is_installed(folder: Path) -> None:
    for name in ("sympy:limit", "os:system", "torch.nn:Linear"):
        with pytest.raises(UnsafeError, match=r"is installed and not in the project.*--network"):
            made(folder, name, trust_code=True)
    assert isinstance(made(folder, "torch.nn:Linear", named=True, args={"out_features": 2}), nn.Linear)
    with pytest.raises(UsageError, match=r"there is no module 'nowhere' in .*, nor is it installed; check the name"):
        made(folder, "nowhere:make", trust_code=True)
    with pytest.raises(UsageError, match="there is no module"):
        made(folder, "a" * 300 + ":make", trust_code=True)


def test_a_refusal_names_only_what_would_help(folder: Path) -> None:
    for name in ("sympy:limit", "os:system", "torch.nn:Linear"):
        with pytest.raises(UnsafeError, match=r"code of an installed package: .*, name it yourself: --network") as told:
            made(folder, name)
        assert "--trust-code" not in str(told.value)
    write(folder / "net.py", MAKE)
    for name in ("net:make", "nowhere:make", "a" * 300 + ":make"):
        with pytest.raises(UnsafeError, match="would run code: if you trust that code, give --trust-code"):
            made(folder, name)


def test_the_users_own_name_does_not_run_the_code_beside_a_strangers_model(folder: Path) -> None:
    stranger = folder.parent / "stranger"
    write(stranger / "net.py", "raise SystemExit('stranger')\n")
    origin = CodeOrigin("the model m", stranger)
    told = (
        "there is no module 'net' .*; check the name, copy its .py file there, or give --trust-code, which also looks"
    )
    with pytest.raises(UsageError, match=told):
        made(folder, "net:make", named=True, origin=origin)
    with pytest.raises(UsageError, match=r"copy its \.py file there, or give --config in the folder that holds it"):
        made(folder, "net:make", named=True, origin=CodeOrigin("the cache c"))
    write(folder / "net.py", MAKE)
    assert isinstance(made(folder, "net:make", named=True, origin=origin), nn.Linear)
    with pytest.raises(UsageError, match="SystemExit: stranger"):
        made(folder, "net:make", trust_code=True, origin=origin)


def test_only_functions_and_classes_are_called(folder: Path) -> None:
    write(folder / "net.py", "from os import system\nfrom functools import partial\nmake = partial(print)\n")
    for name in ("net:system", "net:make"):
        with pytest.raises(UsageError, match="is not a function or class"):
            made(folder, name, named=True)
    with pytest.raises(UsageError, match="is no factory"):
        made(folder, "net:__builtins__", named=True)


def test_what_is_remembered_holds_for_this_code_and_these_arguments(folder: Path) -> None:
    write(folder / "net.py", "import part_of_net\n" + MAKE)
    write(folder / "part_of_net.py", "")
    made(folder, "net:make", args={"width": 5}, remember_code=True)
    where = folder.parent / "config" / "gramcli" / "trusted-code.json"
    assert remembered_code.path() == where
    (entry,) = json.loads(where.read_bytes())["trusted"]
    assert (entry["network"], entry["args"], sorted(entry["files"])) == (
        "net:make", {"width": 5}, ["net.py", "part_of_net.py"]
    )  # fmt: skip
    assert made(folder, "net:make", args={"width": 5}).in_features == 5
    with pytest.raises(UnsafeError):
        made(folder, "net:make", args={"width": 6})
    write(folder / "part_of_net.py", "x = 1\n")
    made(folder, "net:make", args={"width": 5}, trust_code=True)
    with pytest.raises(UnsafeError, match=r"part_of_net\.py: has changed since you trusted it"):
        made(folder, "net:make", args={"width": 5})
    write(folder / "part_of_net.py", "")
    write(folder / "net.py", "import part_of_net\n\n" + MAKE)
    with pytest.raises(UnsafeError, match=r"net\.py: has changed since you trusted it, .*--always-trust-code again"):
        made(folder, "net:make", args={"width": 5})
    made(folder, "net:make", args={"width": 5}, trust_code=True)
    write(folder / "new_of_net.py", "")
    write(folder / "part_of_net.py", "import new_of_net\n")
    made(folder, "net:make", args={"width": 5}, remember_code=True)
    (entry,) = json.loads(where.read_bytes())["trusted"]
    del entry["files"]["new_of_net.py"]  # as if it had come later
    where.write_text(json.dumps({"format": 1, "trusted": [entry]}))
    with pytest.raises(
        UnsafeError, match=r"new_of_net\.py: is imported by code that you trust, but was not there when"
    ):
        made(folder, "net:make", args={"width": 5})
    made(folder, "net:make", args={"width": 5}, remember_code=True)
    assert len(json.loads(where.read_bytes())["trusted"]) == 1


def test_an_installed_factory_and_arguments_of_timm_are_remembered(folder: Path) -> None:
    args = {"out_features": 2}
    made(folder, "torch.nn:Linear", named=True, args=args, remember_code=True)
    assert isinstance(made(folder, "torch.nn:Linear", args=args), nn.Module)
    made(folder, "test_resnet", args={"act_layer": "relu", "scriptable": False}, remember_code=True)
    made(folder, "test_resnet", args={"act_layer": "relu", "scriptable": False})
    with pytest.raises(UnsafeError):
        made(folder, "test_resnet", args={"scriptable": True})


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("link", "is a link, which is not followed"),
        ("damaged", "cannot be read as JSON"),
        ("pipe", "is a pipe and not a file"),
        ("other", "has format 2, and this gramcli reads format 1"),
        ("entry", "is no list of trusted code as gramcli writes it"),
        ("deep", "cannot be read as JSON"),
    ],
)
def test_a_list_that_cannot_be_read_trusts_nothing_and_is_not_replaced(folder: Path, fault: str, message: str) -> None:
    write(folder / "net.py", MAKE)
    made(folder, "net:make", remember_code=True)
    where = folder.parent / "config" / "gramcli" / "trusted-code.json"
    content = where.read_text()
    where.unlink()
    if fault == "link":
        write(folder / "list.json", content)
        where.symlink_to(folder / "list.json")
    elif fault == "pipe":
        os.mkfifo(where)
    else:
        other = content.replace('"format": 1', '"format": 2')
        changed = {"damaged": content[:-9], "other": other, "entry": content.replace('"files"', '"f"')}
        where.write_text(changed.get(fault, "[" * 10_000))
    before, progress = os.lstat(where), Warnings()
    with pytest.raises(UnsafeError):
        made(folder, "net:make", progress=progress)
    assert progress.warnings == [f"{where}: {message}, so nothing in it is trusted; correct it"]
    with pytest.raises(ArtefactError, match=rf"{message}, so nothing is added to it; .* run the same command again"):
        made(folder, "net:make", remember_code=True)
    assert os.lstat(where).st_ino == before.st_ino


def test_without_the_flag_nothing_is_remembered(folder: Path) -> None:
    write(folder / "net.py", MAKE)
    made(folder, "net:make", named=True)
    made(folder, "net:make", trust_code=True)
    made(folder, "test_resnet", remember_code=True)
    made(folder, "gramcli.demo.network:small_cnn", args={"width": 2}, remember_code=True)
    assert not (folder.parent / "config").exists()
