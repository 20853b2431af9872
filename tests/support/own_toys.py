"""Counts the networks of the tests as gramcli's own, so that settings files and caches may name them."""

from __future__ import annotations

import re
from pathlib import Path

from gramcli.network import code_trust


def count_as_own() -> None:
    """Adds the toys to what comes with gramcli, in this process."""
    for module in ("toys", "training_toys"):
        names = re.findall(r"^(?:class|def) (\w+)", Path(__file__).with_name(f"{module}.py").read_text(), re.MULTILINE)
        code_trust.BUNDLED_FACTORIES.update(
            {f"tests.support.{module}:{name}": frozenset(("in_chans", "inplace")) for name in names}
        )
