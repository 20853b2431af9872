"""What to do about a missing or damaged file of a cache, by the kind of file."""

from __future__ import annotations

_BY_KIND = {
    "view": "restore it, or move the folder that holds it away and run gramcli extract again",
    "clips": "delete it and run again what wrote it, gramcli extract or gramcli.cache.write",
    "failures": "delete it and run gramcli extract again",
    "shard": "gramcli cache verify --repair moves it away and computes its clips again",
    "statistics": "run gramcli calibrate again",
    "decision": "run gramcli select-layers again",
    "model": "make it again with gramcli export",
    "finished": "run gramcli extract again",
    "training": "delete it to begin the training anew",
}


def advice(kind: str) -> str:
    """Returns the end of a message about a file of a kind: a table of a cache, or a kind of sealed file.

    Args:
        kind: view, clips, failures, shard, statistics, decision, model, finished or training. Any other is answered in
            general, because a file states its kind itself.
    """
    return _BY_KIND.get(kind, "make it again")


SHARD = advice("shard")
"""What to do about a damaged shard."""
CHANGED = "changed while it was read; run the same command again"
"""What is said of a file that another program writes at this moment."""
