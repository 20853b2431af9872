"""A view: the same clips seen by one network through one front end under one condition.

``views/<name>/view.json`` says what makes its numbers what they are (the identity, whose SHA-256 is the fingerprint
that every shard carries) and, outside the fingerprint, what was merely recorded: paths, settings, versions. A shard
counts as done when it is there under its final name; nothing else marks progress. Shards never change: where some rows
were computed again, ``00017.1.h5`` stands beside ``00017.h5``, and of such generations the latest counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from gramcli.cache import shard
from gramcli.errors import ArtefactError, DamagedError, NewerError
from gramcli.identity import Identity, canonical, differences, fingerprint, require_identity
from gramcli.system import durable_files
from gramcli.text import shown

FORMAT = 1
CLEAN = "clean"

_SHARD = re.compile(r"(\d{5,})(?:\.([1-9]\d*))?\.h5")


def _sealed(content: Mapping[str, Any]) -> bytes:
    """Returns the text of ``view.json``, with the SHA-256 of what it says."""
    digest = hashlib.sha256(canonical(content)).hexdigest()
    return json.dumps({**content, "sha256": digest}, indent=1).encode() + b"\n"


@dataclass(frozen=True)
class _Checked:
    """What was found right in one shard."""

    stamp: tuple[int, ...] | None
    """The file that it was then, as `_stamp` tells it. Its digest was right."""
    arrays: frozenset[tuple[str, bool]]
    """Layers whose numbers were looked at, and whether with their channel means."""


_NOTHING = _Checked(None, frozenset())


@dataclass(frozen=True)
class View:
    """An opened view of a cache."""

    folder: Path
    identity: Identity
    recorded: Mapping[str, Any]
    """Outside the fingerprint: paths, settings of the last extract, versions."""
    _checked: dict[int, _Checked] = field(default_factory=dict, compare=False, repr=False)
    """What was found right in each shard, so that several passes over the shards check each number once."""
    _generations: dict[int, list[int]] = field(default_factory=dict, compare=False, repr=False)
    """Of the shards that were there when the folder was last looked at."""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the identity."""
        return fingerprint(self.identity)

    @cached_property
    def layers(self) -> dict[str, int]:
        """Channels by layer, in the order of the forward pass."""
        return {name: channels for name, channels in self.identity["layers"]}

    @property
    def outputs(self) -> tuple[str, ...]:
        """Labels of the network's outputs; none with ``head = "none"``."""
        return tuple(self.identity["outputs"]) if self.identity["head"] == "map" else ()

    @property
    def with_means(self) -> bool:
        """Whether shards hold channel means beside descriptors."""
        return bool(self.identity.get("with_means", False))

    @property
    def numbers_a_clip(self) -> int:
        """How many numbers a row of a shard holds, logits aside."""
        return sum(self.layers.values()) * (2 if self.with_means else 1)

    @property
    def bytes_a_clip(self) -> int:
        """How many bytes a row of a shard takes on disk."""
        return shard.row_bytes(self.numbers_a_clip + len(self.outputs))

    @classmethod
    def open(cls, cache: Path, name: str = CLEAN) -> View:
        """Opens what an earlier extract made.

        Raises:
            ArtefactError: Nothing was extracted yet, or a newer gramcli made it.
            DamagedError: ``view.json`` is not as it was written.
        """
        folder = cache / "views" / name
        path = folder / "view.json"
        if not os.path.lexists(path):
            if folds := sorted(cache.glob("folds/*/views")):  # of a cross-validation
                raise ArtefactError(
                    f"{shown(cache)}: no extracted clips there but those of {len(folds)} folds; name the cache of one "
                    f"with --cache {shown(folds[0].parent)}"
                )
            raise ArtefactError(f"{shown(cache)}: no extracted clips there; run gramcli extract first")
        try:
            content = shard.read_bytes(path)
            stored = json.loads(content)
            digest = stored.pop("sha256")
            newer = stored["format"] > FORMAT
            # to the byte, white space and all, where it is known how it was written
            whole = hashlib.sha256(canonical(stored)).hexdigest() == digest and (newer or content == _sealed(stored))
            view = cls(folder, stored["identity"], dict(stored["recorded"]))
            if not newer:
                require_identity(view.identity)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            whole = False
        if not whole:
            raise DamagedError(f"{shown(path)}: is damaged; restore it, or move {shown(folder)} away and extract again")
        if newer:
            raise NewerError(f"{shown(path)}: was made by a newer gramcli (format {stored['format']}); update it")
        return view

    @classmethod
    def create(cls, cache: Path, identity: Identity, recorded: Mapping[str, Any], name: str = CLEAN) -> View:
        """Opens a view that has this identity, or makes it, for a writer: what killed ones left is swept away.

        Raises:
            ArtefactError: A view of that name has another identity; each differing field is named.
        """
        folder = cache / "views" / name
        if os.path.lexists(folder / "view.json"):
            cls.open(cache, name).require(identity)
        durable_files.make_folder(folder / "shards")
        cls.sweep(folder)
        # settings that were just parsed and the same settings read back from JSON must be the same
        content = json.loads(canonical({"format": FORMAT, "identity": identity, "recorded": recorded}))
        durable_files.write(folder / "view.json", _sealed(content))
        return cls(folder, content["identity"], content["recorded"])

    @staticmethod
    def sweep(folder: Path) -> None:
        """Removes what killed writers left in the folder of a view."""
        for swept in (folder, folder / "shards"):
            durable_files.sweep(swept)

    def require(self, identity: Identity) -> None:
        """Raises an ArtefactError that names each field in which the view differs from this identity."""
        changed = differences(self.identity, identity)
        if changed:
            what = "; ".join(changed)
            raise ArtefactError(
                f"{shown(self.folder)}: was extracted otherwise ({what}); undo that or use another --cache"
            )

    def path(self, number: int, generation: int | None = None) -> Path:
        """Returns where a shard is or will be; its latest generation if none is named."""
        if generation is None:
            generation = self.generations(number)[-1]
        return self.folder / "shards" / (f"{number:05d}.{generation}.h5" if generation else f"{number:05d}.h5")

    def generations(self, number: int) -> list[int]:
        """Returns the generations of a shard, the latest last; its first, 0, also where there is none yet."""
        if not self._generations:
            self.present()
        return self._generations.get(number, [0])

    def present(self) -> set[int]:
        """Returns the numbers of the shards that are done."""
        found: dict[int, list[int]] = {}
        for path in (self.folder / "shards").glob("*.h5"):
            if name := shard_name(path):
                found.setdefault(name[0], []).append(name[1])
        self._generations.clear()
        self._generations.update((number, sorted(those)) for number, those in found.items())
        return set(found)

    def read(
        self,
        number: int,
        layers: Iterable[str] | None = None,
        *,
        with_means: bool = False,
        generation: int | None = None,
    ) -> shard.Shard:
        """Reads one shard, all layers if None; see `path` for its generation, `shard.decode` for what is raised."""
        path, channels = self.path(number, generation), self.layers
        wanted = channels if layers is None else {layer: channels[layer] for layer in layers}
        stamp = _stamp(path)
        content = shard.read_bytes(path)
        before = self._checked.get(number, _NOTHING)
        if before.stamp != stamp:
            before = _NOTHING
        if stamp is None or before is _NOTHING:
            shard.check(content, path)
        rows = shard.decode(content, path, self.fingerprint, wanted, with_means=with_means)
        new = {(layer, with_means) for layer in wanted} - before.arrays
        shard.require_finite(rows, path, [layer for layer, _ in new])
        if stamp is not None and _stamp(path) == stamp:
            self._checked[number] = _Checked(stamp, before.arrays | new)
        return rows

    def write(self, number: int, rows: shard.Shard, generation: int = 0) -> bool:
        """Commits one shard, durably. The first to commit a number and generation wins.

        Returns:
            Whether what is there now has these very bytes.

        Raises:
            ResourceError: It cannot be written; earlier shards are unharmed.
        """
        content = shard.encode(rows, self.fingerprint)
        path = self.path(number, generation)
        try:
            durable_files.write(path, content, replace=False)
        except FileExistsError:
            return shard.read_bytes(path) == content
        self._generations.setdefault(number, []).append(generation)
        return True


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Returns what changes with a file's content, or None if there is no file."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def shard_name(path: Path) -> tuple[int, int] | None:
    """Returns number and generation of the shard whose name this is; None for any other file."""
    name = _SHARD.fullmatch(path.name)
    return None if name is None else (int(name[1]), int(name[2] or 0))


def names(cache: Path) -> list[str]:
    """Returns the views of a cache by name, the clean one first."""
    found = sorted(path.parent.name for path in (cache / "views").glob("*/view.json"))
    return sorted(found, key=lambda name: name != CLEAN)
