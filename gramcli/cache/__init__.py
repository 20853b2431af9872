"""The cache on disk: clip table, shards, statistics and decision, and the checks when they are read."""

from gramcli.cache.ingest import write

__all__ = ["write"]
