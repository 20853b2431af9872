"""Checkpoints: reads weights and metadata of a file, safely, and loads weights into a network.

Safetensors files may carry a JSON text under the metadata key ``gramcli``::

    {
        "architecture": "resnet18",
        "args": {"in_chans": 1},
        "classes": ["dog", "rain"],
        "frontend": {"mean": -15.4, "std": 21.4},
        "segment": {"seconds": 5.0},
    }

Of pickled files, only tensors and plain values are loaded, never code. A checkpoint is opened once and its bytes are
read once, so its digest, metadata and weights are of the same bytes. torch is imported only to read weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gramcli import json_values
from gramcli.errors import ArtefactError, UsageError
from gramcli.network.checkpoint_file import BLOCK, changed, first_line, header_of, opened, require_readable
from gramcli.settings import sources
from gramcli.text import shown

if TYPE_CHECKING:
    from torch import Tensor, nn

_PREFIXES = ("module.", "model.", "_orig_mod.")
_SETTINGS = {"architecture": "name", "args": "args", "classes": "classes"}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The bytes of a checkpoint, all read at one time, and what they say."""

    path: Path
    digest: str
    """SHA-256 of the bytes."""
    metadata: Mapping[str, Any]
    """``gramcli`` metadata of a safetensors file; {} where there is none."""
    _head: bytes
    """Length and header of a safetensors file; empty for a pickled file."""
    _body: bytearray
    """All bytes that follow."""

    def weights(self) -> dict[str, Tensor]:
        """Returns the weights by their names in the file; those of a safetensors file are views of its bytes.

        A pickled state dict may be part of a larger checkpoint, under ``state_dict``, ``model`` and the like.

        Raises:
            ArtefactError: It holds no weights, or tensors that cannot be weights.
            UnsafeError: It holds objects whose loading could run code.
        """
        from gramcli.network import stored_tensors

        if not self._head:
            return stored_tensors.of_pickle(self._body, self.path)
        return stored_tensors.of_safetensors(self._head, self._body, self.path)

    def require_stated(self, settings: Mapping[str, Mapping[str, Any]] | None) -> None:
        """Checks that this is the file whose metadata the settings of the run were put together from.

        Args:
            settings: `gramcli.settings.schema.Settings.stated`; nothing is checked if None.

        Raises:
            ArtefactError: Its metadata states other settings.
        """
        if settings is not None and settings_of_metadata(self.metadata, self.path).values != settings:
            raise changed(self.path)


def read(path: Path) -> Checkpoint:
    """Reads a checkpoint: all its bytes, once.

    Raises:
        NoInputError: The file cannot be read.
        ArtefactError: It is no safetensors file though it begins as one, or it changed while it was read.
        UnsafeError: It is an archive that torch.save does not write.
        ResourceError: It is larger than the memory of this machine.
    """
    with opened(path) as file:
        head, header = header_of(file)
        require_readable(file, head)
        file.seek(len(head))
        size, position, whole = file.size - len(head), 0, hashlib.sha256(head)
        body = bytearray(size)
        with memoryview(body) as view:
            while count := file.into(view[position : position + BLOCK]):
                whole.update(view[position : position + count])
                position += count
        file.require_unchanged(whole_read=position == size)
    return Checkpoint(path, whole.hexdigest(), _metadata(header, path), head, body)


def metadata(path: Path) -> dict[str, Any]:
    """Returns the ``gramcli`` metadata of a safetensors file, {} where there is none. Weights are not read.

    Raises:
        NoInputError: The file cannot be read.
        ArtefactError: The metadata is no JSON object.
    """
    with opened(path) as file:
        return _metadata(header_of(file)[1], path)


def identify(path: Path) -> tuple[str, dict[str, Any]]:
    """Returns the SHA-256 of a file and its metadata, of the same bytes, with little of it in memory.

    Raises:
        NoInputError, ArtefactError: As `read`.
    """
    with opened(path) as file:
        head, header = header_of(file)
        file.seek(len(head))
        whole, position, block = hashlib.sha256(head), len(head), bytearray(BLOCK)
        with memoryview(block) as view:
            while count := file.into(view[: file.size - position]):  # not more: it may grow as fast as it is read
                whole.update(view[:count])
                position += count
        file.require_unchanged(whole_read=position == file.size)
        return whole.hexdigest(), _metadata(header, path)


def settings_of_file(path: Path) -> sources.Source:
    """Returns the metadata of a checkpoint as a source of settings.

    Raises:
        NoInputError: The file cannot be read.
        ArtefactError: The metadata holds no valid settings.
    """
    return settings_of_metadata(metadata(path), path)


def settings_of_metadata(values: Mapping[str, Any], path: Path) -> sources.Source:
    """Returns metadata that was read already as a source of settings; see `settings_of_file`."""
    sections: dict[str, Any] = {
        "network": {key: values[name] for name, key in _SETTINGS.items() if name in values},
        "frontend": values.get("frontend", {}),
        "segment": values.get("segment", {}),
    }
    try:
        found = sources.source(sections, shown(path.name), path.parent)
        sources.require_moderate(sources.resolve(found), shown(path.name))
    except UsageError as error:  # the fault is in the file, not in a flag
        raise ArtefactError(f"{error} (gramcli metadata of {shown(path)})") from None
    return found


def load_into(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Loads weights into a network, in the network's own dtypes.

    Prefixes that wrappers add to names (``module.``, ``model.``, ``_orig_mod.``) are removed if more names fit then.

    Raises:
        ArtefactError: Names, shapes or kinds of number differ, or numbers are not finite in the network's dtype; the
            first of each are listed.
    """
    wanted = module.state_dict()
    state = max(_without_prefixes(state), key=lambda candidate: len(candidate.keys() & wanted.keys()))
    both = {name: (state[name], wanted[name]) for name in wanted if name in state}
    # The number of batches that a batch norm has seen is not used in eval mode, and old checkpoints lack it.
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    missing = [name for name in wanted if name not in state and name not in counters]
    extra = [name for name in state if name not in wanted]
    misshapen = [
        f"{name} {tuple(one.shape)} for {tuple(other.shape)}"
        for name, (one, other) in both.items()
        if one.shape != other.shape
    ]
    other_kind = [
        f"{name} {_type(one)} for {_type(other)}"
        for name, (one, other) in both.items()
        if _kind(one) != _kind(other) and name not in counters
    ]
    infinite = [name for name, pair in both.items() if not misshapen and not other_kind and not _finite(*pair)]
    kinds = {
        "missing": missing, "extra": extra, "misshapen": misshapen, "of another kind": other_kind,
        "not finite": infinite,
    }  # fmt: skip
    problems = [f"{len(names)} {kind}: {_some(names)}" for kind, names in kinds.items() if names]
    if problems:
        raise ArtefactError(
            f"{shown(path)}: does not fit the network: {'; '.join(problems)}; check network.name, network.args and "
            "network.classes"
        )
    module.load_state_dict(state, strict=False)


def _kind(tensor: Tensor) -> str:
    """Returns what a tensor's numbers are: floats are never loaded from integers, nor complex numbers from floats."""
    return "float" if tensor.is_floating_point() else "complex" if tensor.is_complex() else "whole"


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _finite(stored: Tensor, wanted: Tensor) -> bool:
    """Tells whether all numbers are finite in the dtype that they get: 1e300 is none in float32."""
    return _kind(wanted) == "whole" or bool(stored.to(wanted.dtype).isfinite().all())


def state_digest(module: nn.Module) -> str:
    """Returns the SHA-256 of the names, types, shapes and bytes of a network's weights, in their order."""
    import torch

    whole = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        whole.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return whole.hexdigest()


def _metadata(header: Mapping[str, Any], path: Path) -> dict[str, Any]:
    about = header.get("__metadata__", {})
    text = about.get("gramcli", "{}") if isinstance(about, dict) else None
    if not isinstance(text, str):
        raise ArtefactError(f"{shown(path)}: is no safetensors file: its metadata is no table of texts")
    try:
        values = json_values.parse(text)
    except ValueError as error:
        raise ArtefactError(f"{shown(path)}: its gramcli metadata is not JSON: {first_line(error)}") from None
    if not isinstance(values, dict):
        raise ArtefactError(f"{shown(path)}: its gramcli metadata is not a JSON object")
    return values


def _without_prefixes(state: Mapping[str, Tensor]) -> Iterable[dict[str, Tensor]]:
    """Yields the weights as they are, then with one prefix after another taken off."""
    names = dict(state)
    yield names
    while prefix := next((one for one in _PREFIXES if any(name.startswith(one) for name in names)), None):
        names = {name.removeprefix(prefix): tensor for name, tensor in names.items()}
        yield names


def _some(names: list[str]) -> str:
    return ", ".join(shown(name) for name in names[:5]) + (", …" if len(names) > 5 else "")
