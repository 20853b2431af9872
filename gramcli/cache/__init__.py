"""What is on disk and how it is checked."""

from gramcli.cache.ingest import write

__all__ = ["write"]
