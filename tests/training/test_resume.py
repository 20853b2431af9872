from __future__ import annotations

import pytest
import torch

from gramcli.errors import ArtefactError, DamagedError
from gramcli.training.resume import ResumeFile, TrainingState
from tests.support.training_toys import Small

IDENTITY = {"architecture": "toy", "train": {"batch": 8}}


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
        3, network.state_dict(), optimiser.state_dict(), best, 2, 0.75, [(1.0, 0.5), (0.5, 0.75), (0.4, 0.7)]
    )
    return state, network, optimiser


def test_what_is_written_is_read(tmp_path):
    state, network, optimiser = trained()
    ResumeFile(tmp_path / "w.resume", IDENTITY).write(state)
    read = ResumeFile(tmp_path / "w.resume", IDENTITY).read()
    assert (read.epoch, read.best_epoch, read.accuracy, read.history) == (3, 2, 0.75, state.history)
    for name, tensor in network.state_dict().items():
        assert torch.equal(read.weights[name], tensor)
        assert torch.equal(read.best[name], tensor + 1)
        assert read.weights[name].dtype == tensor.dtype
    again = torch.optim.RAdam(network.parameters(), lr=0.5)
    again.load_state_dict(read.optimiser)
    for parameter in network.parameters():
        for key, value in optimiser.state[parameter].items():
            assert torch.equal(again.state[parameter][key], value)
    assert again.param_groups[0]["lr"] == 0.01


def test_no_file_is_a_start(tmp_path):
    resume_file = ResumeFile(tmp_path / "w.resume", IDENTITY)
    assert resume_file.read() == TrainingState()
    resume_file.remove()


def test_another_training_is_refused_by_name(tmp_path):
    ResumeFile(tmp_path / "w.resume", IDENTITY).write(trained()[0])
    other = ResumeFile(tmp_path / "w.resume", {**IDENTITY, "train": {"batch": 9}})
    with pytest.raises(ArtefactError, match=r"w\.resume: .*\(train\.batch: 8 → 9\); .* delete the file"):
        other.read()


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "w.resume"
    ResumeFile(path, IDENTITY).write(trained()[0])
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=r"w\.resume: is damaged .*; delete it to begin the training anew"):
        ResumeFile(path, IDENTITY).read()


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
