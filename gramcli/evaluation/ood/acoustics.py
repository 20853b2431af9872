"""Measures recordings without any network: length, level, bandwidth, zero samples and the mean log-mel."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gramcli.audio.decoder_pool import Decoders
from gramcli.audio.reader import stack
from gramcli.audio.requests import requests
from gramcli.dataset.clip import Clip
from gramcli.errors import AudioError, UsageError
from gramcli.evaluation.ood.measures import measure
from gramcli.evaluation.ood.scores import TRIVIAL
from gramcli.progress import Progress
from gramcli.settings.schema import Settings
from gramcli.text import shown

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Acoustics:
    """Measures of N windows."""

    measures: Mapping[str, Array]
    """Duration in s, level in dBFS, bandwidth in Hz and share of zero samples, (N,) each."""
    spectra: Array | None
    """Mean log-mel of each window as the network gets it, (N, bands); None where the window is too short for one."""


class AcousticMeter:
    """Measures windows, and averages their log-mel over time.

    The log-mel is the front end's; for a network that takes samples it is that of the default settings.

    Args:
        settings: Front end, window and batch.
    """

    def __init__(self, settings: Settings) -> None:
        from gramcli.network import frontend

        self.settings = settings
        self._length = frontend.samples(settings.frontend, settings.segment)
        self._front: torch.nn.Module | None = None
        chosen = settings.frontend
        if chosen.kind != "logmel":
            window = round(chosen.window_ms * chosen.sample_rate / 1000)
            fitting = max(chosen.n_fft, 1 << (window - 1).bit_length())
            chosen = dataclasses.replace(chosen, kind="logmel", n_fft=fitting)
        try:
            frontend.samples(chosen, settings.segment)
            self._front = frontend.build(chosen)
        except UsageError:  # a window can be too short, for a network that takes samples
            self._front = None

    def measure(self, samples: Sequence[Array]) -> Acoustics:
        """Measures decoded windows, at least one."""
        rate, pad = self.settings.frontend.sample_rate, self.settings.segment.pad
        found = [dataclasses.astuple(measure(one, rate, self._length, pad)) for one in samples]
        columns = np.array(found, np.float64).T
        return Acoustics(dict(zip(TRIVIAL, columns, strict=True)), self._spectra(stack(samples, self._length, pad)))

    def _spectra(self, windows: Array) -> Array | None:
        if self._front is None:
            return None
        import torch

        with torch.inference_mode():
            spectra: Array = self._front(torch.from_numpy(windows)).mean(dim=(1, 3)).numpy()
        return spectra

    def measure_clips(self, clips: Sequence[Clip], decoders: Decoders, progress: Progress) -> Acoustics:
        """Decodes clips of a cache and measures them.

        Args:
            clips: At least one.
            decoders: What reads the audio.
            progress: Told of every clip.

        Raises:
            AudioError: A file cannot be read, or has changed; the file is named.
        """
        for clip in clips:
            _require_same(clip)
        parts: list[Acoustics] = []
        waiting: list[Array] = []
        for clip, one in zip(clips, decoders.decode(requests(clips, self.settings)), strict=True):
            if one.samples is None:
                raise AudioError(f"{shown(clip.path)}: {one.error}")
            waiting.append(one.samples)
            progress.advance(1)
            if len(waiting) == self.settings.run.batch:
                parts.append(self.measure(waiting))
                waiting = []
        if waiting:
            parts.append(self.measure(waiting))
        return concatenate(parts)


def concatenate(parts: Sequence[Acoustics]) -> Acoustics:
    """Concatenates measures of windows."""
    spectra = [part.spectra for part in parts if part.spectra is not None]
    return Acoustics(
        {name: np.concatenate([part.measures[name] for part in parts]) for name in parts[0].measures},
        np.concatenate(spectra) if spectra else None,
    )


def _require_same(clip: Clip) -> None:
    """Raises an AudioError if the clip's file is missing or has another size than when it was extracted."""
    try:
        size = Path(clip.path).stat().st_size
    except OSError as error:
        raise AudioError(f"{shown(clip.path)}: {error.strerror}") from None
    except ValueError:
        raise AudioError(f"{shown(clip.path)}: no valid file name") from None
    if size != clip.bytes:
        raise AudioError(f"{shown(clip.path)}: is {size} bytes long, and was {clip.bytes} when it was extracted")
