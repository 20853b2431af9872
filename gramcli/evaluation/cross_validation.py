"""A cross-validation judged whole: one checkpoint a fold, every clip by a network that never heard it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gramcli.calibration.calibrate import calibrate
from gramcli.calibration.select_layers import select_layers
from gramcli.dataset import manifest
from gramcli.errors import ArtefactError, NoInputError, UsageError
from gramcli.evaluation.baselines import require_scikit_learn
from gramcli.evaluation.comparison import Decisions, JudgedClips
from gramcli.evaluation.evaluate import Evaluation, judge_conditions, summarise
from gramcli.extraction.extract import extract
from gramcli.inference.rule import Rule
from gramcli.network import checkpoint
from gramcli.progress import Progress, Silent
from gramcli.settings.configure import configure, home
from gramcli.settings.schema import Settings
from gramcli.text import shown

PLACE = "{fold}"
"""Stands for the fold in a pattern of checkpoints."""


@dataclass(frozen=True)
class Fold:
    """One fold of a cross-validation."""

    name: str
    """Value of the fold column; its clips are the test split."""
    validation: str
    """Fold whose clips are the validation split."""
    weights: Path
    cache: Path


def evaluate_folds(
    pattern: str,
    *,
    conditions: Sequence[str] = (),
    rivals: bool = False,
    flags: Mapping[str, Mapping[str, Any]] | None = None,
    config: Path | None = None,
    override_metadata: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Extracts, calibrates and selects layers fold by fold, and judges all test clips together.

    Each fold has a cache of its own, ``folds/<fold>`` in the folder of the cache, so a second call computes only what
    is missing. Every fold's clips are judged by that fold's own statistics, rule and threshold.

    Args:
        pattern: Checkpoints, with ``{fold}`` where the value of the manifest's fold column stands.
        conditions: As for `evaluate`.
        rivals: As for `evaluate`.
        flags: Settings by section and key; ``data.manifest`` must be given there or in a settings file.
        config: A settings file.
        override_metadata: Whether explicit settings may contradict the checkpoints' metadata.
        progress: Told of steps and notes, and of checkpoints that do not say what they were trained on.

    Raises:
        UsageError: No fold column, no ``{fold}`` in the pattern, one checkpoint for several folds, or one that says it
            was trained on the clips that it would be judged on.
        NoInputError: A checkpoint is missing, or a fold has no usable clip.
        ArtefactError: Folds differ in their classes or in their rule; and what the stages raise.
        ResourceError: Rivals are wanted, and scikit-learn is not installed.
    """
    progress = progress or Silent()
    flags = flags or {}
    if rivals:
        require_scikit_learn()
    folds = plan(pattern, flags, config)
    # what can be said of all folds without decoding is said before the first one is extracted
    chosen = [_settings(fold, flags, config, override_metadata) for fold in folds]
    for fold in folds:
        if not checkpoint.metadata(fold.weights).get("trained_on"):
            progress.note(
                f"{shown(fold.weights)}: does not say what it was trained on; that it never heard fold "
                f"{shown(fold.name)} is taken on trust"
            )
    parts: list[dict[str, JudgedClips]] = []
    rules: dict[str, Rule] = {}
    for fold, settings in zip(folds, chosen, strict=True):
        progress.note(f"fold {shown(fold.name)}: {shown(fold.weights)}, validated on fold {shown(fold.validation)}")
        extract(settings, folder=home(config), progress=progress)
        calibrate(fold.cache, settings.calibrate, progress=progress)
        select_layers(fold.cache, settings.decision, progress=progress)
        run = {"network": {"weights": str(fold.weights)}, "run": flags.get("run", {})}
        contenders = Decisions.of(fold.cache, progress, with_rivals=rivals)
        parts.append(judge_conditions(fold.cache, contenders, "test", conditions, progress, flags=run, config=config))
        rules[fold.name] = contenders.rule
    first = next(iter(rules))
    _require_alike(rules, first)
    pooled = {name: JudgedClips.pooled([part[name] for part in parts]) for name in parts[0]}
    return summarise("test", rules[first], pooled)


def _require_alike(rules: Mapping[str, Rule], first: str) -> None:
    one = rules[first]
    for name, other in rules.items():
        what = ""
        if one.name != other.name:
            what = f"rules ({one.name} and {other.name})"
        elif one.classes != other.classes:
            what = f"classes ({len(one.classes)} and {len(other.classes)} of them, or in another order)"
        if what:
            raise ArtefactError(
                f"folds {shown(first)} and {shown(name)} have different {what}: their clips cannot be judged together"
            )


def plan(pattern: str, flags: Mapping[str, Mapping[str, Any]], config: Path | None) -> list[Fold]:
    """Returns the folds of the manifest, whose checkpoints are all there, each another; see `evaluate_folds`."""
    if PLACE not in pattern:
        raise UsageError(f"--folds {shown(pattern)}: name one checkpoint a fold, as in resnet18-{PLACE}.safetensors")
    base = configure(flags, config=config, weights=False)
    names = manifest.folds(base.data)
    if len(names) < 3:
        raise UsageError(
            f"{shown(base.data.manifest)}: a cross-validation takes 3 folds, for training, validation and test; there "
            f"are {len(names)}"
        )
    folds = list(_folds(pattern, names, Path(base.cache.dir)))
    first: dict[str, Fold] = {}
    for fold in folds:
        other = first.setdefault(checkpoint.digest(fold.weights), fold)
        if other is not fold:
            raise UsageError(
                f"{shown(other.weights)} and {shown(fold.weights)} are the same network, which has learnt the clips of "
                f"fold {shown(other.name)} or {shown(fold.name)}; give each fold a network trained without it"
            )
    return folds


def _folds(pattern: str, names: Sequence[str], cache: Path) -> Iterator[Fold]:
    for n, name in enumerate(names):
        weights = Path(pattern.replace(PLACE, name))
        if not weights.is_file():
            raise NoInputError(f"{shown(weights)}: the checkpoint of fold {shown(name)} is missing")
        training = checkpoint.metadata(weights).get("training")
        # another's checkpoint does not say; the next fold is as good as any
        told = str(training.get("validation_fold")) if isinstance(training, dict) else ""
        validation = told if told in names and told != name else names[(n + 1) % len(names)]
        yield Fold(name, validation, weights, cache / "folds" / _folder(name))


def _folder(name: str) -> str:
    """Returns the name of a folder; a value of a table can be anything."""
    return "".join(sign if sign.isalnum() or sign in "-_" else f"%{ord(sign):02X}" for sign in name)


def _settings(
    fold: Fold, flags: Mapping[str, Mapping[str, Any]], config: Path | None, override_metadata: bool
) -> Settings:
    own = {
        "data": {"test_fold": fold.name, "validation_fold": fold.validation},
        "network": {"weights": str(fold.weights)},
        "cache": {"dir": str(fold.cache)},
    }
    sections = {section: {**flags.get(section, {}), **own.get(section, {})} for section in {*flags, *own}}
    return configure(sections, config=config, override_metadata=override_metadata)
