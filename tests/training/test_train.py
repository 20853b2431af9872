"""Training beside a plain loop, interrupted and resumed, and what its checkpoint says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gramcli.errors import ArtefactError, NoInputError, ResourceError, UsageError
from gramcli.extraction.extract import extract
from gramcli.network import checkpoint, frontend
from gramcli.network.build import build
from gramcli.progress import Silent
from gramcli.settings.configure import configure
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import Settings
from gramcli.training import saving
from gramcli.training.examples import seed_of, split
from gramcli.training.saving import TrainResult
from gramcli.training.train import train
from tests.support.sets import CLASSES, ROOT, quick, read_manifest, write_manifest, write_set, write_wav

SMALL = "tests.support.training_toys:Small"


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def settings(sounds: Path) -> Settings:
    """Three epochs of a small network on 18 training clips."""
    base = quick(sounds, Path("unused"), SMALL)
    return replace(base, train=replace(base.train, epochs=3, batch=7, learning_rate=0.01))


class StoppedError(Exception):
    """As good as a kill: nothing is tidied up after it."""


class Stopping(Silent):
    """Stops a training when its epochs have begun so many times."""

    def __init__(self, epochs: int, error: type[BaseException] = StoppedError) -> None:
        super().__init__()
        self.left, self.error = epochs, error

    def start(self, task: str, total: int) -> None:
        if task.startswith("epoch"):
            self.left -= 1

    def advance(self, steps: int, failed: int = 0) -> None:
        if self.left < 0:
            raise self.error


def weights(path: Path) -> dict[str, Tensor]:
    return load_file(path)


def same(first: Path, second: Path) -> bool:
    one, other = weights(first), weights(second)
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def by_hand(settings: Settings) -> tuple[nn.Module, int, float]:
    """The paper's recipe as a plain loop: the best epoch's network, the epoch and its accuracy."""
    lines = read_manifest(Path(settings.data.manifest))
    names = sorted(CLASSES)

    def inputs(part: str) -> tuple[Tensor, Tensor]:
        chosen = [line for line in lines if line.split == part]
        samples = [
            soundfile.read(Path(settings.data.manifest).parent / line.file, dtype="float32")[0] for line in chosen
        ]
        mels = frontend.build(settings.frontend)(torch.from_numpy(np.stack(samples)))
        return mels, torch.tensor([names.index(line.label) for line in chosen])

    x, y = inputs("train")
    held, truth = inputs("validation")
    mean, std = x.double().mean().item(), x.double().std(correction=0).item()
    x, held = (x - round(mean, 3)) / round(std, 3), (held - round(mean, 3)) / round(std, 3)
    network = build(settings.network, 3, settings.data.seed, RunContext(folder=ROOT)).module.to(
        memory_format=torch.channels_last
    )
    optimiser = torch.optim.RAdam(network.parameters(), lr=settings.train.learning_rate)
    best, best_epoch, best_accuracy = {}, 0, -1.0
    for epoch in range(1, settings.train.epochs + 1):
        seed = seed_of(settings.data.seed, epoch)
        torch.manual_seed(seed)
        network.train()
        for batch in split(torch.randperm(len(y), generator=torch.Generator().manual_seed(seed)), settings.train.batch):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimiser.step()
        network.eval()
        with torch.no_grad():
            accuracy = (network(held).argmax(1) == truth).double().mean().item()
        if accuracy > best_accuracy:
            best = {name: tensor.clone() for name, tensor in network.state_dict().items()}
            best_epoch, best_accuracy = epoch, accuracy
    network.load_state_dict(best)
    return network, best_epoch, best_accuracy


def test_it_is_the_plain_loop(settings, tmp_path):
    done = train(settings, tmp_path / "w.safetensors", RunContext(folder=ROOT))
    network, epoch, accuracy = by_hand(settings)
    assert (done.epoch, done.epochs, done.resumed, done.failed) == (epoch, 3, 0, 0)
    assert done.accuracy == pytest.approx(accuracy)
    stored = weights(done.path)
    for name, tensor in network.state_dict().items():
        assert torch.allclose(stored[name].double(), tensor.double(), rtol=1e-3, atol=1e-4), name


def test_it_learns(settings, tmp_path):
    longer = replace(settings, train=replace(settings.train, epochs=25))
    progress = Silent()
    done = train(longer, tmp_path / "w.safetensors", RunContext(progress=progress, folder=ROOT))
    assert done.accuracy > 0.8
    best = [note for note in progress.notes if note.endswith("the best so far")]
    assert best[-1].startswith(f"epoch {done.epoch} of 25: loss ")
    history = checkpoint.metadata(done.path)["training"]["history"]
    accuracies = [accuracy for _, accuracy in history]
    assert len(history) == 25
    assert accuracies.index(max(accuracies)) + 1 == done.epoch


@pytest.mark.parametrize("augment", [(), ("specaugment", "mixup"), ("noise",)], ids=",".join)
def test_a_training_that_was_killed_ends_at_the_same_weights(settings, tmp_path, augment):
    settings = replace(settings, train=replace(settings.train, epochs=4, augment=augment, schedule="cosine"))
    whole = train(settings, tmp_path / "whole.safetensors", RunContext(folder=ROOT))
    out = tmp_path / "cut.safetensors"
    with pytest.raises(StoppedError):
        train(settings, out, RunContext(progress=Stopping(2), folder=ROOT))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.safetensors.resume", "whole.safetensors"]
    before = torch.random.get_rng_state()
    progress = Silent()
    done = train(settings, out, RunContext(progress=progress, folder=ROOT))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert done.resumed >= 1
    assert f"goes on after epoch {done.resumed} of 4" in progress.notes
    assert (done.epoch, done.accuracy, done.epochs) == (whole.epoch, whole.accuracy, 4)
    assert same(out, whole.path)
    assert not list(tmp_path.glob("*.resume"))


def test_what_is_finished_is_not_repeated(settings, tmp_path):
    done = train(settings, tmp_path / "w.safetensors", RunContext(folder=ROOT))
    content = done.path.read_bytes()
    progress = Silent()
    again = train(settings, done.path, RunContext(progress=progress, folder=ROOT))
    assert "is there already" in progress.notes[-1]
    assert (again.epoch, again.accuracy, again.epochs, again.resumed) == (done.epoch, done.accuracy, 3, 3)
    assert done.path.read_bytes() == content
    with pytest.raises(UsageError, match=r"w\.safetensors: is there and is not the result of this training"):
        train(replace(settings, train=replace(settings.train, batch=9)), done.path, RunContext(folder=ROOT))
    assert done.path.read_bytes() == content


def test_a_file_that_is_made_during_a_training_stays(settings, tmp_path, monkeypatch):
    def slow(*args):
        (tmp_path / "w.safetensors").write_text("precious")
        real(*args)

    real = saving.save
    monkeypatch.setattr(saving, "save", slow)
    with pytest.raises(UsageError, match=r"w\.safetensors: was made by somebody during the training; move it"):
        train(settings, tmp_path / "w.safetensors", RunContext(folder=ROOT))
    assert (tmp_path / "w.safetensors").read_text() == "precious"


def test_a_resume_file_of_another_training_is_refused(settings, tmp_path):
    out = tmp_path / "w.safetensors"
    with pytest.raises(StoppedError):
        train(settings, out, RunContext(progress=Stopping(1), folder=ROOT))
    with pytest.raises(ArtefactError, match=r"w\.safetensors\.resume: .*train\.batch: 7 → 9"):
        train(replace(settings, train=replace(settings.train, batch=9)), out, RunContext(folder=ROOT))


def test_ctrl_c_comes_out_as_itself(settings, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "w.safetensors", RunContext(progress=Stopping(1, KeyboardInterrupt), folder=ROOT))
    assert (tmp_path / "w.safetensors.resume").exists()


def test_the_seed_decides(settings, tmp_path):
    def weights_of(name: str, seed: int) -> Path:
        chosen = replace(settings, data=replace(settings.data, seed=seed))
        return train(chosen, tmp_path / f"{name}.safetensors", RunContext(folder=ROOT)).path

    first, again, other = weights_of("first", 0), weights_of("again", 0), weights_of("other", 1)
    assert same(first, again)
    assert not same(first, other)
    assert len({seed_of(seed, epoch) for seed in range(30) for epoch in range(30)}) == 900


def test_memory_or_not_is_all_the_same(settings, tmp_path):
    kept = train(settings, tmp_path / "kept.safetensors", RunContext(folder=ROOT))
    progress = Silent()
    streaming = replace(settings, train=replace(settings.train, memory_gib=0.0))
    decoded = train(streaming, tmp_path / "decoded.safetensors", RunContext(progress=progress, folder=ROOT))
    assert any("every epoch decodes them again" in note for note in progress.notes)
    assert same(kept.path, decoded.path)


def test_the_checkpoint_says_how_to_use_it(settings, tmp_path, sounds):
    done = train(settings, tmp_path / "w.safetensors", RunContext(folder=ROOT))
    about = checkpoint.metadata(done.path)
    assert about["architecture"] == SMALL
    assert about["classes"] == sorted(CLASSES)
    assert len(about["trained_on"]) == 18
    assert len(about["chosen_on"]) == 9
    assert about["training"]["epoch"] == done.epoch
    assert about["training"]["validation_accuracy"] == done.accuracy
    assert about["training"]["versions"].keys() >= {"gramcli", "torch", "lightning"}
    flags = {"network": {"weights": str(done.path)}, "data": {"manifest": str(sounds)}, "run": {"decoders": 1}}
    ready = configure(
        RunContext({**flags, "cache": {"dir": str(tmp_path / "cache")}}), metadata=checkpoint.settings_of_file
    )
    assert ready.frontend == replace(settings.frontend, mean=about["frontend"]["mean"], std=about["frontend"]["std"])
    assert ready.segment == settings.segment
    assert ready.frontend.std > 1
    assert extract(ready, RunContext(folder=ROOT)).failed == 0


def test_mean_and_std_are_measured_unless_given(settings, tmp_path):
    lines = [line for line in read_manifest(Path(settings.data.manifest)) if line.split == "train"]
    folder = Path(settings.data.manifest).parent
    samples = np.stack([soundfile.read(folder / line.file, dtype="float32")[0] for line in lines])
    mels = frontend.build(settings.frontend)(torch.from_numpy(samples)).double().numpy()

    def used(name: str, chosen: Settings) -> tuple[float, float]:
        front = checkpoint.metadata(train(chosen, tmp_path / name, RunContext(folder=ROOT)).path)["frontend"]
        return front["mean"], front["std"]

    one = replace(settings, train=replace(settings.train, epochs=1))
    assert used("measured.safetensors", one) == pytest.approx((mels.mean(), mels.std()), abs=1e-3)
    given = replace(one, frontend=replace(one.frontend, mean=-7.0, std=3.0))
    assert used("given.safetensors", given) == (-7.0, 3.0)
    asis = replace(one, train=replace(one.train, scaling="given"))
    assert used("asis.safetensors", asis) == (0.0, 1.0)


@pytest.mark.parametrize("augment", [(), ("noise", "mixup")], ids=",".join)
def test_a_network_that_takes_samples_is_trained(settings, tmp_path, augment):
    chosen = replace(
        settings,
        frontend=replace(settings.frontend, kind="waveform"),
        network=replace(settings.network, name="tests.support.training_toys:Samples"),
        train=replace(settings.train, augment=augment),
    )
    done = train(chosen, tmp_path / "w.safetensors", RunContext(folder=ROOT))
    assert 0 <= done.accuracy <= 1


@pytest.mark.parametrize("optimiser", ["radam", "adam", "adamw", "sgd"])
def test_bf16_and_every_optimiser(settings, tmp_path, optimiser):
    chosen = replace(
        settings,
        run=replace(settings.run, precision="bf16"),
        train=replace(settings.train, epochs=1, optimiser=optimiser, weight_decay=1e-4),
    )
    done = train(chosen, tmp_path / "w.safetensors", RunContext(folder=ROOT))
    assert all(tensor.dtype != torch.bfloat16 for tensor in weights(done.path).values())


def test_the_test_split_is_not_opened(settings, tmp_path):
    """Its files may even be missing."""
    folder = tmp_path / "sounds"
    shutil.copytree(Path(settings.data.manifest).parent, folder)
    lines = read_manifest(folder / "manifest.csv")
    for line in lines:
        if line.split == "test":
            (folder / line.file).unlink()
    chosen = replace(settings, data=replace(settings.data, manifest=str(folder / "manifest.csv")))
    assert train(chosen, tmp_path / "w.safetensors", RunContext(folder=ROOT)).failed == 0


def test_clips_that_cannot_be_used_are_left_out_and_told(settings, tmp_path):
    folder = tmp_path / "sounds"
    shutil.copytree(Path(settings.data.manifest).parent, folder)
    lines = [line for line in read_manifest(folder / "manifest.csv") if line.split == "train"]
    (folder / lines[0].file).write_text("no audio")
    write_wav(folder / lines[5].file, np.full(2000, np.nan, np.float32))
    chosen = replace(settings, data=replace(settings.data, manifest=str(folder / "manifest.csv")))
    progress = Silent()
    done = train(chosen, tmp_path / "w.safetensors", RunContext(progress=progress, folder=ROOT))
    assert done.failed == 2
    assert len(checkpoint.metadata(done.path)["trained_on"]) == 16
    assert any(lines[5].file in note for note in progress.notes)
    assert train(chosen, done.path, RunContext(folder=ROOT)).failed == 2


def test_a_checkpoint_that_does_not_say_how_many_clips_failed_had_none(settings, tmp_path):
    """Checkpoints of gramcli 0.1.0 before it was recorded."""
    done = train(settings, tmp_path / "w.safetensors", RunContext(folder=ROOT))
    about = checkpoint.metadata(done.path)
    del about["training"]["failed"]
    save_file(weights(done.path), done.path, {"gramcli": json.dumps(about)})
    assert train(settings, done.path, RunContext(folder=ROOT)).failed == 0


def test_what_cannot_be_trained_is_refused(settings, tmp_path, sounds):
    out = tmp_path / "w.safetensors"

    def refused(error: type[Exception], words: str, chosen: Settings, path: Path = out) -> None:
        with pytest.raises(error, match=words):
            train(chosen, path, RunContext(folder=ROOT))
        assert not out.exists()

    refused(UsageError, "no manifest named", replace(settings, data=replace(settings.data, manifest=None)))
    refused(UsageError, "no network given", replace(settings, network=replace(settings.network, name=None)))
    refused(UsageError, r"w\.pt: checkpoints are written as \.safetensors", settings, tmp_path / "w.pt")
    refused(UsageError, "there is no 'warp'", replace(settings, train=replace(settings.train, augment=("warp",))))
    classes = replace(settings, network=replace(settings.network, classes=("click", "hum")))
    refused(ArtefactError, r"manifest\.csv:\d+: label hiss is none of the network's 2 outputs", classes)
    exploding = replace(settings, network=replace(settings.network, name="tests.support.training_toys:Exploding"))
    refused(UsageError, "epoch 1: the loss is not finite; lower", exploding)
    tuples = replace(settings, network=replace(settings.network, name="tests.support.toys:Panns"))
    tuples = replace(tuples, frontend=replace(tuples.frontend, kind="waveform"))
    refused(ArtefactError, "only networks that return logits can be trained", tuples)
    lines = [line for line in read_manifest(sounds) if line.split != "validation"]
    alone = write_manifest(tmp_path / "train.csv", [replace(line, split="train", source="one") for line in lines])
    rooted = replace(settings.data, manifest=str(alone), audio_root=str(sounds.parent))
    refused(NoInputError, r"train\.csv: no usable clip in the validation split", replace(settings, data=rooted))


def test_a_class_without_training_clips_is_told(settings, tmp_path):
    four = replace(settings, network=replace(settings.network, classes=(*sorted(CLASSES), "thud")))
    progress = Silent()
    train(
        replace(four, train=replace(four.train, epochs=1)),
        tmp_path / "w.safetensors",
        RunContext(progress=progress, folder=ROOT),
    )
    assert "class thud has no training clip" in progress.notes


def test_without_lightning_it_says_what_to_install(settings, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "lightning"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lightning", None)
    with pytest.raises(ResourceError, match="not installed; install it, or gramcli with its extra train"):
        train(settings, tmp_path / "w.safetensors", RunContext(folder=ROOT))


def test_lightning_litters_nothing_and_says_nothing(settings, tmp_path):
    """In a process of its own, with warnings as errors, in an empty folder."""
    script = (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from tests.support.sets import quick\n"
        "from gramcli.training.train import train\n"
        "assert 'lightning' not in sys.modules\n"
        f"s = quick(Path({str(settings.data.manifest)!r}), Path('c'), {SMALL!r})\n"
        "from gramcli.settings.run_context import RunContext\n"
        "s = replace(s, train=replace(s.train, epochs=2))\n"
        f"train(s, Path('w.safetensors'), RunContext(folder=Path({str(ROOT)!r}), trust_code=True))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()  # which gramcli logs, as nobody follows the progress
    assert line.startswith("running the code of ")
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


# --- extract refuses clips that the network has seen


@pytest.fixture(scope="module")
def trained(sounds: Path, tmp_path_factory) -> TrainResult:
    settings = quick(sounds, Path("unused"), SMALL)
    out = tmp_path_factory.mktemp("trained") / "w.safetensors"
    return train(replace(settings, train=replace(settings.train, epochs=1)), out, RunContext(folder=ROOT))


@pytest.mark.parametrize("seconds", [0.25, 0.1])
@pytest.mark.parametrize("part", ["validation", "test"])
def test_extract_refuses_clips_of_the_training(trained, sounds, tmp_path, seconds, part):
    """Also in other windows."""
    lines = read_manifest(sounds)
    swap = {"train": part, part: "train"}
    write_manifest(tmp_path / "swapped.csv", [replace(line, split=swap.get(line.split, line.split)) for line in lines])
    flags = {
        "network": {"weights": str(trained.path)},
        "data": {"manifest": str(tmp_path / "swapped.csv"), "audio_root": str(sounds.parent)},
        "segment": {"seconds": seconds},
        "cache": {"dir": str(tmp_path / "cache")},
        "run": {"decoders": 1},
    }
    settings = configure(RunContext(flags), override_metadata=True, metadata=checkpoint.settings_of_file)
    with pytest.raises(UsageError, match=rf"hum-0-0\.wav.*: is in the {part} split, but w\.safetensors was trained"):
        extract(settings, RunContext(folder=ROOT))
    assert not (tmp_path / "cache" / "views").exists()
    assert not (tmp_path / "cache" / "clips.csv").exists()


def test_extract_takes_new_audio_and_the_same_splits(trained, tmp_path, sounds):
    other = write_set(tmp_path / "other", clips=1, seed=7)
    for manifest in (sounds, other):
        cache = tmp_path / f"cache-{manifest.parent.name}"
        flags = {
            "network": {"weights": str(trained.path)},
            "data": {"manifest": str(manifest)},
            "cache": {"dir": str(cache)},
            "run": {"decoders": 1},
        }
        for _ in range(2):
            assert (
                extract(
                    configure(RunContext(flags), metadata=checkpoint.settings_of_file), RunContext(folder=ROOT)
                ).failed
                == 0
            )
    assert not trained.path.with_name("w.safetensors.resume").exists()


def test_extract_tells_when_test_clips_chose_the_epoch(trained, tmp_path, sounds):
    swap = {"validation": "test", "test": "validation"}
    lines = [replace(line, split=swap.get(line.split, line.split)) for line in read_manifest(sounds)]
    flags = {
        "network": {"weights": str(trained.path)},
        "data": {"manifest": str(write_manifest(tmp_path / "swapped.csv", lines)), "audio_root": str(sounds.parent)},
        "cache": {"dir": str(tmp_path / "cache")},
        "run": {"decoders": 1},
    }
    progress = Silent()
    extract(
        configure(RunContext(flags), metadata=checkpoint.settings_of_file), RunContext(progress=progress, folder=ROOT)
    )
    assert any(note.startswith("9 test clips were validation clips when w.safetensors") for note in progress.notes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "epochs"), [("resnet50", 12), ("densenet121", 12), ("mobilenetv2_100", 60), ("vgg16", 8)]
)
def test_the_networks_of_the_paper_learn(settings, tmp_path, name, epochs):
    """By the paper's recipe, on a task that is easy: the loss on the training clips falls below half of chance's.

    The last layer of timm's MobileNet starts with large weights (a loss near 9 here), and RAdam needs its time.
    """
    chosen = replace(
        settings,
        frontend=replace(settings.frontend, n_mels=32, hop_ms=4.0),
        network=replace(settings.network, name=name),
        train=replace(settings.train, epochs=epochs, learning_rate=1e-3),
    )
    done = train(chosen, tmp_path / "w.safetensors")
    losses = [loss for loss, _ in checkpoint.metadata(done.path)["training"]["history"]]
    assert min(losses) < np.log(3) / 2
