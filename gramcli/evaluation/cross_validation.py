"""``gramcli evaluate --folds``: evaluates a cross-validation, each fold with its own checkpoint and cache.

Every clip is judged by a network that was trained without it, and all test clips are evaluated together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gramcli.audio.condition import parse
from gramcli.cache import inventory
from gramcli.cache.view import View
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
from gramcli.network.checkpoint_file import changed
from gramcli.settings.cache_folder import cache_folder
from gramcli.settings.configure import configure
from gramcli.settings.run_context import RunContext
from gramcli.settings.schema import Settings
from gramcli.text import shown

FOLD_PLACEHOLDER = "{fold}"
"""Part of the pattern of checkpoints that is replaced by the name of the fold."""


@dataclass(frozen=True)
class Fold:
    """One fold of a cross-validation."""

    name: str
    """Value of the fold column; its clips are the test split."""
    validation: str
    """Fold whose clips are the validation split."""
    weights: Path
    cache: Path
    digest: str
    """SHA-256 of the checkpoint, which is that of the extract too."""
    names_training: bool
    """Whether the checkpoint says which clips it was trained on."""


def evaluate_folds(
    pattern: str,
    *,
    conditions: Sequence[str] = (),
    rivals: bool = False,
    override_metadata: bool = False,
    context: RunContext | None = None,
) -> Evaluation:
    """Extracts, calibrates and selects layers fold by fold, and evaluates all test clips together.

    Each fold has a cache of its own, ``folds/<fold>`` in the folder of the cache, so a second call computes only what
    is missing. Every fold's clips are judged by that fold's own statistics, rule and threshold.

    Args:
        pattern: Paths of the checkpoints, with ``{fold}`` in place of the value of the manifest's fold column.
        conditions: As for `evaluate`.
        rivals: As for `evaluate`.
        override_metadata: Whether other settings may contradict the checkpoints' metadata.
        context: Settings, among them ``data.manifest``, the settings file, and progress.

    Raises:
        UsageError: No fold column, no ``{fold}`` in the pattern, one checkpoint for several folds, or one that says it
            was trained on the clips that it would be judged on.
        NoInputError: A checkpoint is missing, or a fold has no usable clip.
        ArtefactError: Folds differ in their classes or in their rule; and what the single steps raise.
        ResourceError: Rivals are wanted, and scikit-learn is not installed.
    """
    context = context or RunContext()
    progress = context.progress
    if rivals:
        require_scikit_learn()
    parsed = [parse(text) for text in conditions]
    folds = plan(pattern, context)
    # errors of any fold that need no audio to be found are raised before the first fold is extracted
    chosen = [_settings(fold, context, override_metadata) for fold in folds]
    for fold in folds:
        if not fold.names_training:
            progress.note(
                f"{shown(fold.weights)}: does not say which clips it was trained on; it is assumed that fold "
                f"{shown(fold.name)} is not among them"
            )
    parts: list[dict[str, JudgedClips]] = []
    rules: dict[str, Rule] = {}
    for fold, settings in zip(folds, chosen, strict=True):
        progress.note(f"fold {shown(fold.name)}: {shown(fold.weights)}, validated on fold {shown(fold.validation)}")
        inventory.require_folder(fold.cache.parents[1], fold.cache)  # the root of what follows, so links would count
        extract(settings, context)
        if View.open(fold.cache).identity["weights"] != fold.digest:
            raise changed(fold.weights)
        calibrate(fold.cache, settings.calibrate, progress=progress)
        select_layers(fold.cache, settings.decision, progress=progress)
        named = {**context.settings.get("network", {}), "weights": str(fold.weights)}
        run = {"network": named, "run": context.settings.get("run", {})}
        decisions = Decisions.of(fold.cache, progress, with_rivals=rivals)
        parts.append(judge_conditions(decisions, "test", parsed, replace(context, settings=run)))
        rules[fold.name] = decisions.rule
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
                f"folds {shown(first)} and {shown(name)} have different {what}: their clips cannot be evaluated "
                "together"
            )


def plan(pattern: str, context: RunContext) -> list[Fold]:
    """Returns the folds of the manifest, each with a checkpoint of its own that exists; see `evaluate_folds`."""
    if FOLD_PLACEHOLDER not in pattern:
        raise UsageError(
            f"--folds {shown(pattern)}: give one checkpoint per fold, as in resnet18-{FOLD_PLACEHOLDER}.safetensors"
        )
    cache = cache_folder(context)  # refused, if it is, before anything is read
    base = configure(context)
    names = manifest.folds(base.data)
    if len(names) < 3:
        raise UsageError(
            f"{shown(base.data.manifest)}: a cross-validation needs at least 3 folds, for training, validation and "
            f"test; there are {len(names)}"
        )
    folds = list(_folds(pattern, names, cache))
    for fold in folds:
        inventory.require_folder(cache, fold.cache)
    first: dict[str, Fold] = {}
    for fold in folds:
        other = first.setdefault(fold.digest, fold)
        if other is not fold:
            raise UsageError(
                f"{shown(other.weights)} and {shown(fold.weights)} are the same checkpoint, which was trained on fold "
                f"{shown(other.name)} or {shown(fold.name)}; give each fold a network trained without it"
            )
    return folds


def _folds(pattern: str, names: Sequence[str], cache: Path) -> Iterator[Fold]:
    for n, name in enumerate(names):
        if "/" in name or "\0" in name or name in (".", ".."):  # the manifest would choose the folder of the checkpoint
            raise UsageError(f"fold '{shown(name)}': cannot be part of the name of a file; rename it in the manifest")
        weights = Path(pattern.replace(FOLD_PLACEHOLDER, name))
        if not weights.is_file():
            raise NoInputError(f"{shown(weights)}: the checkpoint of fold {shown(name)} is missing")
        digest, metadata = checkpoint.identify(weights)
        training = metadata.get("training")
        # a checkpoint of another program does not name its validation fold: any other fold will do
        stated = str(training.get("validation_fold")) if isinstance(training, dict) else ""
        validation = stated if stated in names and stated != name else names[(n + 1) % len(names)]
        yield Fold(name, validation, weights, cache / "folds" / _folder(name), digest, bool(metadata.get("trained_on")))


def _folder(name: str) -> str:
    """Returns a folder's name for a fold; unusual characters are escaped."""
    return "".join(sign if sign.isalnum() or sign in "-_" else f"%{ord(sign):02X}" for sign in name)


def _settings(fold: Fold, context: RunContext, override_metadata: bool) -> Settings:
    given = context.settings
    own = {
        "data": {"test_fold": fold.name, "validation_fold": fold.validation},
        "network": {"weights": str(fold.weights)},
        "cache": {"dir": str(fold.cache)},
    }
    sections = {section: {**given.get(section, {}), **own.get(section, {})} for section in {*given, *own}}
    return configure(
        replace(context, settings=sections), metadata=checkpoint.settings_of_file, override_metadata=override_metadata
    )
