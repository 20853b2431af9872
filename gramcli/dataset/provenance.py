"""Records in a checkpoint which clips a network was trained on, and refuses to validate or test it on these.

Files are identified by the SHA-256 of their content. Where a file was cut into windows, the checkpoint also lists the
stretches that were used, so that other windows of the same seconds are found too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gramcli.dataset.clip import UNKNOWN, Clip
from gramcli.errors import ArtefactError, UsageError
from gramcli.identity import file_digest
from gramcli.text import shown

Spans = Sequence[tuple[float, float]]
"""Start and end in seconds."""


def as_metadata(training: Iterable[Clip], validation: Iterable[Clip]) -> dict[str, Any]:
    """Returns the entries of a checkpoint's metadata that name the clips of its training.

    ``trained_on`` and ``chosen_on`` list the keys of training and validation clips; the key of a file that was not cut
    is its SHA-256. ``trained_stretches`` has start and end in seconds of what was cut, by the SHA-256 of the file.
    """
    keys: set[str] = set()
    cut: dict[str, list[tuple[float, float]]] = {}
    digests: dict[str, str] = {}
    for clip in training:
        keys.add(clip.key)
        if clip.part is not None:
            cut.setdefault(_file_digest(clip, digests), []).append(clip.part)
    return {
        "trained_on": sorted(keys),
        "trained_stretches": {digest: _merged(spans) for digest, spans in sorted(cut.items())},
        "chosen_on": sorted({clip.key for clip in validation}),
    }


def check_unseen(clips: Iterable[Clip], metadata: Mapping[str, Any], path: Path) -> None:
    """Refuses clips of the validation, test and unknown splits that overlap with what a network was trained on.

    Args:
        clips: Of all splits; clips of the training split are never refused.
        metadata: The checkpoint's ``gramcli`` metadata; if it names no training clips, nothing is refused.
        path: The checkpoint, for the message.

    Raises:
        UsageError: There is such a clip; the first is named.
        ArtefactError: The metadata cannot be understood.
    """
    try:
        listed = metadata.get("trained_on", ())
        if not isinstance(listed, list | tuple):
            raise TypeError("trained_on")
        keys = set(map(str, listed))
        stretches = {
            str(digest): [(float(start), float(end)) for start, end in spans]
            for digest, spans in metadata.get("trained_stretches", {}).items()
        }
    except (TypeError, ValueError, AttributeError):
        raise ArtefactError(
            f"{shown(path)}: trained_on or trained_stretches in its gramcli metadata cannot be read; train the network "
            "again, or remove both from the metadata"
        ) from None
    if not keys:
        return
    digests: dict[str, str] = {}
    for clip in clips:
        if clip.split in ("validation", "test", UNKNOWN) and clip.key and _overlaps(clip, keys, stretches, digests):
            raise UsageError(
                f"{shown(clip.id)}: is in the {clip.split} split, but {shown(path.name)} was trained on it; "
                "use the splits or folds of that training, or a network trained without it"
            )


def chose_by(clips: Iterable[Clip], metadata: Mapping[str, Any], path: Path) -> int:
    """Returns how many test clips were validation clips of the training, whose accuracy chose the epoch.

    Raises:
        ArtefactError: The metadata cannot be understood.
    """
    listed = metadata.get("chosen_on", ())
    if not isinstance(listed, list | tuple):
        raise ArtefactError(
            f"{shown(path)}: chosen_on in its gramcli metadata cannot be read; train the network again, or remove it "
            "from the metadata"
        )
    keys = set(map(str, listed))
    return sum(clip.split in ("test", UNKNOWN) and clip.key in keys for clip in clips)


def _overlaps(clip: Clip, keys: set[str], stretches: Mapping[str, Spans], digests: dict[str, str]) -> bool:
    if clip.key in keys or clip.key in stretches:
        return True
    if clip.part is None:
        return False
    first, last = clip.part
    digest = _file_digest(clip, digests)
    return digest in keys or any(start < last and first < end for start, end in stretches.get(digest, ()))


def _file_digest(clip: Clip, digests: dict[str, str]) -> str:
    """Returns the SHA-256 of a clip's file, hashing it only if the table of clips does not have it.

    Args:
        clip: The clip.
        digests: Files that were hashed before, by path; the file is added. "" where it can no longer be read, which
            decoding will report.
    """
    if clip.file_digest:
        return clip.file_digest
    if clip.path not in digests:
        try:
            digests[clip.path] = file_digest(clip.path)
        except OSError:
            digests[clip.path] = ""
    return digests[clip.path]


def _merged(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Joins stretches that touch or overlap."""
    merged: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
