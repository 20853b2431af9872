"""A view: the descriptors of all clips from one network, one front end and one condition, in numbered shards.

``views/<name>/view.json`` holds the identity: everything that the numbers depend on. Its SHA-256 is the fingerprint,
which every shard holds too. The file also records paths, settings and versions, which are not in the fingerprint.

A shard is finished when its file has its final name; nothing else marks progress. Shards never change. If some rows of
shard 17 are computed again, a new generation ``00017.1.h5`` is written beside ``00017.h5``. The latest generation is
read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from gramcli import json_values
from gramcli.cache import inventory, regular_file, shard
from gramcli.errors import ArtefactError, DamagedError, NewerError
from gramcli.identity import Identity, canonical, differences, fingerprint, require_identity
from gramcli.system import durable_files
from gramcli.text import shown

FORMAT = 1
CLEAN = "clean"

_SHARD = re.compile(r"([0-9]{5}|[1-9][0-9]{5,9})(?:\.([1-9][0-9]{0,9}))?\.h5")


def _with_digest(content: Mapping[str, Any]) -> bytes:
    """Returns the text of ``view.json``, with the SHA-256 of its content."""
    digest = hashlib.sha256(canonical(content)).hexdigest()
    return json.dumps({**content, "sha256": digest}, indent=1).encode() + b"\n"


@dataclass(frozen=True)
class _Checked:
    """What was already checked in one shard."""

    stamp: tuple[int, ...] | None
    """State of the file whose digest was checked, from `_stamp`."""
    arrays: frozenset[tuple[str, bool]]
    """Layers whose numbers were checked, each with True if its channel means were checked too."""


_NOT_CHECKED = _Checked(None, frozenset())


@dataclass(frozen=True)
class View:
    """An opened view of a cache."""

    folder: Path
    identity: Identity
    recorded: Mapping[str, Any]
    """Not in the fingerprint: paths, settings of the last extract, versions."""
    _checked: dict[int, _Checked] = field(default_factory=dict, compare=False, repr=False)
    """What was checked in each shard, so that several passes over the shards check each number once."""
    _generations: dict[int, list[int]] = field(default_factory=dict, compare=False, repr=False)
    """Generations by shard, as of the last listing of the folder."""

    @property
    def cache(self) -> Path:
        """Folder of the cache."""
        return self.folder.parents[1]

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
    def numbers_per_clip(self) -> int:
        """Number of numbers in one row of a shard, without logits."""
        return sum(self.layers.values()) * (2 if self.with_means else 1)

    @property
    def numbers_per_row(self) -> int:
        """Number of numbers in one row of a shard, with logits."""
        return self.numbers_per_clip + len(self.outputs)

    @property
    def bytes_per_clip(self) -> int:
        """Number of bytes of one row of a shard on disk."""
        return shard.row_bytes(self.numbers_per_row)

    @classmethod
    def open(cls, cache: Path, name: str = CLEAN) -> View:
        """Opens a view that extract has written.

        Raises:
            ArtefactError: Nothing was extracted yet, or a newer gramcli wrote the view.
            DamagedError: ``view.json`` is damaged.
        """
        folder = cache / "views" / name
        path = folder / "view.json"
        content = regular_file.read(path, "view", cache)
        if content is None:
            if folds := inventory.fold_caches(cache):  # a cross-validation keeps one cache for each fold
                raise ArtefactError(
                    f"{shown(cache)}: no extracted clips there but those of {len(folds)} folds; name the cache of one "
                    f"with --cache {shown(folds[0])}"
                )
            raise ArtefactError(f"{shown(cache)}: no extracted clips there; run gramcli extract first")
        try:
            stored = json_values.parse(content)
            digest = stored.pop("sha256")
            newer = _version(stored["format"]) > FORMAT
            # a file of this format must be equal to the byte, white space included
            intact = hashlib.sha256(canonical(stored)).hexdigest() == digest and (
                newer or content == _with_digest(stored)
            )
            view = cls(folder, stored["identity"], dict(stored["recorded"]))
            if not newer:
                require_identity(view.identity)
                _require_recorded(view.recorded)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            intact = False
        if not intact:
            raise DamagedError(
                f"{shown(path)}: is damaged; restore it, or move {shown(folder)} away and run gramcli extract again"
            )
        if newer:
            raise NewerError(f"{shown(path)}: was made by a newer gramcli (format {stored['format']}); update gramcli")
        return view

    @classmethod
    def create(cls, cache: Path, identity: Identity, recorded: Mapping[str, Any], name: str = CLEAN) -> View:
        """Opens or creates a view for writing, and removes temporary files of writers that were killed.

        Raises:
            ArtefactError: A view of this name has another identity. The message names each differing field.
        """
        folder = cache / "views" / name
        if inventory.holds(cache, folder / "view.json"):
            cls.open(cache, name).require(identity)
        durable_files.make_folder(folder / "shards", below=cache)
        cls(folder, {}, {}).sweep()
        # through JSON and back, so that a new view is equal to the same view when it is opened again
        content = json.loads(canonical({"format": FORMAT, "identity": identity, "recorded": recorded}))
        durable_files.write(folder / "view.json", _with_digest(content), below=cache)
        return cls(folder, content["identity"], content["recorded"])

    def sweep(self) -> None:
        """Removes temporary files that killed writers left in the folder of the view."""
        for one in (self.folder, self.folder / "shards"):
            durable_files.sweep(one, below=self.cache)

    def require(self, identity: Identity) -> None:
        """Raises an ArtefactError that names each field in which the view differs from this identity."""
        changed = differences(self.identity, identity)
        if changed:
            listed = "; ".join(changed)
            raise ArtefactError(
                f"{shown(self.folder)}: was extracted otherwise ({listed}); undo that or use another --cache"
            )

    def path(self, number: int, generation: int | None = None) -> Path:
        """Returns the path of a shard, whether it exists or not; of its latest generation if None."""
        if generation is None:
            generation = self.generations(number)[-1]
        return self.folder / "shards" / (f"{number:05d}.{generation}.h5" if generation else f"{number:05d}.h5")

    def generations(self, number: int) -> list[int]:
        """Returns the generations of a shard, ascending; [0] if the shard does not exist yet."""
        if not self._generations:
            self.present()
        return self._generations.get(number, [0])

    def present(self) -> set[int]:
        """Returns the numbers of the finished shards."""
        found: dict[int, list[int]] = {}
        for name in filter(None, map(shard_name, inventory.names(self.cache, self.folder / "shards"))):
            found.setdefault(name[0], []).append(name[1])
        for gone in set(list(self._generations)) - found.keys():
            self._generations.pop(gone, None)
        # in one step: a thread that found the table empty meanwhile would read an earlier generation
        self._generations.update({number: sorted(those) for number, those in found.items()})
        return set(found)

    def read(
        self,
        number: int,
        layers: Iterable[str] | None = None,
        *,
        with_means: bool = False,
        generation: int | None = None,
    ) -> shard.Shard:
        """Reads one shard, and checks what was not checked before.

        Args:
            number: Number of the shard.
            layers: Layers to read; all if None.
            with_means: Whether to read channel means as well.
            generation: Generation of the shard; the latest if None.

        Raises:
            DamagedError: The file is missing or damaged.
            ResourceError: The file cannot be read.
            ArtefactError, UnsafeError: See `shard.decode`.
        """
        channels = self.layers
        wanted = channels if layers is None else {layer: channels[layer] for layer in layers}
        path = self.path(number, generation)
        stamp, content = self._stamp(path), shard.read_bytes(path, self.cache)
        if content is None and generation is None:
            # another process may have written a later generation and deleted this one since the folder was listed
            self.present()
            path = self.path(number)
            stamp, content = self._stamp(path), shard.read_bytes(path, self.cache)
        if content is None:
            raise DamagedError(f"{shown(path)}: is missing; run gramcli extract again")
        before = self._checked.get(number, _NOT_CHECKED)
        if before.stamp != stamp:
            before = _NOT_CHECKED
        if stamp is None or before is _NOT_CHECKED:
            shard.check(content, path)
        rows = shard.decode(content, path, self.fingerprint, wanted, with_means=with_means)
        new = {(layer, with_means) for layer in wanted} - before.arrays
        shard.require_finite(rows, path, [layer for layer, _ in new])
        if stamp is not None and self._stamp(path) == stamp:
            self._checked[number] = _Checked(stamp, before.arrays | new)
        return rows

    def _stamp(self, path: Path) -> tuple[int, ...] | None:
        """Returns file attributes that change when the content changes; None if there is no file."""
        about = inventory.status(self.cache, path)
        if about is None:
            return None
        return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns

    def write(self, number: int, rows: shard.Shard, generation: int = 0) -> bool:
        """Writes one shard durably. If another process wrote the same number and generation first, its file stays.

        Returns:
            Whether the file now holds these very bytes.

        Raises:
            ResourceError: The file cannot be written. Other shards do not change.
        """
        content = shard.encode(rows, self.fingerprint)
        path = self.path(number, generation)
        try:
            durable_files.write(path, content, replace=False, below=self.cache)
        except FileExistsError:
            return shard.read_bytes(path, self.cache) == content
        self._generations.setdefault(number, []).append(generation)
        return True


def _version(stored: Any) -> int:
    """Returns the format of a view; raises a ValueError if it is no whole number from 1 on."""
    if not isinstance(stored, int) or isinstance(stored, bool) or stored < 1:
        raise ValueError("format")
    return stored


def _require_recorded(recorded: Mapping[str, Any]) -> None:
    """Raises a TypeError unless the settings, folder and versions that extract recorded have their types."""
    settings, versions = recorded.get("settings", {}), recorded.get("versions", {})
    tables = isinstance(settings, dict) and all(isinstance(table, dict) for table in settings.values())
    if not tables or not isinstance(versions, dict) or not isinstance(recorded.get("folder", ""), str):
        raise TypeError("settings, folder or versions")


def shard_name(name: str) -> tuple[int, int] | None:
    """Returns the number and generation in the name of a shard; None for any other file."""
    found = _SHARD.fullmatch(name)
    return None if found is None else (int(found[1]), int(found[2] or 0))


def names(cache: Path) -> list[str]:
    """Returns the names of the views of a cache, the clean view first.

    Raises:
        DamagedError: Something other than a folder stands in the place of one.
    """
    folder = cache / "views"
    found = [name for name in inventory.folders(cache, folder) if inventory.holds(cache, folder / name / "view.json")]
    return sorted(found, key=lambda name: name != CLEAN)
