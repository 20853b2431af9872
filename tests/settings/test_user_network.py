"""What the user said about the network, and who is named in messages."""

from __future__ import annotations

from gramcli.settings.run_context import RunContext
from gramcli.settings.user_network import UserNetwork, origin_of_network, user_network


def test_a_settings_file_is_not_the_user(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gramcli.toml").write_text('[network]\nname = "evil:make"\nargs = {width = 3}\n')
    assert user_network(RunContext()) == user_network(RunContext(config=tmp_path / "gramcli.toml")) == UserNetwork()
    assert origin_of_network(RunContext(), "evil:make") == "gramcli.toml"
    assert origin_of_network(RunContext(), "other:make") is None
    monkeypatch.setenv("GRAMCLI_NETWORK_NAME", "mine:make")
    monkeypatch.setenv("GRAMCLI_NETWORK_ARGS", "width=4")
    assert user_network(RunContext()) == UserNetwork("mine:make", {"width": 4})
    assert origin_of_network(RunContext(), "mine:make") == "GRAMCLI_NETWORK_NAME"
    context = RunContext({"network": {"name": "other:make", "args": {"depth": 1}}})
    assert user_network(context) == UserNetwork("other:make", {"width": 4, "depth": 1})
    assert origin_of_network(context, "other:make") == "you"
