"""What is on disk and how it is checked."""

from gramcli.cache.external import write

__all__ = ["write"]
