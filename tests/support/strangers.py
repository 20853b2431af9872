"""Data from a stranger: files that name code or arguments, and a process watched for what it reaches for."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from gramcli.cache.view import View
from gramcli.calibration.calibrate import calibrate
from gramcli.calibration.select_layers import select_layers
from gramcli.demo.network import small_cnn
from gramcli.extraction.extract import extract
from gramcli.inference import bundle
from gramcli.network import checkpoint
from gramcli.settings.configure import configure
from gramcli.settings.run_context import RunContext
from tests.support.sets import CLASSES, RATE, ROOT, SECONDS, write_set

AUDIT = Path(__file__).with_name("audit")
WEIGHTS = "net.safetensors"
MODEL = "model.safetensors"
CACHE = ".gramcli"
TOML = '[data]\nmanifest = "sounds/manifest.csv"\n[run]\ndecoders = 1\nthreads = 1\n[network]\n'
EVIL = "import os\nos.write(2, b'EVIL RAN\\n')\nfrom gramcli.demo.network import small_cnn as make\n"
"""Code of a module that says so when it runs."""
ABOUT: Mapping[str, Any] = {
    "architecture": "gramcli.demo.network:small_cnn",
    "args": {"in_chans": 1, "width": 2},
    "classes": sorted(CLASSES),
    "frontend": {"sample_rate": RATE, "n_fft": 256, "window_ms": 32, "hop_ms": 16, "n_mels": 16},
    "segment": {"seconds": SECONDS},
}


def make_project(folder: Path) -> None:
    """Makes a project with a network of gramcli itself, a calibrated cache and an exported model."""
    write_set(folder / "sounds", clips=2)
    torch.manual_seed(0)
    save_file(small_cnn(len(CLASSES), 1, 2).state_dict(), folder / WEIGHTS, {"gramcli": json.dumps(ABOUT)})
    (folder / "gramcli.toml").write_text(f'{TOML}weights = "{WEIGHTS}"\n')
    cache = folder / CACHE
    context = RunContext({"cache": {"dir": str(cache)}}, folder / "gramcli.toml")
    settings = configure(context, metadata=checkpoint.settings_of_file)
    extract(settings, context)
    calibrate(cache)
    select_layers(cache)
    bundle.export(settings, cache, folder / MODEL, context)


def in_metadata(folder: Path, name: str, args: Mapping[str, Any]) -> None:
    """Lets the metadata of the checkpoint name a network; there is no cache yet."""
    (folder / CACHE).rename(folder / "old-cache")
    about = {**ABOUT, "architecture": name, "args": dict(args)}
    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS, {"gramcli": json.dumps(about)})


def in_toml(folder: Path, name: str, args: Mapping[str, Any]) -> None:
    """Lets ``gramcli.toml`` name a network."""
    listed = "\n".join(f"{key} = {_toml(value)}" for key, value in args.items())
    classes = json.dumps(sorted(CLASSES))
    (folder / "gramcli.toml").write_text(f'{TOML}name = "{name}"\nclasses = {classes}\n[network.args]\n{listed}\n')


def in_cache(folder: Path, name: str, args: Mapping[str, Any]) -> None:
    """Lets the settings that a cache records name a network; there is no ``gramcli.toml``."""
    (folder / "gramcli.toml").unlink()
    view = View.open(folder / CACHE)
    recorded = json.loads(json.dumps(dict(view.recorded)))
    recorded["settings"]["network"] |= {"name": name, "args": dict(args), "weights": str(folder / WEIGHTS)}
    recorded["settings"]["data"]["manifest"] = str(folder / "sounds" / "manifest.csv")
    recorded["settings"]["cache"]["dir"] = str(folder / CACHE)
    View.create(folder / CACHE, view.identity, {**recorded, "folder": str(folder)})


def in_model(folder: Path, name: str, args: Mapping[str, Any]) -> None:
    """Lets an exported model name a network."""
    model = bundle.from_file(folder / MODEL)
    network = {**model.settings["network"], "name": name, "args": dict(args)}
    (folder / MODEL).unlink()
    bundle.save(folder / MODEL, dataclasses.replace(model, settings={**model.settings, "network": network}))


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)


@dataclasses.dataclass(frozen=True)
class Watched:
    """What a process left behind, and what it and its children reached for."""

    code: int
    err: str
    network: list[str]
    started: list[str]
    """Programs, besides decoders, the commands of the demo and what Python asks for the machine."""
    ran: list[str]
    """Files of the folder whose code ran."""
    opened: list[str]
    """Files outside the folder, Python, gramcli and the system."""


def watch(folder: Path, arguments: Sequence[str], **environment: str) -> Watched:
    """Runs gramcli in a folder, with an audit hook in its process and in all of its children."""
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)  # also for temporary files
    log = folder.parent / "audit.log"
    log.unlink(missing_ok=True)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GRAMCLI_")}
    env = {
        **kept, "PYTHONPATH": os.pathsep.join([str(AUDIT), str(ROOT)]), "AUDIT_LOG": str(log), "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"), "TMPDIR": str(home), "OMP_NUM_THREADS": "1",
        **environment,
    }  # fmt: skip
    command = [sys.executable, "-P", "-m", "gramcli", *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    events = [line.split("\t", 1) for line in log.read_text().splitlines()]
    found: dict[str, list[str]] = {"network": [], "start": [], "exec": [], "open": []}
    for kind, text in events:
        if "socket.gethostname" not in text:  # of a lock, which reaches for nothing
            found[kind].append(text)
    inside = [os.path.realpath(one) for one in (sys.prefix, sys.base_prefix, ROOT, folder, home)]
    system = [*inside, *sys.path, "/proc", "/sys", "/dev", "/usr", "/lib", "/etc", "/opt", str(log)]
    ran = [path for path in map(ast.literal_eval, found["exec"]) if path[0] != "<" and _below(path, [str(folder)])]
    opened = [path for path in map(ast.literal_eval, found["open"]) if not _below(path, [one for one in system if one])]
    return Watched(
        done.returncode,
        done.stderr,
        found["network"],
        [text for text in found["start"] if not any(own in text for own in ("gramcli", "ctypes.dlopen", "'uname'"))],
        sorted(set(ran)),
        sorted(set(opened)),
    )


def _below(path: str, folders: Sequence[str]) -> bool:
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(os.path.realpath(folder)) for folder in folders)
