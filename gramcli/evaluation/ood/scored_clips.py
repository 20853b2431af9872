"""Computes every score for unknown sounds on clips of a cache and on new recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gramcli.audio.decoder_pool import Decoders
from gramcli.cache.labelled_rows import read_rows
from gramcli.cache.view import View
from gramcli.calibration.size_limits import MAX_DISCRIMINANT_BYTES, discriminant_bytes
from gramcli.dataset.clip import Clip, sample_clips
from gramcli.errors import AudioError
from gramcli.evaluation.ood.acoustics import AcousticMeter, Acoustics, concatenate
from gramcli.evaluation.ood.scores import STRANGENESS, OnAudio, OnDescriptors, Scores, of_logits
from gramcli.inference.classifier import GramClassifier
from gramcli.inference.rule import Rule
from gramcli.progress import Progress

Array = npt.NDArray[Any]

MAX_CLIPS = 2000
"""Maximum number of training clips for fits of rival scores: their vectors of all layers are in memory at once."""


@dataclass(frozen=True, eq=False)
class ScoredClips:
    """N clips, or windows of recordings, in an order that does not depend on where they are stored."""

    groups: npt.NDArray[Any]
    """Source of each, (N,)."""
    scores: Scores
    """Scores of the network and its layers first, then those of the audio if it can be read, (N,) each."""
    measures: Mapping[str, Array] | None
    """See `Acoustics`; None without audio."""
    beyond: npt.NDArray[np.bool_] | None
    """Whether each is above the threshold, (N,); None without a threshold."""


class ClipScorer:
    """All scores, fitted on training clips of a cache.

    Args:
        view: The cache's clean view.
        rule: Its decision.
        training: Its training clips; of more than `MAX_CLIPS` each class gives its share, or if that takes too much
            memory, the first ones by their keys are used.
        progress: Told of steps and notes.

    Raises:
        DamagedError: A file of the cache is not as it was written.
    """

    def __init__(self, view: View, rule: Rule, training: Sequence[Clip], progress: Progress) -> None:
        self._view, self._rule, self._progress = view, rule, progress
        index = {label: n for n, label in enumerate(rule.classes)}
        chosen = sample_clips(sorted(training, key=lambda clip: clip.key), MAX_CLIPS)
        shares = "each class by its share"
        if discriminant_bytes(len(chosen), sum(view.layers.values()), len(index)) > MAX_DISCRIMINANT_BYTES:
            chosen, shares = chosen[:MAX_CLIPS], "not all classes, as clips of all would take too much memory"
        if len(chosen) < len(training):
            progress.note(
                f"rival scores of unknown sounds are fitted on {len(chosen)} of {len(training)} training clips, "
                f"{shares}"
            )
        progress.start("reading training clips", len(chosen))
        kept: list[Clip] = []
        parts: list[dict[str, Array]] = []
        for group, rows, where in read_rows(view, chosen, rule.layers, progress.advance):
            kept += group
            # copies, so that no shard stays in memory for the rows wanted of it
            parts.append({layer: rows.descriptors[layer][where] for layer in rule.layers})
        order = sorted(range(len(kept)), key=lambda n: kept[n].key)
        self._fitted_on = [kept[n] for n in order]
        self._labels = np.array([index[clip.label] for clip in self._fitted_on])
        self._layers = OnDescriptors.fit(
            {layer: np.concatenate([part.pop(layer) for part in parts])[order] for layer in rule.layers}, self._labels
        )
        self._meter: AcousticMeter | None = None
        self._audio: OnAudio | None = None

    def measure_audio(self, meter: AcousticMeter, *others: Sequence[Clip]) -> list[Acoustics] | None:
        """Decodes training clips to fit the scores of the audio, and other clips of the cache to be scored.

        Returns:
            The measures of each of `others`; None, with a note, if any of these clips can no longer be read. Scores of
            the audio are left out then.
        """
        clips = [self._fitted_on, *others]
        self._progress.start("measuring the audio of known clips", sum(map(len, clips)))
        try:
            with Decoders.of(meter.settings) as decoders:
                training, *measured = [meter.measure_clips(some, decoders, self._progress) for some in clips]
        except AudioError as error:
            self._progress.note(
                f"{error}; scores that need the audio of the cache's clips are left out, and no pairs are matched"
            )
            return None
        self._meter = meter
        self._audio = OnAudio.fit(training.measures, training.spectra, self._labels)
        return measured

    def usable(self, clips: Sequence[Clip]) -> list[Clip]:
        """Returns the clips with usable rows, in order of their keys."""
        found = [clip for group, _, _ in read_rows(self._view, clips, ()) for clip in group]
        return sorted(found, key=lambda clip: (clip.key, clip.id))

    def of_cache(self, clips: Sequence[Clip], acoustics: Acoustics | None) -> ScoredClips:
        """Scores clips of the cache, shard by shard.

        Args:
            clips: As `usable` returns them.
            acoustics: Measures of their audio.
        """
        index = {clip.key: n for n, clip in enumerate(clips)}
        order: list[int] = []
        parts: list[tuple[Scores, Array | None]] = []
        for group, rows, where in read_rows(self._view, clips, self._rule.layers):
            if not group:
                continue
            descriptors = {layer: rows.descriptors[layer][where] for layer in self._rule.layers}
            parts.append(self._score(descriptors, rows.logits[where] if self._view.outputs else None))
            order += [index[clip.key] for clip in group]
        scores, beyond = _joined(parts)
        back = np.argsort(order)
        scores = {name: values[back] for name, values in scores.items()}
        groups = np.array([clip.group for clip in clips])
        return self._scored(groups, scores, None if beyond is None else beyond[back], acoustics)

    def of_files(self, classifier: GramClassifier, paths: Sequence[str]) -> tuple[ScoredClips | None, dict[str, str]]:
        """Scores the windows of recordings; only the scores are kept in memory.

        Args:
            classifier: Of this cache.
            paths: The files.

        Returns:
            All windows that can be used, with their file as group, or None if there are none; and by path why the
            first window of a file that cannot be used cannot.
        """
        self._progress.start("scoring unknown sounds", len(paths))
        groups: list[str] = []
        parts: list[tuple[Scores, Array | None]] = []
        acoustics: list[Acoustics] = []
        failed: dict[str, str] = {}
        done: set[str] = set()
        for batch in classifier.score_windows(paths):
            failed_before = len(failed)
            for n, error in batch.errors.items():
                failed.setdefault(batch.parts[n].path, error)
            if batch.logits is not None and batch.sound:
                own = batch.logits if self._view.outputs else None
                parts.append(self._score(batch.descriptors, own))
                groups += [batch.parts[n].path for n in batch.sound]
                if self._meter is not None:
                    acoustics.append(self._meter.measure(batch.samples))
            # a file may fail in a later batch than that of its first window
            self._progress.advance(len({part.path for part in batch.parts} - done), len(failed) - failed_before)
            done |= {part.path for part in batch.parts}
        if not parts:
            return None, failed
        scores, beyond = _joined(parts)
        return self._scored(np.array(groups), scores, beyond, concatenate(acoustics) if acoustics else None), failed

    def _score(self, descriptors: Mapping[str, Array], logits: Array | None) -> tuple[Scores, Array | None]:
        judged = self._rule.judge(descriptors, logits)
        scores = {STRANGENESS: judged.strangeness}
        scores |= {} if logits is None else of_logits(logits)
        return scores | self._layers.score(descriptors), judged.unknown

    def _scored(self, groups: Array, scores: Scores, beyond: Array | None, acoustics: Acoustics | None) -> ScoredClips:
        if acoustics is None or self._audio is None:
            return ScoredClips(groups, scores, None, beyond)
        of_audio = self._audio.score(acoustics.measures, acoustics.spectra)
        return ScoredClips(groups, scores | of_audio, acoustics.measures, beyond)


def _joined(parts: Sequence[tuple[Scores, Array | None]]) -> tuple[Scores, Array | None]:
    scores = {name: np.concatenate([part[name] for part, _ in parts]) for name in parts[0][0]}
    beyond = [part for _, part in parts if part is not None]
    return scores, np.concatenate(beyond) if beyond else None
