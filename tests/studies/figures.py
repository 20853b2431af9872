"""Computes every documented figure: ``python -m tests.studies.figures OUT --data ESC10 --models MODELS``.

Runs the documented commands on their recordings and networks and prints what they print, then the studies that train
networks of their own, which take hours on a CPU and go on where they were stopped; ``--only commands`` leaves them out.
Networks, caches and results lie under OUT, and what is there is not computed again.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from gramcli.audio.condition import apply, parse
from tests.studies import decisions, held_out

PLACES = {"clean": None, "noise": "noise:20", "quiet": "gain:-20"}
"""Folders of fold 5 for `gramcli check`."""
WORDS = (
    "the quick brown fox jumps over a lazy dog while seven silver trains leave the old harbour before morning rain "
    "and nobody remembers who had opened the window or why every clock in that narrow street had stopped at twenty "
    "past four"
)
VOICES = ("en", "en-us", "en-gb-scotland", "de", "fr", "es", "it", "sv", "pl", "nl")


@dataclass(frozen=True)
class Project:
    """A folder with a `gramcli.toml` for one of the networks."""

    folder: Path
    data: Path

    @staticmethod
    def make(out: Path, data: Path, models: Path, name: str) -> Project:
        about = json.loads((models / f"esc10_fold5_{name}.json").read_text())
        folder = out / f"readme-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "gramcli.toml").write_text(
            f'[data]\nmanifest = "{data / "meta.csv"}"\nvalidation_fold = 1\ntest_fold = 5\n'
            f"[segment]\nseconds = {about['seconds']}\n"
            f"[frontend]\nmean = {about['mean']}\nstd = {about['std']}\n"
            f'[network]\nname = "{name}"\nweights = "{models / f"esc10_fold5_{name}.safetensors"}"\n'
            f"classes = {json.dumps(about['classes'])}\nwith_means = true\n"
        )
        return Project(folder, data)

    def run(self, *arguments: str, show: bool = True) -> str:
        """Runs a command as a user would, and prints it before what it prints."""
        command = [sys.executable, "-m", "gramcli", *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"gramcli {' '.join(arguments)}: {done.stderr}")
        if show:
            print(f"$ gramcli {' '.join(arguments)}\n{done.stdout}{done.stderr}", flush=True)
        return done.stdout


def commands(out: Path, data: Path, models: Path) -> None:
    """Runs the README's commands for both networks."""
    table = ("--format", "table")
    for name in ("resnet18", "mobilenetv2_100"):
        project = Project.make(out, data, models, name)
        print(f"--- {name}\n")
        project.run("extract")
        project.run("calibrate")
        project.run("select-layers", *table)
        conditions = [f"--condition={text}" for text in ("noise:20", "noise:10", "codec:mp3-32")]
        project.run("evaluate", "--rivals", *conditions, *table)
    project = Project.make(out, data, models, "resnet18")
    project.run("classify", *map(str, sorted(data.glob("audio/5-2*7-A.ogg"))[:2]), *table)
    truth = places(project.folder / "fold5", data)
    project.run("check", "fold5", *table)
    for place in PLACES:
        said = project.run("classify", f"fold5/{place}", "--format", "jsonl", show=False)
        rows = [json.loads(line) for line in said.splitlines()]
        right = [row["label"] == truth[Path(row["path"]).name] for row in rows]
        print(f"labels right in {place}: {np.mean(right):.2f} of {len(right)}")
    if shutil.which("espeak-ng") is None:
        print("espeak-ng is not installed: no evaluate --unknown on its speech")
        return
    speech(project.folder / "speech")
    project.run("evaluate", "--unknown", "speech", *table)


def places(folder: Path, data: Path) -> dict[str, str]:
    """Writes the clips of fold 5 under each condition, as files, and returns their labels by file name."""
    rows = [line.split(",") for line in (data / "meta.csv").read_text().splitlines()]
    at = {name: n for n, name in enumerate(rows[0])}
    labels = {}
    for row in rows[1:]:
        if row[at["fold"]] != "5":
            continue
        samples, rate = soundfile.read(data / "audio" / row[at["filename"]], dtype="float32", always_2d=True)
        name = Path(row[at["filename"]]).with_suffix(".wav").name
        labels[name] = row[at["category"]]
        for place, text in PLACES.items():
            altered = samples.mean(axis=1)
            if text is not None:
                altered = apply(parse(text), altered, rate, name)
            path = folder / place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, altered, rate, subtype="FLOAT")
    return labels


def speech(folder: Path, files: int = 80, seconds: int = 5) -> None:
    """Writes synthetic speech of ten voices, random words, 0 to 25 dB quieter than it is made."""
    folder.mkdir(exist_ok=True)
    draw, words = random.Random(0), WORDS.split()
    made = folder.parent / "speech.wav"
    for n in range(files):
        text = " ".join(draw.choice(words) for _ in range(40))
        voice = VOICES[n % len(VOICES)] + draw.choice(["", "+f2", "+f4", "+m3", "+m7"])
        pace, pitch = str(draw.randint(120, 200)), str(draw.randint(20, 80))
        subprocess.run(["espeak-ng", "-v", voice, "-s", pace, "-p", pitch, "-w", str(made), text], check=True)
        samples, rate = soundfile.read(made)
        level = 10 ** (draw.uniform(-25, 0) / 20)
        soundfile.write(folder / f"{n:02}.wav", samples[: seconds * rate] * level, rate, subtype="PCM_16")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.studies.figures", description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="ESC-10: audio/ and meta.csv")
    parser.add_argument("--models", type=Path, required=True, help="networks trained on its folds 2 to 4")
    parser.add_argument("--only", choices=("commands", "studies"))
    options = parser.parse_args(arguments)
    out, data, models = (path.absolute() for path in (options.out, options.data, options.models))
    if options.only != "studies":
        commands(out, data, models)
    if options.only != "commands":
        decisions.main([str(out), "--data", str(data)])
        decisions.main([str(out), "--data", str(data), "--networks", "densenet121,vgg16_bn", "--augment", "none"])
        held_out.main([str(out), "--data", str(data)])


if __name__ == "__main__":
    main()
