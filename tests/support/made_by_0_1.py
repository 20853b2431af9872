"""A small project whose caches and model were made by gramcli 0.1.0 before its packages were rearranged.

``tests/fixtures/made_by_0_1`` holds what its commands wrote and printed. The sounds are not kept: they are computed
here from integers alone, so that they have the same bytes on every machine. To make the files anew, name a checkout of
that version (commit f28c8b7): ``python -m tests.support.made_by_0_1 CHECKOUT``.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

FILES = Path(__file__).parents[1] / "fixtures" / "made_by_0_1"
ORIGIN = "/gramcli-made-by-0.1"
"""Folder in which the files were made, which they name; nothing needs to be there now."""
CHANGED_NS = 1_700_000_000_123_456_789
"""When every sound was last changed, as the table of clips has it."""
RATE, FRAMES = 8000, 2000
COUNTS = {
    "train": {"hum": 14, "hiss": 14, "click": 4},
    "validation": {"hum": 20, "hiss": 20, "click": 20},
    "test": {"hum": 4, "hiss": 4, "click": 4},
}
RUN = ["--device", "cpu", "--threads", "1", "--decoders", "1"]


def sound(label: str, name: str, frames: int = FRAMES) -> bytes:
    """Returns 16-bit samples of a class; `name` decides which. Every fifth sound is half of another class."""
    values = _values(label, name, frames)
    if name.removesuffix(".wav").endswith(("3", "8")):
        other = _values({"hum": "hiss", "hiss": "click", "click": "hum"}[label], name, frames)
        values = [(one + two) // 2 for one, two in zip(values, other, strict=True)]
    return b"".join(value.to_bytes(2, "little", signed=True) for value in values)


def _values(label: str, name: str, frames: int) -> list[int]:
    noise = memoryview(hashlib.shake_256(name.encode()).digest(frames)).cast("b").tolist()
    first, second = hashlib.sha256(name.encode()).digest()[:2]
    if label == "hum":
        period, height = 20 + first % 34, 8 + second % 8
        return [height * abs(4000 * (n % period) // period - 2000) // 10 - 1000 + 2 * noise[n] for n in range(frames)]
    if label == "hiss":
        return [(8 + first % 8) * (noise[n] - noise[n - 1]) for n in range(frames)]
    return [noise[n] * (64 if noise[(7 * n) % frames] > 125 else 1) for n in range(frames)]


def rows() -> list[list[str]]:
    """Returns the rows of the manifest: file, label, split, source."""
    found = [
        [f"{label}-{split}-{n}.wav", label, split, f"{label} {split} {n}"]
        for split, counts in COUNTS.items()
        for label, count in counts.items()
        for n in range(count)
    ]
    return [*found, ["long.wav", "hum", "train", "long"], ["broken.wav", "hum", "test", "broken"]]


def write_sound(path: Path, label: str, frames: int = FRAMES) -> None:
    """Writes a sound that its file's name decides."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, frames, "NONE", ""))
        file.writeframes(sound(label, path.name, frames))
    os.utime(path, ns=(CHANGED_NS, CHANGED_NS))


def write_manifest(folder: Path, lines: list[list[str]]) -> None:
    """Writes the manifest beside the sounds."""
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "label", "split", "source"], *lines])


def write_sounds(folder: Path) -> None:
    """Writes the sounds, one of them several windows long and one no audio, and their manifest."""
    folder.mkdir()
    for file, label, *_ in rows():
        write_sound(folder / file, label, 3 * FRAMES if file == "long.wav" else FRAMES)
    (folder / "broken.wav").write_bytes(b"no audio")
    os.utime(folder / "broken.wav", ns=(CHANGED_NS, CHANGED_NS))
    write_manifest(folder, rows())


def recordings() -> list[str]:
    """Returns the files that were classified."""
    return [f"sounds/{file}" for file, _, split, _ in rows() if split == "test" and file != "broken.wav"]


def outputs() -> dict[str, Any]:
    """Returns what the commands printed, by command."""
    return json.loads((FILES / "outputs.json").read_text())  # type: ignore[no-any-return]


def restore(folder: Path) -> None:
    """Puts the project into an empty folder, as if it had been made there: sounds, network, model and three caches."""
    write_sounds(folder / "sounds")
    for name in ("network.safetensors", "model.safetensors"):
        shutil.copy(FILES / name, folder)
    for name in (".gramcli", "paper", "gram"):
        shutil.copytree(FILES / "cache", folder / name)
        if (FILES / name).exists():
            shutil.copytree(FILES / name, folder / name, dirs_exist_ok=True)
        for path in (folder / name).rglob("*.csv"):
            _relocate_table(path, folder)
        for path in (folder / name).rglob("view.json"):
            _relocate_view(path, folder)


def _relocate_table(path: Path, folder: Path) -> None:
    """Rewrites the paths in a table whose first line ends with the SHA-256 of the rest."""
    head, _, body = path.read_bytes().partition(b"\n")
    head = head[: head.rindex(b"=") + 1]
    body = body.replace(ORIGIN.encode(), str(folder).encode())
    path.write_bytes(head + hashlib.sha256(head + body).hexdigest().encode() + b"\n" + body)


def _relocate_view(path: Path, folder: Path) -> None:
    """Rewrites the paths in ``view.json``, which holds the SHA-256 of its canonical form."""
    content = json.loads(path.read_text().replace(ORIGIN, str(folder)))
    del content["sha256"]
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    content["sha256"] = hashlib.sha256(canonical.encode()).hexdigest()
    path.write_bytes(json.dumps(content, indent=1).encode() + b"\n")


# --- making the files


def _write_network(path: Path) -> None:
    import safetensors.torch
    import torch

    from gramcli.demo.network import small_cnn

    torch.manual_seed(3)
    network = small_cnn(3, 1, 4).eval()
    about = {
        "architecture": "gramcli.demo.network:small_cnn",
        "args": {"in_chans": 1, "width": 4},
        "classes": ["click", "hiss", "hum"],
        "frontend": {
            "sample_rate": RATE, "n_fft": 256, "window_ms": 32.0, "hop_ms": 16.0, "n_mels": 16, "mean": -10.0,
            "std": 15.0,
        },
        "segment": {"seconds": FRAMES / RATE},
    }  # fmt: skip
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    path.write_bytes(safetensors.torch.save(weights, {"gramcli": json.dumps(about)}))


def make(checkout: Path) -> None:
    """Runs the old commands in `ORIGIN`, which must not be there, and keeps what they wrote and printed."""
    project = Path(ORIGIN)
    project.mkdir()
    write_sounds(project / "sounds")
    _write_network(project / "network.safetensors")
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}

    def gramcli(*arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "gramcli", *arguments]
        ran = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == code, (arguments, ran.stderr)
        return ran.stdout

    def classify(*arguments: str) -> Any:
        return json.loads(gramcli("classify", "--json", *arguments))["rows"]

    partly = 5  # as broken.wav cannot be read
    gramcli(
        "extract", "sounds/manifest.csv", "--weights", "network.safetensors", "--clips-per-shard", "32",
        "--with-means", *RUN, code=partly,
    )  # fmt: skip
    gramcli("extract", "--condition", "noise:10", code=partly)
    gramcli("calibrate")
    said: dict[str, Any] = {"select-layers": json.loads(gramcli("select-layers", "--json"))}
    shutil.copytree(project / ".gramcli", project / "paper")
    gramcli("calibrate", "--preset", "paper", "--cache", "paper")
    said["select-layers paper"] = json.loads(
        gramcli("select-layers", "--preset", "paper", "--json", "--cache", "paper")
    )
    shutil.copytree(project / ".gramcli", project / "gram")
    said["select-layers gram"] = json.loads(gramcli("select-layers", "--rule", "gram", "--json", "--cache", "gram"))
    gramcli("export", "model.safetensors")
    tests = recordings()
    said["evaluate"] = json.loads(gramcli("evaluate", "--json", "--condition", "noise:10", "--rivals"))
    said["evaluate paper"] = json.loads(gramcli("evaluate", "--json", "--cache", "paper"))
    said["classify"] = classify(*tests, "sounds/long.wav")
    said["classify with a prior"] = classify(*tests, "sounds/long.wav", "--prior", "click=0.5")
    said["classify with the model"] = classify(*tests, "sounds/long.wav", "--model", "model.safetensors")
    said["classify paper"] = classify(*tests, "--cache", "paper")
    said["classify gram"] = classify(*tests, "--cache", "gram")
    said["info"] = json.loads(gramcli("cache", "info", "--json"))

    shutil.rmtree(FILES, ignore_errors=True)
    leave = shutil.ignore_patterns("lock", "runs")
    shutil.copytree(project / ".gramcli", FILES / "cache", ignore=leave)
    for cache in ("paper", "gram"):
        (FILES / cache).mkdir()
        for path in (project / cache).glob("*.safetensors"):
            if path.read_bytes() != (project / ".gramcli" / path.name).read_bytes():
                shutil.copy(path, FILES / cache)
    for name in ("network.safetensors", "model.safetensors"):
        shutil.copy(project / name, FILES)
    (FILES / "outputs.json").write_text(json.dumps(said, indent=1) + "\n")
    shutil.rmtree(project)


if __name__ == "__main__":
    make(Path(sys.argv[1]).absolute())
