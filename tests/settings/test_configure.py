"""The settings of a run, put together from all their sources."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gramcli.audio.limits import Limits
from gramcli.errors import ArtefactError, UnsafeError, UsageError
from gramcli.settings import configure as c
from gramcli.settings.configure import (
    OwnNetwork,
    cache_folder,
    complete,
    configure,
    configure_stored,
    names_extract,
    origin_of_network,
    own_network,
)
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import Settings
from gramcli.settings.sources import Source

METADATA = Source("net.safetensors", {"frontend": {"n_mels": 40}, "network": {"name": "resnet18"}})


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_source_wins_over_the_one_before_it(folder, monkeypatch):
    earlier = {"network": {"weights": "net.safetensors"}, "run": {"batch": 1, "threads": 1, "decoders": 1}}
    (folder / "gramcli.toml").write_text("[run]\nbatch = 2\nthreads = 2\n[calibrate]\nepsilon = 0.2\n")
    monkeypatch.setenv("GRAMCLI_RUN_BATCH", "3")
    context = RunContext({"decision": {"rule": "fused"}})
    settings = configure(context, preset="paper", earlier=earlier, metadata=lambda path: METADATA)
    assert (settings.run.batch, settings.run.threads, settings.run.decoders) == (3, 2, 1)
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


def test_a_cache_that_is_a_link_must_be_named(folder, monkeypatch):
    """A link in a project of somebody else could send what is written to any folder."""
    (folder / "elsewhere" / "cache").mkdir(parents=True)
    (folder / ".gramcli").symlink_to("elsewhere")
    (folder / "way").symlink_to("elsewhere")
    for attempt in (lambda: cache_folder(RunContext()), lambda: cache_folder(RunContext(), {"run": {"batch": 1}})):
        with pytest.raises(UnsafeError, match=r"^\.gramcli: is a link; .* name it with --cache"):
            attempt()
    assert cache_folder(RunContext({"cache": {"dir": ".gramcli"}})) == folder / ".gramcli"
    assert cache_folder(RunContext(), {"cache": {"dir": ".gramcli"}}) == folder / ".gramcli"
    for value in (".gramcli", "way/cache"):
        (folder / "gramcli.toml").write_text(f'[cache]\ndir = "{value}"\n')
        for context in (RunContext(), RunContext(config=folder / "gramcli.toml")):
            with pytest.raises(UnsafeError, match=r"(way|\.gramcli): is a link"):
                cache_folder(context)
    monkeypatch.setenv("GRAMCLI_CACHE_DIR", "way/cache")
    assert cache_folder(RunContext()) == folder / "way" / "cache"


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
    assert own_network(context) == OwnNetwork(None, {"width": 2})
    with pytest.raises(UsageError, match=r"^settings: unknown section \[dta\]"):
        complete({"dta": {}}, RunContext())


def test_complete_settings_stay_as_they_are():
    settings, context = Settings(), RunContext({"run": {"batch": 3}})
    assert complete(settings, context) == (settings, context)


def test_a_settings_file_is_not_the_users_own_word(folder, monkeypatch):
    (folder / "gramcli.toml").write_text('[network]\nname = "evil:make"\nargs = {width = 3}\n')
    assert own_network(RunContext()) == own_network(RunContext(config=folder / "gramcli.toml")) == OwnNetwork()
    assert origin_of_network(RunContext(), "evil:make") == "gramcli.toml"
    assert origin_of_network(RunContext(), "other:make") is None
    monkeypatch.setenv("GRAMCLI_NETWORK_NAME", "mine:make")
    monkeypatch.setenv("GRAMCLI_NETWORK_ARGS", "width=4")
    assert own_network(RunContext()) == OwnNetwork("mine:make", {"width": 4})
    context = RunContext({"network": {"name": "other:make", "args": {"depth": 1}}})
    assert own_network(context) == OwnNetwork("other:make", {"width": 4, "depth": 1})


def test_the_cache_and_whether_an_extract_is_named_are_known_without_a_checkpoint(folder):
    assert cache_folder(RunContext({"cache": {"dir": "x"}})) == folder / "x"
    assert cache_folder(RunContext()) == Path(".gramcli")
    assert not names_extract(RunContext({"run": {"batch": 1}}))
    for section, key in (("network", "name"), ("network", "weights"), ("data", "manifest")):
        assert names_extract(RunContext({section: {key: "x"}}))
