"""Identities: what the content of a view, training or model depends on, its fingerprint, and how two of them differ."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from typing import Any

from gramcli.json_values import require_shallow
from gramcli.text import shown

_MOST = 1 << 31
"""Channels or outputs; a network with more cannot be run."""

Identity = Mapping[str, Any]
"""JSON values: format, architecture, arguments, weights, outputs, head, layers, frontend, segment, ..."""


def fingerprint(identity: Identity) -> str:
    """Returns the SHA-256 of an identity's canonical JSON."""
    return hashlib.sha256(canonical(identity)).hexdigest()


def file_digest(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file's content, in hexadecimal.

    Raises:
        OSError: It cannot be read, or is a folder, pipe or device; reading a pipe would wait for a writer.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    finally:
        os.close(descriptor)


def canonical(value: object) -> bytes:
    """Returns a JSON value as bytes, which are the same for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def differences(stored: Identity, wanted: Identity) -> list[str]:
    """Returns every field in which two identities differ, for a message, as ``field: stored → wanted``."""
    old, new = dict(_flat(stored)), dict(_flat(wanted))
    fields = [field for field in {**old, **new} if old.get(field) != new.get(field)]
    return [f"{shown('.'.join(field))}: {_short(old.get(field))} → {_short(new.get(field))}" for field in fields]


def require_identity(identity: Identity) -> None:
    """Raises a KeyError, TypeError or ValueError unless it can be encoded, and what gramcli uses of it is valid."""
    names, head, outputs = [], identity["head"], identity["outputs"]
    for name, channels in identity["layers"]:
        if not isinstance(name, str) or not _is_count(channels):
            raise ValueError("layers")
        names.append(name)
    labels = head == "map" and isinstance(outputs, list) and all(isinstance(label, str) for label in outputs)
    if len(set(names)) < len(names) or not (labels or (head == "none" and _is_count(outputs, 0))):
        raise ValueError("layers or outputs")
    if not isinstance(identity["architecture"], str):
        raise TypeError("architecture")
    if not isinstance(identity.get("with_means", False), bool) or not isinstance(identity.get("precision", ""), str):
        raise TypeError("with_means or precision")
    require_shallow(identity)
    canonical(identity)  # what has no canonical JSON, as NaN, has no fingerprint


def _is_count(value: object, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _MOST


def _flat(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """Yields path and bytes of each leaf. As in the fingerprint, 1, 1.0 and true differ, a tuple and a list do not."""
    if isinstance(value, Mapping) and (value or not path):
        for key in sorted(value):
            yield from _flat(value[key], (*path, key))
    else:
        yield path, canonical(value)


def _short(leaf: bytes | None) -> str:
    if leaf is None:
        return "absent"
    value = json.loads(leaf)
    text = "none" if value is None else shown(value if isinstance(value, str) else json.dumps(value))
    return text if len(text) <= 60 else f"{text[:40]}… ({len(value)} entries)" if isinstance(value, list) else text[:60]
