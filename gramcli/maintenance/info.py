"""``gramcli cache info``: describes what a cache holds and which steps have been run on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gramcli.cache import clip_table, decision, failures, inventory, statistics
from gramcli.cache.view import View, names
from gramcli.dataset.clip import SPLITS, UNKNOWN
from gramcli.errors import ArtefactError


def info(cache: Path) -> dict[str, Any]:
    """Describes a cache in plain values, without reading its shards.

    Raises:
        ArtefactError: There is no cache.
        DamagedError: ``view.json`` or ``clips.csv`` is not as it was written.
    """
    view, clips = View.open(cache), clip_table.require(cache)
    used = [clip for clip in clips.rows if clip.split]
    present = view.present()
    reasons = failures.read(cache, view, clips.rows)
    splits = (*SPLITS, UNKNOWN)
    return {
        "cache": str(cache),
        "network": view.identity["architecture"],
        "weights": view.identity.get("weights", "not known"),
        "layers": len(view.layers),
        "channels": sum(view.layers.values()),
        "clips": {split: count for split in splits if (count := Counter(c.split for c in used)[split])},
        "classes": len({clip.label for clip in used if clip.label and clip.split != UNKNOWN}),
        "failed": sum(bool(clip.error or clip.key in reasons) for clip in used),
        "not extracted": sum(clip.shard is not None and clip.shard not in present for clip in used),
        "no longer listed": len(clips.rows) - len(used),
        "conditions": ", ".join(_condition(View.open(cache, name)) for name in names(cache)[1:]) or "none",
        "shards": len(present),
        "bytes": sum(
            about.st_size
            for number in present
            for generation in view.generations(number)
            if (about := inventory.status(cache, view.path(number, generation))) is not None
        ),
        "calibrated": _state(lambda: statistics.load(cache, view.fingerprint)),
        **_selected(cache, view),
        "fingerprint": view.fingerprint,
        "made with": view.recorded.get("versions", {}),
    }


def _condition(view: View) -> str:
    """Returns the condition of a view; its record may hold anything."""
    condition = view.recorded.get("condition")
    return condition if isinstance(condition, str) else f"not known ({view.folder.name})"


def _selected(cache: Path, view: View) -> dict[str, str]:
    """Returns whether layers are selected, and the strangeness above which a sound is unknown."""
    try:
        limit = decision.load(cache, statistics.load(cache, view.fingerprint)).rule.threshold
    except ArtefactError as error:
        return {"layers selected": f"no ({error})", "threshold": "none"}
    beyond = "none" if limit is None else f"{limit.value:.3f}, which {limit.promise}"
    return {"layers selected": "yes", "threshold": beyond}


def _state(read: Callable[[], object]) -> str:
    try:
        read()
    except ArtefactError as error:
        return f"no ({error})"
    return "yes"
