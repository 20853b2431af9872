"""What the user said about the network, apart from what files say: a settings file may have come from somebody else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gramcli.settings.configure import explicit
from gramcli.settings.run_context import RunContext


@dataclass(frozen=True)
class UserNetwork:
    """What the user named: by flags, environment variables, or values that a Python caller passes."""

    name: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)


def user_network(context: RunContext) -> UserNetwork:
    """Returns name and arguments of the network that the user named; what a settings file names does not count."""
    named = [one.values.get("network", {}) for one in explicit(context) if one.by_user]
    name = next((one["name"] for one in reversed(named) if "name" in one), None)
    return UserNetwork(name, {key: value for one in named for key, value in one.get("args", {}).items()})


def origin_of_network(context: RunContext, name: str) -> str | None:
    """Returns who names a network, for messages.

    Returns:
        ``you``, ``GRAMCLI_NETWORK_NAME`` or the settings file, whichever wins; None if none of these names it.
    """
    for one in reversed(explicit(context)):
        if one.values.get("network", {}).get("name") == name:
            if one.by_user:
                return "GRAMCLI_NETWORK_NAME" if one.origin == "environment" else "you"
            return one.origin
    return None
