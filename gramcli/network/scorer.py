"""Runs front end and network on waveforms, and returns logits and descriptors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gramcli.errors import ArtefactError, ResourceError
from gramcli.network.capture import Layer, Recorder
from gramcli.network.execution import Execution
from gramcli.network.row_sums import row_sums, row_sums_and_means
from gramcli.system.profiler import NoStopwatch, Stopwatch
from gramcli.text import shown


@dataclass(frozen=True)
class Scores:
    """Logits and descriptors of N clips."""

    logits: NDArray[np.float32]
    """(N, O), as the network returns them."""
    descriptors: dict[str, NDArray[np.float32]]
    """ĝ (N, K_l) by layer."""
    errors: tuple[str, ...]
    """Why a clip failed, or ""; the rows of a failed clip are NaN."""
    means: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Channel means (N, K_l) by layer; empty unless they were asked for."""


@dataclass(frozen=True, eq=False)
class AudioNetwork:
    """A network with the front end that turns waveforms into its input."""

    module: nn.Module
    frontend: nn.Module
    outputs: int | None = None
    """Number of classes; needed where the network returns several tensors."""


class Scorer:
    """Runs front end and network on waveforms, so that no clip influences another.

    All tensors are laid out channels_last, and at least two clips run at once (a single clip is doubled and the copy
    dropped). In this layout convolutions give the same bits in batches of two and more, but not in a batch of one. A
    Linear, or a convolution of a 1×1 map as in squeeze-and-excitation, may differ by rounding with the size of the
    batch; on a GPU, where fp32 keeps torch's own layout, all layers may.

    Args:
        network: Network and front end; both are moved to the device and laid out in place.
        layers: Layers to record.
        execution: How to run. The batch is halved, down to two clips, where memory runs out.
        with_means: Whether to measure channel means too.
    """

    def __init__(
        self, network: AudioNetwork, layers: Sequence[Layer], execution: Execution, *, with_means: bool = False
    ) -> None:
        self.device, self.precision = execution.device, execution.precision
        self.batch = max(2, execution.batch)
        self.outputs = network.outputs
        self.with_means = with_means
        self.module = network.module.to(self.device).eval()
        self.frontend = network.frontend.to(self.device).eval()
        # A GPU has no fast convolutions in this layout and full fp32: a densenet121 takes more than twice as long.
        self._lay_out = _channels_last if self.device.type == "cpu" or self.precision == "bf16" else _unchanged
        for parameter in self.module.parameters():
            parameter.data = self._lay_out(parameter.data)
        self._record = Recorder(self.module, layers, row_sums_and_means if with_means else row_sums)
        self.stopwatch: Stopwatch = NoStopwatch()
        self.note: Callable[[str], None] = lambda text: None
        """Called with a note when the batch is halved."""

    def time_with(self, stopwatch: Stopwatch) -> None:
        """Times the steps ``mel``, ``forward`` and ``reduce`` from now on, each until the device has finished it."""
        self.stopwatch = self._record.stopwatch = stopwatch
        if self.device.type == "cuda":
            stopwatch.settle = lambda: torch.cuda.synchronize(self.device)

    def score(self, waveforms: NDArray[np.float32]) -> Scores:
        """Returns logits and descriptors of waveforms (N, T), N ≥ 1.

        Raises:
            ArtefactError: The network returns no (N, O), or its layers run differently than in the survey.
            ResourceError: Two clips do not fit into memory.
            ValueError: The shape is another one.
        """
        if waveforms.ndim != 2 or not waveforms.size:
            raise ValueError(f"waveforms must be (clips, samples), not {waveforms.shape}")
        parts = list(self._parts(waveforms))
        logits, *maps = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        measured = dict(zip(self._record.layers, maps, strict=True))
        errors = [""] * len(waveforms)
        arrays = {f"activation not finite in {shown(name)}": one for name, one in measured.items()}
        for error, array in (*arrays.items(), ("output not finite", logits)):
            for clip in np.flatnonzero(~np.isfinite(array).all(axis=1)):
                errors[clip] = errors[clip] or error
        failed = np.array(errors) != ""
        for array in (logits, *measured.values()):
            array[failed] = np.nan
        if not self.with_means:
            return Scores(logits, measured, tuple(errors))
        halves = {name: np.split(array, 2, axis=1) for name, array in measured.items()}
        descriptors, means = ({name: parts[n] for name, parts in halves.items()} for n in (0, 1))
        return Scores(logits, descriptors, tuple(errors), means)

    def _parts(self, waveforms: NDArray[np.float32]) -> Iterator[list[NDArray[np.float32]]]:
        start = 0
        while start < len(waveforms):
            part = waveforms[start : start + self.batch]
            try:
                yield self._forward(part)
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                if self.batch == 2:
                    raise ResourceError(
                        f"{self.device}: out of memory with two clips of {waveforms.shape[1]} samples: "
                        "use shorter windows (segment.seconds) or another --device"
                    ) from None
                self.batch = max(2, self.batch // 2)
                self.note(f"{self.device}: out of memory: goes on with {self.batch} clips at once")
            else:
                start += len(part)

    @torch.inference_mode()
    def _forward(self, waveforms: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Returns the logits, then the descriptor of every layer."""
        clips = len(waveforms)
        inputs = torch.tensor(waveforms, dtype=torch.float32)  # a copy: arrays may be read-only
        if self.device.type == "cuda":
            inputs = inputs.pin_memory().to(self.device, non_blocking=True)
        if clips == 1:
            inputs = torch.cat([inputs, inputs])
        # TensorFloat-32 has only ten bits of mantissa, and a kernel that is chosen by timing may differ between runs
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            with self.stopwatch.step("mel"):
                inputs = self.frontend(inputs)
            inputs = self._lay_out(inputs)
            precision = torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")
            with self.stopwatch.step("forward"), precision:
                returned, descriptors = self._record(inputs)
        columns = [self._logits(returned, len(inputs)).float(), *descriptors.values()]
        # one transfer from the device, not one for each layer
        whole = torch.cat(columns, dim=1)[:clips].cpu().numpy()
        return np.split(whole, np.cumsum([one.shape[1] for one in columns[:-1]]), axis=1)

    def _logits(self, returned: Any, clips: int) -> Tensor:
        """Returns the logits (N, O) from what the network returned: a tensor, or the first that fits of several."""
        values = returned.values() if isinstance(returned, Mapping) else returned
        candidates = list(values) if isinstance(returned, Mapping | tuple | list) else [returned]
        for one in candidates:
            if not isinstance(one, Tensor) or one.dim() != 2 or len(one) != clips:
                continue
            if self.outputs in (None, one.shape[1]):
                return one
        found = ", ".join(str(tuple(one.shape)) for one in candidates if isinstance(one, Tensor)) or "no tensor"
        raise ArtefactError(
            f"the network returns {found} for {clips} clips, not ({clips}, {self.outputs or 'classes'}): "
            "check network.classes, or wrap it in a factory"
        )


def _channels_last(tensor: Tensor) -> Tensor:
    """Returns a tensor of four dimensions laid out channels_last, with the strides of this layout.

    With one channel or one position both layouts are the same in memory, and torch keeps the strides of the other
    layout. It chooses the layout of a convolution's output by the strides, so an input of one channel of log-mels would
    have the whole network computed in the other layout.
    """
    if tensor.dim() != 4:
        return tensor
    clips, channels, rows, columns = tensor.shape
    strides = (rows * columns * channels, 1, columns * channels, channels)
    return tensor.contiguous(memory_format=torch.channels_last).as_strided((clips, channels, rows, columns), strides)


def _unchanged(tensor: Tensor) -> Tensor:
    return tensor


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
