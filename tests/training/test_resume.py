from __future__ import annotations

import numpy as np
import pytest
import torch

from gramcli.cache import sealed, sealed_writer
from gramcli.errors import ArtefactError, DamagedError
from gramcli.settings.schema import TrainSettings
from gramcli.training.resume import ResumeFile, TrainingState
from tests.support.training_toys import Small

IDENTITY = {"architecture": "toy", "train": {"batch": 8}}
RECIPE = TrainSettings(epochs=5)


def trained() -> tuple[TrainingState, torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = Small()
    optimiser = torch.optim.RAdam(network.parameters(), lr=0.01)
    for _ in range(3):
        optimiser.zero_grad()
        network(torch.randn(4, 1, 16, 16)).square().sum().backward()
        optimiser.step()
    best = {name: tensor.clone() + 1 for name, tensor in network.state_dict().items()}
    state = TrainingState(
        3, network.state_dict(), optimiser.state_dict()["state"], best, 2, 0.75, [(1.0, 0.5), (0.5, 0.75), (0.4, 0.7)]
    )
    return state, network, optimiser


def test_what_is_written_is_read(tmp_path):
    state, network, optimiser = trained()
    ResumeFile(tmp_path / "w.resume", IDENTITY).write(state)
    read = ResumeFile(tmp_path / "w.resume", IDENTITY).read(Small(), RECIPE)
    assert (read.epoch, read.best_epoch, read.accuracy, read.history) == (3, 2, 0.75, state.history)
    for name, tensor in network.state_dict().items():
        assert torch.equal(read.weights[name], tensor)
        assert torch.equal(read.best[name], tensor + 1)
        assert read.weights[name].dtype == tensor.dtype
    again = torch.optim.RAdam(network.parameters(), lr=0.5)
    again.load_state_dict({**again.state_dict(), "state": read.moments})
    for parameter in network.parameters():
        for key, value in optimiser.state[parameter].items():
            assert torch.equal(again.state[parameter][key], value)


def test_no_file_is_a_start(tmp_path):
    resume_file = ResumeFile(tmp_path / "w.resume", IDENTITY)
    assert resume_file.read(Small(), RECIPE) == TrainingState()
    resume_file.remove()


def test_another_training_is_refused_by_name(tmp_path):
    ResumeFile(tmp_path / "w.resume", IDENTITY).write(trained()[0])
    other = ResumeFile(tmp_path / "w.resume", {**IDENTITY, "train": {"batch": 9}})
    with pytest.raises(ArtefactError, match=r"w\.resume: .*\(train\.batch: 8 → 9\); .* delete the file"):
        other.read(Small(), RECIPE)


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "w.resume"
    ResumeFile(path, IDENTITY).write(trained()[0])
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=r"w\.resume: is damaged .*; delete it to begin the training anew"):
        ResumeFile(path, IDENTITY).read(Small(), RECIPE)


def _forge(path, change):
    ResumeFile(path, IDENTITY).write(trained()[0])
    file = sealed.load(path, "training")
    tensors, about = {name: file[name].copy() for name in file.names}, dict(file.about)
    change(tensors, about)
    sealed_writer.write(path, "training", tensors, about)


@pytest.mark.parametrize(
    ("tensor", "wrong"),
    [
        ("weights/0.weight", np.zeros(3, "f4")),
        ("weights/0.weight", np.full((8, 1, 3, 3), np.nan, "f4")),
        ("weights/0.weight", None),
        ("best/0.weight", np.zeros(3, "f4")),
        ("best/0.weight", np.full((8, 1, 3, 3), np.inf, "f4")),
        ("best/0.weight", np.zeros((8, 1, 3, 3), "f8")),
        ("best/0.weight", None),
        ("best/foo", np.zeros(3, "f4")),
        ("optimiser/0/exp_avg", np.zeros(3, "f4")),
        ("optimiser/0/exp_avg", np.full((8, 1, 3, 3), np.nan, "f4")),
        ("optimiser/0/exp_avg_sq", np.full((8, 1, 3, 3), -1, "f4")),
        ("optimiser/0/exp_avg", None),
        ("optimiser/0/step", np.zeros(2, "f4")),
        ("optimiser/0/step", np.array(-5, "f4")),
        ("optimiser/0/momentum_buffer", np.zeros((8, 1, 3, 3), "f4")),
        ("optimiser/-1/exp_avg", np.zeros(3, "f4")),
        ("optimiser/9999/exp_avg", np.zeros(3, "f4")),
        ("optimiser/x/exp_avg", np.zeros(3, "f4")),
        ("other", np.zeros(3, "f4")),
    ],
)
def test_a_forged_tensor_is_refused(tmp_path, tensor, wrong):
    def change(tensors, about):
        tensors.pop(tensor, None)
        if wrong is not None:
            tensors[tensor] = wrong

    _forge(tmp_path / "w.resume", change)
    with pytest.raises(DamagedError, match=r"w\.resume: .*; delete it to begin the training anew"):
        ResumeFile(tmp_path / "w.resume", IDENTITY).read(Small(), RECIPE)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epoch", 0), ("epoch", 6), ("epoch", 2), ("epoch", True), ("epoch", "3"), ("best_epoch", 0), ("best_epoch", 4),
        ("accuracy", 2.0), ("accuracy", 0.5), ("accuracy", "0.75"), ("history", []), ("history", [[1, 2]] * 3),
        ("history", [["1", 0.75]] * 3), ("history", [1, 2, 3]), ("history", None), ("history", [[1, 0.75, 0]] * 3),
    ],
)  # fmt: skip
def test_a_forged_number_is_refused(tmp_path, key, value):
    _forge(tmp_path / "w.resume", lambda tensors, about: about.update({key: value}))
    with pytest.raises(DamagedError, match=r"w\.resume: .*; delete it to begin the training anew"):
        ResumeFile(tmp_path / "w.resume", IDENTITY).read(Small(), RECIPE)


def test_settings_of_the_optimiser_in_a_file_do_not_count(tmp_path):
    groups = [{"lr": "x", "betas": ["a", "b"], "params": [0]}]  # which earlier versions wrote
    _forge(tmp_path / "w.resume", lambda tensors, about: about.update(groups=groups))
    assert ResumeFile(tmp_path / "w.resume", IDENTITY).read(Small(), RECIPE).epoch == 3


def test_writing_takes_little_of_the_time(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("gramcli.training.resume.time.monotonic", lambda: now[0])
    writes = []

    def write(*_: object, **__: object) -> None:
        writes.append(now[0])
        now[0] += 2.0

    monkeypatch.setattr("gramcli.training.resume.sealed_writer.write", write)
    state = trained()[0]
    resume_file = ResumeFile(tmp_path / "w.resume", IDENTITY)
    for _ in range(100):
        resume_file.write(state)
        now[0] += 1.0
    assert writes[0] == 100.0
    assert 2.0 * len(writes) <= 0.06 * (now[0] - 100.0) + 2.0
    assert len(writes) > 1
