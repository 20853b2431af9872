"""Checkpoints: reads weights and metadata of a file, safely, and loads weights into a network.

Safetensors files may carry a JSON text under the metadata key ``gramcli``::

    {
        "architecture": "resnet18",
        "args": {"in_chans": 1},
        "classes": ["dog", "rain"],
        "frontend": {"mean": -15.4, "std": 21.4},
        "segment": {"seconds": 5.0},
    }

Of pickled files, only tensors and plain values are loaded, never code. torch is imported only to read weights.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gramcli.errors import ArtefactError, NoInputError, UnsafeError, UsageError
from gramcli.settings import sources
from gramcli.text import shown

if TYPE_CHECKING:
    from torch import Tensor, nn

_NESTS = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "weights", "params")
_PREFIXES = ("module.", "model.", "_orig_mod.")
_SETTINGS = {"architecture": "name", "args": "args", "classes": "classes"}


def metadata(path: Path) -> dict[str, Any]:
    """Returns the ``gramcli`` metadata of a safetensors file, {} where there is none.

    Raises:
        NoInputError: The file cannot be read.
        ArtefactError: The metadata is no JSON object.
    """
    if not _is_safetensors(path):
        return {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get("gramcli", "{}")
    except (SafetensorError, OSError) as error:
        raise ArtefactError(f"{shown(path)}: is no safetensors file: {_first_line(error)}") from None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is no JSONDecodeError
        raise ArtefactError(f"{shown(path)}: its gramcli metadata is not JSON: {_first_line(error)}") from None
    if not isinstance(values, dict):
        raise ArtefactError(f"{shown(path)}: its gramcli metadata is not a JSON object")
    return values


def as_source(path: Path) -> sources.Source:
    """Returns the metadata of a checkpoint as a source of settings.

    Raises:
        NoInputError: The file cannot be read.
        ArtefactError: The metadata holds no valid settings.
    """
    values = metadata(path)
    sections: dict[str, Any] = {
        "network": {key: values[name] for name, key in _SETTINGS.items() if name in values},
        "frontend": values.get("frontend", {}),
        "segment": values.get("segment", {}),
    }
    try:
        return sources.source(sections, shown(path.name), path.parent)
    except UsageError as error:  # the fault is in the file, not in a flag
        raise ArtefactError(f"{error} (gramcli metadata of {shown(path)})") from None


def read(path: Path) -> dict[str, Tensor]:
    """Returns the weights of a safetensors file or a state dict, by their names in the file.

    The state dict may be part of a larger checkpoint, under ``state_dict``, ``model`` and the like.

    Raises:
        NoInputError: The file cannot be read.
        ArtefactError: It holds no weights.
        UnsafeError: It holds objects whose loading could run code.
    """
    if _is_safetensors(path):
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except (SafetensorError, OSError, ValueError) as error:
            raise ArtefactError(f"{shown(path)}: is no safetensors file: {_first_line(error)}") from None
    import pickle

    import torch

    _require_size(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if refused := _refused_object(str(error)):
            raise UnsafeError(
                f"{shown(path)}: holds {shown(refused)}, which could run code and is not loaded: "
                "save the state dict alone, best as safetensors"
            ) from None
        raise ArtefactError(f"{shown(path)}: is no checkpoint: {_first_line(error)}") from None
    except Exception as error:  # torch.load fails in many ways on what is no checkpoint
        raise ArtefactError(f"{shown(path)}: is no checkpoint: {_first_line(error)}") from None
    opened: list[Any] = []
    while isinstance(found, Mapping):
        if any(found is one for one in opened):
            raise ArtefactError(
                f"{shown(path)}: its state_dict holds itself, so it has no weights: save the state dict of the network"
            )
        opened.append(found)
        weights = {str(name): value for name, value in found.items() if isinstance(value, torch.Tensor)}
        for name, tensor in weights.items():
            dense = tensor.layout == torch.strided and not tensor.is_quantized and tensor.device.type == "cpu"
            # a view can make a tensor larger than memory out of a few stored numbers
            if not dense or tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
                raise ArtefactError(f"{shown(path)}: {shown(name)} is no dense tensor; save it as one")
        nested = next((found[name] for name in _NESTS if isinstance(found.get(name), Mapping)), None)
        if nested is None and weights:
            return weights
        found = nested
    raise ArtefactError(f"{shown(path)}: holds no weights: save the state dict of the network")


def load_into(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Loads weights into a network, in the network's own dtypes.

    Prefixes that wrappers add to names (``module.``, ``model.``, ``_orig_mod.``) are removed if more names fit then.

    Raises:
        ArtefactError: Names or shapes differ; the first of each are listed.
    """
    wanted = module.state_dict()
    state = max(_without_prefixes(state), key=lambda candidate: len(candidate.keys() & wanted.keys()))
    # The number of batches that a batch norm has seen is not used in eval mode, and old checkpoints lack it.
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    extra = [name for name in state if name not in wanted]
    misshapen = [
        f"{name} {tuple(state[name].shape)} for {tuple(wanted[name].shape)}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    infinite = [name for name in wanted if name in state and not _finite(state[name])]
    kinds = {"missing": missing, "extra": extra, "misshapen": misshapen, "not finite": infinite}
    problems = [f"{len(names)} {kind}: {_some(names)}" for kind, names in kinds.items() if names]
    if problems:
        raise ArtefactError(
            f"{shown(path)}: does not fit the network: {'; '.join(problems)}; check network.name, network.args and "
            "network.classes"
        )
    module.load_state_dict(state, strict=False)


def _finite(tensor: Tensor) -> bool:
    known = tensor.is_floating_point() and tensor.itemsize > 1  # torch cannot test smaller ones
    return not known or bool(tensor.isfinite().all())


def digest(path: Path) -> str:
    """Returns the SHA-256 of a file.

    Raises:
        NoInputError: The file cannot be read.
    """
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_digest(module: nn.Module) -> str:
    """Returns the SHA-256 of the names, types, shapes and bytes of a network's weights, in their order."""
    import torch

    whole = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        whole.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return whole.hexdigest()


def _is_safetensors(path: Path) -> bool:
    """Tells whether a file begins as safetensors files do: the length of a JSON header, then the header."""
    with _opened(path) as file:
        return file.read(9)[8:] == b"{"


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    """Opens a regular file; a FIFO would hang for ever."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise NoInputError(f"{shown(path)}: is not a regular file; name a checkpoint")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise NoInputError(f"{shown(path)}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise NoInputError(f"{shown(path)}: is not a valid file name") from None


def _require_size(path: Path) -> None:
    """Checks that an archive is not compressed, as torch never compresses weights.

    Raises:
        UnsafeError: It unpacks to far more bytes than it has, or to two files of one name.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(one.file_size for one in archive.infolist())
            names = [one.filename for one in archive.infolist()]
    except Exception:  # no archive: an older format, or no checkpoint, which torch.load reports
        return
    if unpacked > 2 * path.stat().st_size + (1 << 20) or len(set(names)) < len(names):
        raise UnsafeError(
            f"{shown(path)}: unpacks to {unpacked} bytes from {path.stat().st_size}, or to files of one name; no such "
            "archive is loaded: save the state dict anew, best as safetensors"
        )


def _without_prefixes(state: Mapping[str, Tensor]) -> Iterable[dict[str, Tensor]]:
    """Yields the weights as they are, then with one prefix after another taken off."""
    names = dict(state)
    yield names
    while prefix := next((one for one in _PREFIXES if any(name.startswith(one) for name in names)), None):
        names = {name.removeprefix(prefix): tensor for name, tensor in names.items()}
        yield names


def _refused_object(message: str) -> str:
    """Returns the object that torch's restricted unpickler refused, or "" if it failed for another reason."""
    import re

    found = re.search(r"GLOBAL (\S+)|(?:but got|function) (<[^>]+>|\S+)", message)
    return (found[1] or found[2]) if found else ""


def _some(names: list[str]) -> str:
    return ", ".join(shown(name) for name in names[:5]) + (", …" if len(names) > 5 else "")


def _first_line(error: Exception) -> str:
    return shown(str(error).strip().partition("\n")[0]) or type(error).__name__
