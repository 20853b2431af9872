"""Where and how a network runs: device, batch size and precision."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gramcli.errors import ResourceError, UsageError
from gramcli.settings.schema import RunSettings
from gramcli.text import shown


@dataclass(frozen=True)
class Execution:
    """How a network is run."""

    device: torch.device
    batch: int = 16
    """Clips at once, at most."""
    precision: str = "fp32"
    """``fp32``, or ``bf16`` for the network alone; the front end is always fp32."""

    @classmethod
    def of(cls, run: RunSettings) -> Execution:
        """Returns what the settings ask for.

        Raises:
            UsageError: No such kind of device.
            ResourceError: The device is missing or cannot compute in this precision.
        """
        where = device(run.device)
        check_precision(run.precision, where)
        return cls(where, run.batch, run.precision)

    @property
    def text(self) -> str:
        """The device for people: its name, and for a CPU its threads."""
        threads = f" ({torch.get_num_threads()} threads)" if self.device.type == "cpu" else ""
        return f"{self.device}{threads}"


def device(name: str) -> torch.device:
    """Returns the device of a name: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: No such kind of device.
        ResourceError: This machine, or this build of torch, has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    is_number = index.isascii() and index.isdecimal() and len(index) < 6
    if name != "cpu" and (kind != "cuda" or not (is_number or name == "cuda")):
        raise UsageError(f"run.device must be auto, cpu, cuda or cuda:N, not {shown(repr(name))}")
    count = torch.cuda.device_count()
    if kind == "cuda" and int(index or 0) >= count:
        raise ResourceError(
            f"run.device: there is no {name}: torch {torch.__version__} sees {count} CUDA devices; use auto or cpu"
        )
    return torch.device(name)


def check_precision(precision: str, where: torch.device) -> None:
    """Raises a ResourceError if the device cannot compute in this precision, ``fp32`` or ``bf16``."""
    if precision != "bf16":
        return
    able = (
        torch.cuda.is_bf16_supported(including_emulation=False)
        if where.type == "cuda"
        else torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
    if not able:
        raise ResourceError(f"run.precision: {where} cannot compute in bfloat16; use fp32")
