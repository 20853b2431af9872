"""The settings of a run, put together from all their sources."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gramcli.audio.limits import Limits
from gramcli.errors import ArtefactError, UsageError
from gramcli.settings import configure as c
from gramcli.settings.configure import complete, configure, configure_stored, names_extract
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import RunSettings, Settings
from gramcli.settings.sources import Source
from gramcli.settings.user_network import UserNetwork, user_network

METADATA = Source("net.safetensors", {"frontend": {"n_mels": 40}, "network": {"name": "resnet18"}})


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_source_wins_over_the_one_before_it(folder, monkeypatch):
    earlier = {"network": {"weights": "net.safetensors"}, "segment": {"seconds": 1, "channel": 1, "pad": "repeat"}}
    (folder / "gramcli.toml").write_text("[segment]\nseconds = 2\nchannel = 2\n[calibrate]\nepsilon = 0.2\n")
    monkeypatch.setenv("GRAMCLI_SEGMENT_SECONDS", "3")
    context = RunContext({"decision": {"rule": "fused"}})
    settings = configure(context, preset="paper", earlier=earlier, metadata=lambda path: METADATA)
    assert (settings.segment.seconds, settings.segment.channel, settings.segment.pad) == (3, 2, "repeat")
    assert (settings.frontend.n_mels, settings.network.name) == (40, "resnet18")
    assert (settings.calibrate.epsilon, settings.decision.rule, settings.decision.ranking) == (1e-6, "fused", "paper")


def test_metadata_is_read_only_where_a_reader_is_handed_over_and_a_checkpoint_named(folder):
    asked = []

    def reader(path):
        asked.append(path)
        return METADATA

    assert configure(RunContext(), metadata=reader).frontend.n_mels == 128
    assert configure(RunContext({"network": {"weights": "w"}})).frontend.n_mels == 128
    assert asked == []
    assert configure(RunContext({"network": {"weights": "w"}}), metadata=reader).frontend.n_mels == 40
    assert asked == [folder / "w"]


def test_a_cache_does_not_say_where_to_write(folder):
    earlier = Settings().as_dict() | {"cache": {"dir": "/somewhere/else", "clips_per_shard": 7}}
    settings = configure(RunContext(), earlier=earlier)
    assert (settings.cache.dir, settings.cache.clips_per_shard) == (".gramcli", 7)


def test_a_contradiction_of_the_metadata_is_refused_or_overridden():
    context = RunContext({"network": {"weights": "w"}, "frontend": {"n_mels": 64}})
    with pytest.raises(
        ArtefactError, match=r"the metadata of net\.safetensors contradicts the settings: frontend\.n_mels"
    ):
        configure(context, metadata=lambda path: METADATA)
    assert configure(context, metadata=lambda path: METADATA, override_metadata=True).frontend.n_mels == 64


def test_an_unknown_preset_is_refused():
    with pytest.raises(UsageError, match="unknown preset 'x'; there are paper"):
        configure(RunContext(), preset="x")


def test_stored_settings_change_only_in_how_the_network_runs_and_which_files_are_read():
    stored = {"frontend": {"n_mels": 40}, "run": {"batch": 4}, "network": {"name": "resnet18"}}
    context = RunContext({"frontend": {"n_mels": 64}, "run": {"batch": 2}, "data": {"max_seconds": 3, "seed": 7}})
    settings = configure_stored(context, stored)
    assert (settings.frontend.n_mels, settings.run.batch, settings.network.name) == (40, 2, "resnet18")
    assert (settings.data.max_seconds, settings.data.seed) == (3, 0)
    assert set(c.AUDIO_LIMITS) == {field.name for field in dataclasses.fields(Limits)}


def test_of_a_stored_run_only_the_precision_counts():
    run = {"precision": "bf16", "device": "cuda:7", "threads": 4096, "decoders": 1024, "batch": 2**20}
    for settings in (configure(RunContext(), earlier={"run": run}), configure_stored(RunContext(), {"run": run})):
        assert settings.run == RunSettings(precision="bf16")


def test_plain_values_are_completed_as_the_command_line_does(folder):
    (folder / "gramcli.toml").write_text("[run]\nbatch = 2\nthreads = 2\n")
    settings, context = complete(
        {"network": {"weights": "w", "args": {"width": 2}}, "run": {"batch": 3, "decoders": 1}},
        RunContext({"run": {"decoders": 5}}),
        lambda path: METADATA,
    )
    assert (settings.run.batch, settings.run.threads, settings.run.decoders) == (3, 2, 5)
    assert settings.frontend.n_mels == 40
    assert context.settings["run"] == {"batch": 3, "decoders": 5}
    assert user_network(context) == UserNetwork(None, {"width": 2})
    with pytest.raises(UsageError, match=r"^settings: unknown section \[dta\]"):
        complete({"dta": {}}, RunContext())


def test_complete_settings_stay_as_they_are():
    settings, context = Settings(), RunContext({"run": {"batch": 3}})
    assert complete(settings, context) == (settings, context)


def test_whether_an_extract_is_named_is_known_without_a_checkpoint(folder):
    assert not names_extract(RunContext({"run": {"batch": 1}}))
    for section, key in (("network", "name"), ("network", "weights"), ("data", "manifest")):
        assert names_extract(RunContext({section: {key: "x"}}))


def test_the_settings_file_is_read_once(folder):
    """One command must take its settings from the text that it decides with whom to trust."""
    (folder / "gramcli.toml").write_text("[run]\nbatch = 2\n")
    context = RunContext()
    assert configure(context).run.batch == 2
    (folder / "gramcli.toml").write_text("[run]\nbatch = 3\n")
    assert configure(dataclasses.replace(context, settings={"run": {"threads": 1}})).run.batch == 2
    assert configure(RunContext()).run.batch == 3
    (folder / "other.toml").write_text("[run]\nbatch = 4\n")
    assert configure(dataclasses.replace(context, config=folder / "other.toml")).run.batch == 4
