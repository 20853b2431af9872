"""Shared fixtures: seeded randomness, synthesised sounds, and the recordings beside the project."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from tests.support import own_toys

try:
    import torch
except ModuleNotFoundError:  # the rooms below the network are tested without it, too
    torch = None  # type: ignore[assignment]

pytest_plugins = ["tests.support.commands", "tests.support.caches", "tests.support.esc10"]

# the first call may import scipy, and machines are busy
hypothesis.settings.register_profile("gramcli", deadline=None)
hypothesis.settings.load_profile("gramcli")

own_toys.count_as_own()

SHARED = Path(__file__).parents[2] / "shared"


def shared(*parts: str) -> Path:
    """Returns a path of the data beside the project; skips the test where it is missing, but fails in CI."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        reason = f"{'/'.join(('..', 'shared', *parts))} is not beside the project"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


_THREADS = torch.get_num_threads() if torch else 0


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    """A stage sets the threads of torch for its process; the next test must compute as another process would.

    That is as many as there were at first: a fixture of a whole module may have set others before this one looks.
    """
    yield
    if torch:
        torch.set_num_threads(_THREADS)


_NETWORK = re.compile(r"^(import|from) (torch|gramcli\.(network|extraction|training))\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Without torch, passes over the modules that need a network."""
    if torch or collection_path.suffix != ".py":
        return None
    return _NETWORK.search(collection_path.read_text()) is not None or None


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20211)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GRAMCLI_* variable of the machine reaches a test, and no code that its user trusts."""
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nonexistent")
    for name in [name for name in os.environ if name.startswith("GRAMCLI_")]:
        monkeypatch.delenv(name)
