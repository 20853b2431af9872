from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from gramcli.demo import WEIGHTS, sounds, train
from gramcli.demo.network import small_cnn
from gramcli.network import build, checkpoint, frontend
from gramcli.settings import sources
from gramcli.settings.run_context import RunContext


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sounds.write(tmp_path_factory.mktemp("sounds"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    # two threads that share one busy core wait for each other most of the time
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _stated() -> dict[str, float]:
    with safe_open(WEIGHTS, framework="numpy") as file:
        return json.loads(file.metadata()["training"])


def _shipped() -> torch.nn.Module:
    module = small_cnn(len(sounds.CLASSES), **train.ARGUMENTS)
    module.load_state_dict(checkpoint.read(WEIGHTS).weights())
    return module.eval()


def test_a_few_epochs_learn_far_more_than_chance(manifest: Path, tmp_path: Path) -> None:
    curve: list[float] = []
    trained = train.train(manifest, 5, 1, lambda epoch, reached: curve.append(reached))
    assert trained.accuracy == max(curve) > 3.5 / len(sounds.CLASSES)
    assert trained.epoch == 1 + curve.index(max(curve))
    train.save(tmp_path / "new.safetensors", trained, seed=1)
    again = small_cnn(len(sounds.CLASSES), **train.ARGUMENTS)
    again.load_state_dict(checkpoint.read(tmp_path / "new.safetensors").weights())
    assert train.accuracy(again, *train.read(manifest, "validation")) == pytest.approx(trained.accuracy)


def test_shipped_weights_reach_what_they_state(manifest: Path) -> None:
    inputs, labels = train.read(manifest, "validation")
    one_clip = 1 / len(labels)
    assert train.accuracy(_shipped(), inputs, labels) == pytest.approx(_stated()["validation_accuracy"], abs=one_clip)
    assert WEIGHTS.stat().st_size < 1_000_000


def test_shipped_network_is_useful_and_not_perfect_on_unheard_sources(manifest: Path) -> None:
    assert 0.7 < train.accuracy(_shipped(), *train.read(manifest, "test")) < 0.95


def test_the_checkpoint_needs_no_other_setting() -> None:
    settings = sources.resolve(checkpoint.settings_of_file(WEIGHTS))
    assert (settings.frontend, settings.segment) == (train.FRONTEND, train.SEGMENT)
    assert settings.network.classes == tuple(sounds.CLASSES)
    assert settings.network.name == "gramcli.demo.network:small_cnn"
    network = sources.resolve(
        checkpoint.settings_of_file(WEIGHTS),
        sources.source({"network": {"weights": str(WEIGHTS)}}, "test", Path.cwd()),
    ).network
    built = build.build(network, len(sounds.CLASSES), 0, RunContext())
    inputs = frontend.build(settings.frontend)(torch.randn(2, frontend.samples(settings.frontend, settings.segment)))
    torch.testing.assert_close(built.module(inputs), _shipped()(inputs))


def test_network_has_six_relu_layers_after_batch_norm() -> None:
    module = small_cnn(3, width=4)
    relus = [name for name, part in module.named_modules() if isinstance(part, torch.nn.ReLU)]
    assert relus == [f"layer{n}.relu" for n in range(1, 7)]
    assert module(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    kinds = [type(part).__name__ for part in module.layer6]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU"]


def test_main_saves_where_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sounds, "SOURCES", {"train": 1, "validation": 1})
    monkeypatch.setattr(sounds, "CLIPS", 2)
    out = tmp_path / "small.safetensors"
    monkeypatch.setattr("sys.argv", ["train", "--out", str(out), "--epochs", "1", "--seed", "7"])
    train.main()
    assert "epoch   1  validation" in capsys.readouterr().out
    assert checkpoint.metadata(out) == checkpoint.metadata(WEIGHTS)
    with safe_open(out, framework="numpy") as file:
        assert json.loads(file.metadata()["training"])["seed"] == 7
