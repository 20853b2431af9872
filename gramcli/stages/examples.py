"""From clips of a manifest to examples: everything is read once, and kept where it fits into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gramcli import settings
from gramcli.audio import frontend
from gramcli.audio.decode import Samples
from gramcli.audio.workers import Decoders
from gramcli.cache.clips import Clip
from gramcli.errors import NoInputError, shown
from gramcli.settings import Settings
from gramcli.stages.prepare import requests
from gramcli.stages.progress import Progress
from gramcli.training.clips import CHUNK, Examples, Inputs, Meter, Waveforms, input_bytes, log_mels, unscaled


@dataclass(frozen=True)
class Loaded:
    """Examples of both splits and what was found out on the way."""

    training: Examples
    validation: Examples
    frontend: settings.Frontend
    """With mean and standard deviation as they are used."""
    failed: tuple[tuple[Clip, str], ...]
    """Clips that cannot be decoded, and why; they are left out."""


def load(
    training: Sequence[Clip],
    validation: Sequence[Clip],
    classes: Sequence[str],
    chosen: Settings,
    decoders: Decoders,
    progress: Progress,
) -> Loaded:
    """Reads the clips of both splits.

    What the network is fed stays in memory if it fits ``train.memory_gib``; with the augmentation ``noise``, which
    changes samples, the samples do. Otherwise this first pass measures mean and standard deviation and finds the clips
    that cannot be decoded, and every epoch decodes again.

    Raises:
        NoInputError: No clip of a split can be decoded.
    """
    front, segment = chosen.frontend, chosen.segment
    length = frontend.samples(front, segment)
    noisy = "noise" in chosen.train.augment or front.kind == "waveform"
    size = 4 * length if noisy else input_bytes(front, segment)
    keep = size * (len(training) + len(validation)) <= chosen.train.memory_gib * 2**30
    if not keep:
        progress.note(
            f"the clips take {size * (len(training) + len(validation)) / 2**30:.1f} GiB, more than train.memory_gib = "
            f"{chosen.train.memory_gib:g}: every epoch decodes them again"
        )
    measure = front.kind == "logmel" and chosen.train.scaling == "measured" and (front.mean, front.std) == (0.0, 1.0)
    raw = frontend.build(unscaled(front))
    meter = Meter()
    failed: list[tuple[Clip, str]] = []
    kept_mels: list[list[Tensor]] = []
    kept_samples: list[list[Samples]] = []
    usable: list[list[Clip]] = []
    progress.start("reading clips", len(training) + len(validation))
    for number, clips in enumerate((training, validation)):
        good: list[Clip] = []
        mels: list[Tensor] = []
        waves: list[Samples] = []
        for part, samples in _chunks(clips, chosen, decoders, failed, progress):
            good += part
            if front.kind == "logmel" and (measure or (keep and not noisy)):
                found = log_mels(samples, raw, length, segment.pad)
                if number == 0:
                    meter.add(found)
                if keep and not noisy:
                    mels.append(found)
            if keep and noisy:
                waves += samples
        if not good:
            clip, why = failed[-1]
            raise NoInputError(
                f"{shown(chosen.data.manifest)}: none of the {len(clips)} clips of the {clip.split} split "
                f"can be decoded (the last: {shown(clip.id)}: {why})"
            )
        usable.append(good)
        kept_mels.append(mels)
        kept_samples.append(waves)
    if measure:
        found_scale = meter.measured()
        front = replace(front, mean=found_scale.mean, std=found_scale.std)
    index = {label: number for number, label in enumerate(classes)}
    examples: list[Examples] = []
    for good, mels, waves in zip(usable, kept_mels, kept_samples, strict=True):
        labels = torch.tensor([index[clip.label] for clip in good])
        if keep and not noisy:
            inputs = torch.cat(mels)
            mels.clear()
            examples.append(Inputs(inputs.sub_(front.mean).div_(front.std), labels))
        else:
            fetch = _Memory(waves) if keep else _Files(good, chosen, decoders)
            examples.append(Waveforms(fetch, labels, frontend.build(front), length, segment.pad))
    return Loaded(examples[0], examples[1], front, tuple(failed))


def _chunks(
    clips: Sequence[Clip],
    chosen: Settings,
    decoders: Decoders,
    failed: list[tuple[Clip, str]],
    progress: Progress,
) -> Iterator[tuple[list[Clip], list[Samples]]]:
    """Yields decodable clips and their samples, some at a time; adds the others to `failed`."""
    decoded = decoders.decode(requests(clips, chosen))
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
    """Samples that were kept."""

    def __init__(self, samples: Sequence[Samples]) -> None:
        self._samples = samples

    def __call__(self, order: Sequence[int]) -> Iterator[Samples]:
        return (self._samples[place] for place in order)


class _Files:
    """Samples that are decoded when they are needed, ahead of who needs them."""

    def __init__(self, clips: Sequence[Clip], chosen: Settings, decoders: Decoders) -> None:
        self._clips, self._chosen, self._decoders = clips, chosen, decoders

    def __call__(self, order: Sequence[int]) -> Iterator[Samples]:
        clips = [self._clips[place] for place in order]
        for clip, one in zip(clips, self._decoders.decode(requests(clips, self._chosen)), strict=True):
            if one.samples is None:
                raise NoInputError(f"{shown(clip.path)}: was decoded before and now is not: {one.error}")
            yield one.samples
