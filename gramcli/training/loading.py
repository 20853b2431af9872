"""Reads the clips of a training into examples, which stay in memory where they fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from gramcli.audio.decoder_pool import Decoders
from gramcli.audio.reader import Samples
from gramcli.audio.requests import requests
from gramcli.dataset.clip import Clip
from gramcli.errors import NoInputError
from gramcli.network import frontend
from gramcli.progress import Progress
from gramcli.settings.schema import FrontendSettings, Settings
from gramcli.text import shown
from gramcli.training.clips import TrainingClips
from gramcli.training.examples import CHUNK, Examples, Inputs, Meter, Waveforms, input_bytes, log_mels, unscaled


@dataclass(frozen=True)
class LoadedExamples:
    """Examples of both splits, with the scaling of the front end and the clips that failed."""

    training: Examples
    validation: Examples
    frontend: FrontendSettings
    """With mean and standard deviation as they are used."""
    failed: tuple[tuple[Clip, str], ...]
    """Clips that cannot be decoded, and why; they are left out."""


def load(clips: TrainingClips, settings: Settings, decoders: Decoders, progress: Progress) -> LoadedExamples:
    """Reads the clips of both splits.

    What the network is fed stays in memory if it fits ``train.memory_gib``; with the augmentation ``noise``, which
    changes samples, the samples do. Otherwise this first pass measures mean and standard deviation and finds the clips
    that cannot be decoded, and every epoch decodes again.

    Raises:
        NoInputError: No clip of a split can be decoded.
    """
    front, segment = settings.frontend, settings.segment
    length = frontend.samples(front, segment)
    # samples are kept only where the augmentation changes them or the network takes them; else the log-mel is enough
    log_mel = front.kind == "logmel" and "noise" not in settings.train.augment
    needed = (
        (input_bytes(front, segment) if log_mel else 4 * length) * (len(clips.training) + len(clips.validation)) / 2**30
    )
    keep = needed <= settings.train.memory_gib
    if not keep:
        progress.note(
            f"the clips take {needed:.1f} GiB, more than train.memory_gib = {settings.train.memory_gib:g}: "
            "every epoch decodes them again"
        )
    scaled = front.kind != "logmel" or settings.train.scaling == "given" or (front.mean, front.std) != (0.0, 1.0)
    progress.start("reading clips", len(clips.training) + len(clips.validation))
    read = _Reading(frontend.build(unscaled(front)), settings, keep, log_mel, [])
    meter = None if scaled else Meter()
    splits = [read(clips.training, decoders, progress, meter), read(clips.validation, decoders, progress, None)]
    if meter is not None:
        measured = meter.measured()
        front = replace(front, mean=measured.mean, std=measured.std)
    index = {label: number for number, label in enumerate(clips.classes)}
    examples: list[Examples] = []
    for part in splits:
        labels = torch.tensor([index[clip.label] for clip in part.clips])
        if keep and log_mel:
            inputs = torch.cat(part.inputs)
            part.inputs.clear()
            examples.append(Inputs(inputs.sub_(front.mean).div_(front.std), labels))
        else:
            fetch = _Memory(part.samples) if keep else _Files(part.clips, settings, decoders)
            examples.append(Waveforms(fetch, labels, frontend.build(front), length, segment.pad))
    return LoadedExamples(examples[0], examples[1], front, tuple(read.failed))


@dataclass
class _Part:
    """The clips of one split that were read, and their log-mels or samples where these are kept."""

    clips: list[Clip] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    """Log-mels, not yet scaled."""
    samples: list[Samples] = field(default_factory=list)


@dataclass
class _Reading:
    """The first pass over the clips."""

    front: nn.Module
    settings: Settings
    keep: bool
    log_mel: bool
    failed: list[tuple[Clip, str]]

    def __call__(self, clips: Sequence[Clip], decoders: Decoders, progress: Progress, meter: Meter | None) -> _Part:
        """Reads one split; `meter` measures its log-mels."""
        read = _Part()
        front, segment = self.settings.frontend, self.settings.segment
        for good, samples in _chunks(clips, self.settings, decoders, self.failed, progress):
            read.clips += good
            if self.keep and not self.log_mel:
                read.samples += samples
            if meter is not None or (self.keep and self.log_mel):
                inputs = log_mels(samples, self.front, frontend.samples(front, segment), segment.pad)
                if meter is not None:
                    meter.add(inputs)
                if self.keep and self.log_mel:
                    read.inputs.append(inputs)
        if not read.clips:
            clip, why = self.failed[-1]
            raise NoInputError(
                f"{shown(self.settings.data.manifest)}: none of the {len(clips)} clips of the {clip.split} split "
                f"can be decoded (the last: {shown(clip.id)}: {why})"
            )
        return read


def _chunks(
    clips: Sequence[Clip],
    settings: Settings,
    decoders: Decoders,
    failed: list[tuple[Clip, str]],
    progress: Progress,
) -> Iterator[tuple[list[Clip], list[Samples]]]:
    """Yields decodable clips and their samples, some at a time; adds the others to `failed`."""
    decoded = decoders.decode(requests(clips, settings))
    for first in range(0, len(clips), CHUNK):
        part, samples, bad = [], [], 0
        for clip in clips[first : first + CHUNK]:
            one = next(decoded)
            if one.samples is None:
                failed.append((clip, one.error))
                bad += 1
            else:
                part.append(clip)
                samples.append(one.samples)
        progress.advance(len(part) + bad, bad)
        if part:
            yield part, samples


class _Memory:
    """Fetches samples from memory."""

    def __init__(self, samples: Sequence[Samples]) -> None:
        self._samples = samples

    def __call__(self, order: Sequence[int]) -> Iterator[Samples]:
        return (self._samples[index] for index in order)


class _Files:
    """Decodes samples when they are needed, a few clips ahead."""

    def __init__(self, clips: Sequence[Clip], settings: Settings, decoders: Decoders) -> None:
        self._clips, self._chosen, self._decoders = clips, settings, decoders

    def __call__(self, order: Sequence[int]) -> Iterator[Samples]:
        clips = [self._clips[index] for index in order]
        for clip, one in zip(clips, self._decoders.decode(requests(clips, self._chosen)), strict=True):
            if one.samples is None:
                raise NoInputError(
                    f"{shown(clip.path)}: could be decoded at first and now cannot: {one.error}; "
                    "restore it and run the same command again"
                )
            yield one.samples
