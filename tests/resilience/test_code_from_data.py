"""Files from a stranger that name code or arguments: nothing runs, nothing is fetched, no other file is read.

Each case is a process of its own, with an audit hook that was installed before gramcli was imported.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.strangers import (
    EVIL,
    MODEL,
    in_cache,
    in_metadata,
    in_model,
    in_toml,
    make_project,
    watch,
)

URL = {"url": "http://127.0.0.1:9/beacon.pth", "hf_hub_id": None}
LIMIT = {"z": "open('pwned', 'w').write('x')", "z0": 0}
CLASSIFY = "classify sounds/hum-0-0.wav"
WITH_MODEL = f"classify --model {MODEL} sounds/hum-0-0.wav"

# fmt: off
CASES: list[tuple[Callable[..., None], str, Mapping[str, Any], str]] = [
    (in_metadata, "sympy:limit", LIMIT, "extract"),
    (in_metadata, "evil:make", {}, "extract --dry-run"),
    (in_metadata, "os:system", {}, "layers"),
    (in_metadata, "hf-hub:timm/resnet18", {}, "extract"),
    (in_metadata, "resnet18", {"pretrained": True, "pretrained_cfg_overlay": URL}, "extract"),
    (in_metadata, "resnet18", {"checkpoint_path": "../secret.pth"}, "extract"),
    (in_metadata, "resnet18", {"pretrained_cfg": {"file": "../secret.pth"}}, "layers"),
    (in_metadata, "gramcli.demo.network:OrderedDict", {}, "layers"),
    (in_metadata, "gramcli.demo.network:small_cnn", {"width": "__import__('os')"}, "layers"),
    (in_metadata, "evil:make", {}, "evaluate --folds net.safetensors{fold}"),
    (in_toml, "evil:make", {}, "extract"),
    (in_toml, "evil:make", {}, "extract --config gramcli.toml"),
    (in_toml, "evil:make", {}, "layers"),
    (in_toml, "evil:make", {}, "train --out w.safetensors"),
    (in_toml, "subprocess:run", {"shell": True}, "train --out w.safetensors"),
    (in_toml, "resnet18", {"pretrained": True}, "train --out w.safetensors"),
    (in_toml, "resnet18", {"pretrained": True}, "layers"),
    (in_toml, "evil:make", {}, "layers --weights net.safetensors"),
    (in_toml, "evil:make", {}, "extract --weights net.safetensors --override-metadata"),
    (in_toml, "sympy:limit", LIMIT, "extract --trust-code"),
    (in_cache, "evil:make", {}, "extract"),
    (in_cache, "evil:make", {}, CLASSIFY),
    (in_cache, "sympy:limit", LIMIT, CLASSIFY),
    (in_cache, "evil:make", {}, "extract --condition gain:-6"),
    (in_cache, "sympy:limit", LIMIT, "evaluate --condition gain:-6"),
    (in_cache, "evil:make", {}, "export other.safetensors"),
    (in_cache, "sympy:limit", LIMIT, "cache verify --replay 1"),
    (in_cache, "sympy:limit", LIMIT, "export other.safetensors --trust-code"),
    (in_model, "sympy:limit", LIMIT, WITH_MODEL),
    (in_model, "evil:make", {}, WITH_MODEL),
    (in_model, "builtins:exec", {}, f"{WITH_MODEL} --trust-code"),
    (in_model, "resnet18", {"pretrained_cfg_overlay": URL}, WITH_MODEL),
]
# fmt: on


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "project"
    make_project(folder)
    return folder


@pytest.fixture
def project(base: Path, tmp_path: Path) -> Path:
    """A project with a module of a stranger; beside it lies a file that nothing may read."""
    shutil.copytree(base, tmp_path / "project")
    (tmp_path / "project" / "evil.py").write_text(EVIL)
    (tmp_path / "secret.pth").write_text("secret")
    return tmp_path / "project"


@pytest.mark.parametrize(
    ("put", "name", "args", "command"),
    CASES,
    ids=[f"{put.__name__}-{name}-{','.join(args)}-{command}" for put, name, args, command in CASES],
)
def test_what_a_file_names_is_refused(
    project: Path, put: Callable[..., None], name: str, args: Mapping[str, Any], command: str
) -> None:
    put(project, name, args)
    if "{fold}" in command:
        lines = (project / "sounds" / "manifest.csv").read_text().splitlines()
        folded = [f"{line},{'fold' if n == 0 else int(line[-1]) % 3}" for n, line in enumerate(lines)]
        (project / "sounds" / "manifest.csv").write_text("\n".join(folded) + "\n")
        for n in range(3):  # checkpoints that differ
            content = (project / "net.safetensors").read_bytes()
            (project / f"net.safetensors{n}").write_bytes(content[:-1] + bytes([n]))
    done = watch(project, command.split())
    assert done.code == 8, done.err
    assert done.err.splitlines()[-1].startswith("error: network."), done.err
    if ":" in name and put is in_metadata:
        assert f"(named by the metadata of {project / 'net.safetensors'}" in done.err
    assert (done.network, done.started, done.ran, done.opened) == ([], [], [], [])
    assert "EVIL" not in done.err
    assert not (project / "pwned").exists()


def test_calibrate_runs_no_code_that_a_cache_names(project: Path) -> None:
    in_cache(project, "evil:make", {})
    for command in ("calibrate", "select-layers", "cache verify", "evaluate"):
        done = watch(project, command.split())
        assert (done.code, done.network, done.started, done.ran, done.opened) == (0, [], [], [], []), done.err


def test_code_that_the_user_names_or_trusts_runs_after_a_note(project: Path) -> None:
    in_cache(project, "evil:make", {"width": 2})
    note = f"note: running the code of {project / 'evil.py'} (network.name = evil:make, named by "
    for how in (["--trust-code"], ["--network", "evil:make"], ["--always-trust-code"], []):
        done = watch(project, [*CLASSIFY.split(), "--quiet", *how])
        assert done.err.splitlines()[0].startswith(note), done.err
        assert done.err.splitlines()[1] == "EVIL RAN"
        # the cache was made with a network of another name
        assert (done.code, done.ran) == (4, [str(project / "evil.py")])
        assert "architecture: gramcli.demo.network:small_cnn → evil:make" in done.err
        assert not (project / "__pycache__").exists()
    (project / "evil.py").write_text(EVIL + "# changed\n")
    assert watch(project, CLASSIFY.split()).code == 8


def test_code_that_ends_the_process_is_announced(project: Path) -> None:
    (project / "evil.py").write_text("import os\nos._exit(0)\n")
    in_toml(project, "evil:make", {})
    done = watch(project, ["extract", "--quiet", "--trust-code"])
    assert (done.code, done.ran) == (0, [str(project / "evil.py")])
    assert done.err.splitlines()[-1].startswith(f"note: running the code of {project / 'evil.py'} (network.name = evil")


@pytest.mark.parametrize("module", ["typer", "torch", "soundfile", "gramcli"])
def test_no_file_of_the_folder_replaces_a_library(project: Path, module: str) -> None:
    (project / f"{module}.py").write_text(EVIL)
    (project / module / "demo").mkdir(parents=True)
    for path in (f"{module}/__init__.py", f"{module}/demo/__init__.py", f"{module}/demo/network.py"):
        (project / path).write_text(EVIL)
    done = watch(project, ["classify", "sounds/hum-0-0.wav"])
    assert (done.code, done.ran) == (0, []), done.err
    assert "EVIL" not in done.err


@pytest.mark.parametrize("other", ["typer.py", "gramcli.toml", "evil.py"])
def test_the_demo_leaves_a_strangers_folder_alone(tmp_path: Path, other: str) -> None:
    folder = tmp_path / "demo"
    (folder / "sounds").mkdir(parents=True)
    (folder / "sounds" / "manifest.csv").write_text("file,label,split\n")
    (folder / other).write_text(EVIL)
    done = watch(tmp_path, ["demo", "demo"])
    assert (done.code, done.ran, done.network) == (2, [], [])
    assert done.err == "error: demo: exists and holds other files; name another folder\n"
    assert sorted(path.name for path in folder.iterdir()) == sorted(["sounds", other])


def test_the_demo_does_not_follow_a_link_out_of_its_folder(tmp_path: Path) -> None:
    from gramcli.demo import sounds

    (tmp_path / "mine").mkdir()
    (tmp_path / "demo" / "sounds").mkdir(parents=True)
    (tmp_path / "demo" / "sounds" / "manifest.csv").write_bytes(sounds.manifest())
    (tmp_path / "demo" / "sounds" / "bird").symlink_to(tmp_path / "mine")
    assert watch(tmp_path, ["demo", "demo"]).code == 2
    assert list((tmp_path / "mine").iterdir()) == []
