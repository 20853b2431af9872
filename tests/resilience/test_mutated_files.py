"""Every reader refuses a randomly changed file with a one-line message: checkpoints, manifests, caches, models.

A reader may neither crash nor hang nor grow, run code, or open a file of somebody else's. What carries a digest is also
sealed anew after it was changed, as an enemy would.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gramcli.cache import decision, shard, statistics
from gramcli.cache.view import View
from gramcli.calibration.calibrate import calibrate
from gramcli.calibration.select_layers import select_layers
from gramcli.dataset import manifest
from gramcli.errors import GramcliError
from gramcli.extraction.extract import extract
from gramcli.inference import bundle
from gramcli.inference.bundle import export
from gramcli.inference.rule import Rule
from gramcli.network import checkpoint
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import DataSettings
from tests.support import toys
from tests.support.mutations import mutated
from tests.support.sandbox import ask
from tests.support.sets import ROOT, quick, write_set

GROWTH = 300 * 1024
"""KiB beside twice the file."""
Reader = Callable[[Path], object]
Seal = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mutated")
    settings = quick(write_set(folder / "sounds", clips=2), folder / "cache")
    extract(settings, RunContext(folder=ROOT))
    calibrate(folder / "cache")
    select_layers(folder / "cache")
    export(settings, folder / "cache", folder / "cache" / "model.safetensors")
    return folder / "cache"


def tried(
    read: Reader, path: Path, files: list[bytes], seal: Callable[[bytes], bytes], header: int
) -> Callable[[int], str]:
    """Returns a question: what does `read` say of the n-th mutation?"""

    def question(n: int) -> str:
        chance = random.Random(n)
        content = mutated(files[n % len(files)], chance, files, header)
        path.write_bytes(seal(content) if chance.random() < 0.8 else content)
        try:
            read(path)
        except GramcliError as error:
            text = str(error)
            return f"{type(error).__name__}: {text}" if text and len(text.splitlines()) == 1 else f"TWO LINES {text!r}"
        except Exception as error:
            return f"TRACEBACK {type(error).__name__}: {str(error)!r}"
        return "ok"

    return question


def judge(
    read: Reader, path: Path, files: list[bytes], count: int, seal: Callable[[bytes], bytes] = bytes, header: int = 400
) -> Counter[str]:
    question = tried(read, path, files, seal, header)
    answers, grown = ask(question, count, path.parent)
    for n, answer in enumerate(answers):
        assert not answer.startswith(("TRACEBACK", "TWO LINES", "case ")), f"case {n}: {answer}"
    assert grown < GROWTH + 2 * max(map(len, files)) // 1024
    found = Counter(answer.partition(":")[0] for answer in answers)
    print(f"{path.name}: {dict(found)}, {grown / 1024:.0f} MiB more")
    assert len(found) > 1


COUNTS = pytest.mark.parametrize("count", [200, pytest.param(5000, marks=pytest.mark.slow)])


@COUNTS
@pytest.mark.parametrize("kind", ["safetensors", "pt", "legacy pt"])
def test_checkpoints(tmp_path, count, kind):
    network, files = toys.make(toys.ResNet), []
    state = network.state_dict()
    path = tmp_path / "net"
    for content in (state, {"state_dict": state, "epoch": 3}):
        if kind == "safetensors":
            save_file(state, path, {"gramcli": '{"classes": ["a", "b"], "frontend": {"n_mels": 16}}'})
        else:
            torch.save(content, path, _use_new_zipfile_serialization=kind == "pt")
        files.append(path.read_bytes())

    def read(path: Path) -> None:
        checkpoint.settings_of_file(path)
        checkpoint.identify(path)
        checkpoint.load_into(network, checkpoint.read(path).weights(), path)

    judge(read, path, files, count, header=2000)


@COUNTS
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_manifests(tmp_path, count, suffix):
    clips = [
        (f"{label}/{n}.wav", label, split, str(n)) for label in ("a", "b") for n, split in enumerate(["train", "test"])
    ]
    for file, *_ in clips:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    if suffix == "jsonl":
        lines = [
            f'{{"file": "{f}", "label": "{y}", "split": "{s}", "group": "{g}", "start": 0.5}}' for f, y, s, g in clips
        ]
    else:
        mark = {"csv": ",", "tsv": "\t"}[suffix]
        lines = [mark.join(row) for row in (("file", "label", "split", "group"), *clips)]
    content = "\n".join(lines).encode()
    path = tmp_path / f"m.{suffix}"
    judge(
        lambda path: manifest.read(DataSettings(manifest=str(path))),
        path,
        [content, content.replace(b"\n", b"\r\n")],
        count,
    )


@pytest.fixture
def some(cache: Path, tmp_path: Path) -> Path:
    shutil.copytree(cache, tmp_path / "cache")
    return tmp_path / "cache"


def sealed(content: bytes) -> bytes:
    """Puts the right digest into a sealed file, if there is a place for it."""
    place = content.find(b'"sha256":"') + 10
    if place < 10 or len(content) < place + 64:
        return content
    blank = content[:place] + b"0" * 64 + content[place + 64 :]
    return content[:place] + hashlib.sha256(blank).hexdigest().encode() + content[place + 64 :]


def use(rule: Rule) -> None:
    """Judges some descriptors; nothing may come of it but finite numbers."""
    rng = np.random.default_rng(0)
    rows = {layer: rng.random((3, lower.shape[1])).astype(np.float32) for layer, (lower, _) in rule.bounds.items()}
    judged = rule.judge(rows, np.zeros((3, len(rule.classes)), np.float32))
    assert np.isfinite(judged.deviations[:, rule.present]).all()
    assert not np.isnan(judged.strangeness).any()


@COUNTS
def test_statistics(some, count):
    view = View.open(some)
    path = some / statistics.FILE

    def read(path: Path) -> None:
        known = statistics.load(some, view.fingerprint)
        for layer in known.layers:
            known.bounds(layer)
            known.validation_deviations(layer)
        _ = known.counts, known.expected, known.validation.labels, known.validation.logits, known.subsample_sizes
        decision.load(some, known)

    header = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    judge(read, path, [path.read_bytes()], count, sealed, header)


@COUNTS
@pytest.mark.parametrize("name", [decision.FILE, "model.safetensors"])
def test_decisions_and_models(some, count, name):
    known = statistics.load(some)
    path = some / name

    def read(path: Path) -> None:
        use(bundle.from_file(path).rule if "model" in name else Rule.of(known, decision.load(some, known)))

    header = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    judge(read, path, [path.read_bytes()], count, sealed, header)


def sealed_shard(content: bytes) -> bytes:
    if len(content) < 512:
        return content
    return (
        b"gramcli shard\nsha256 "
        + hashlib.sha256(content[512:]).hexdigest().encode()
        + b"\n"
        + bytes(426)
        + content[512:]
    )


@COUNTS
def test_shards(some, count):
    view = View.open(some)
    path = view.path(0)
    files = [view.path(number).read_bytes() for number in sorted(view.present())[:3]]

    def read(path: Path) -> None:
        rows = shard.decode(path.read_bytes(), path, view.fingerprint, view.layers)
        rows.usable()

    judge(read, path, files, count, sealed_shard, 4000)
