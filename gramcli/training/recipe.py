"""The recipe of a training: its settings and clips, and the identity that tells it from any other training.

A resume file and a finished checkpoint carry the identity, so that a repeated command goes on with its own training
and refuses that of another.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gramcli.dataset.clip import Clip
from gramcli.settings.schema import Settings
from gramcli.training.clips import TrainingClips

FORMAT = 1
"""Version of the training itself; a change that leads to other weights raises it."""


@dataclass(frozen=True, eq=False)
class Recipe:
    """All that decides the trained weights."""

    settings: Settings
    clips: TrainingClips

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that the trained weights depend on, as JSON values."""
        settings = self.settings
        recipe = {key: value for key, value in dataclasses.asdict(settings.train).items() if key != "memory_gib"}
        identity = {
            "format": FORMAT,
            "architecture": settings.network.name,
            "args": dict(settings.network.args),
            "classes": list(self.clips.classes),
            "frontend": dataclasses.asdict(settings.frontend),
            "segment": dataclasses.asdict(settings.segment),
            "train": recipe,
            "seed": settings.data.seed,
            "precision": settings.run.precision,
            "training clips": _digest(self.clips.training),
            "validation clips": _digest(self.clips.validation),
        }
        return json.loads(json.dumps(identity))  # type: ignore[no-any-return]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the identity."""
        # not `gramcli.identity.fingerprint`, which separates otherwise: checkpoints hold this one
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()


def _digest(clips: Sequence[Clip]) -> str:
    """Names clips and labels in their order, which the order of training follows."""
    pairs = repr([(clip.key, clip.label) for clip in clips])
    return hashlib.sha256(pairs.encode("utf-8", "surrogatepass")).hexdigest()
