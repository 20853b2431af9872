"""Every setting of gramcli with its default and its help text, as frozen dataclasses, one a section.

The command line makes its flags from these fields, so a setting has one name, one default and one help text.
`gramcli.settings.sources` says how the settings of a run come together.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


def option(
    default: Any,
    help: str,
    kind: str = "text",
    *,
    words: tuple[str, ...] = (),
    least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    flag: str | None = None,
) -> Any:
    """A dataclass field that knows how to read and describe itself.

    Args:
        default: Value when no layer says otherwise; ``None`` means "not given".
        help: One line for ``--help``.
        kind: ``text``, ``path``, ``whole`` (int), ``number`` (float), ``switch`` (bool), ``names`` (list of text),
            ``table`` (key = value) or ``word`` (one of `words`).
        words: Words that are valid values; for numbers, in place of a number.
        least: Smallest valid number.
        above: Number that a valid one exceeds.
        below: Number that exceeds a valid one.
        flag: Name of the command-line flag where it is not the key in kebab case.
    """
    about = {
        "help": help, "kind": kind, "words": words, "least": least, "above": above, "below": below, "flag": flag,
    }  # fmt: skip
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=about)
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class DataSettings:
    """Which clips there are and how they are split."""

    manifest: str | None = option(None, "Folder, CSV/TSV/JSONL file or DCASE folder that lists the clips.", "path")
    audio_root: str | None = option(None, "Folder that file names are relative to (the manifest's own).", "path")
    allow_outside: bool = option(False, "Read files that the manifest names outside that folder.", "switch")
    validation_fold: str | None = option(None, "Value of the fold column that becomes the validation split.")
    test_fold: str | None = option(None, "Value of the fold column that becomes the test split.")
    hold_out: tuple[str, ...] = option(
        (), "Labels that nothing learns; their test clips stay as unknown sounds.", "names"
    )
    max_seconds: float = option(90_000.0, "Longest audio file that is read, in seconds.", "number", above=0)
    allow_truncated: bool = option(False, "Use files that end early as far as they go.", "switch")
    seed: int = option(0, "Seed of splits that are made, and of random weights.", "whole", least=0)


@dataclass(frozen=True)
class SegmentSettings:
    """What one window of audio is."""

    seconds: float = option(10.0, "Length of a window; longer clips become several.", "number", above=0)
    pad: str = option("zero", "How a shorter clip is filled up.", "word", words=("zero", "repeat"))
    channel: int | str = option(
        "mix", "Channel to use, counted from 0, or their mean.", "whole", words=("mix",), least=0
    )


@dataclass(frozen=True)
class FrontendSettings:
    """What the network is fed."""

    kind: str = option("logmel", "Log-mel spectrogram, or samples.", "word", words=("logmel", "waveform"))
    sample_rate: int = option(16000, "Samples a second after resampling.", "whole", least=1000)
    n_fft: int = option(1024, "Length of the Fourier transform, in samples.", "whole", least=2)
    window_ms: float = option(40.0, "Length of the Hann window, in milliseconds.", "number", above=0)
    hop_ms: float = option(20.0, "Step between frames, in milliseconds.", "number", above=0)
    n_mels: int = option(128, "Mel bands.", "whole", least=1)
    f_min: float = option(0.0, "Lowest frequency, in Hz.", "number", least=0)
    f_max: float | str = option(
        "nyquist", "Highest frequency, in Hz (half the rate).", "number", words=("nyquist",), above=0
    )
    mel_scale: str = option("htk", "Formula of the mel scale.", "word", words=("htk", "slaney"))
    norm: str = option("none", "Area normalisation of the mel filters.", "word", words=("none", "slaney"))
    log: str = option("db", "Decibels or natural logarithm.", "word", words=("db", "ln"))
    amin: float = option(1e-10, "Power below which the logarithm is clamped.", "number", above=0)
    top_db: float | str = option(80.0, "Floor below the clip's own maximum, in dB.", "number", words=("none",), above=0)
    mean: float = option(0.0, "Subtracted from the log-mel.", "number")
    std: float = option(1.0, "Divides the log-mel after that.", "number", above=0)


@dataclass(frozen=True)
class NetworkSettings:
    """The trained network and which of its layers are recorded."""

    name: str | None = option(None, "timm name, or package.module:factory.", flag="network")
    weights: str | None = option(None, "Checkpoint: safetensors, or a state dict.", "path")
    classes: tuple[str, ...] = option((), "Labels in the order of the network's outputs.", "names")
    head: str = option("map", "Whether the outputs are the labels.", "word", words=("map", "none"))
    layers: tuple[str, ...] = option(("*",), "Globs of activation layers to record.", "names")
    channel_dims: Mapping[str, Any] = option(
        {}, "Channel dimension by glob of layer, where the rule is wrong.", "table"
    )
    with_means: bool = option(False, "Also keep the mean of every channel, for evaluate --rivals.", "switch")
    args: Mapping[str, Any] = option({"in_chans": 1}, "Arguments of the network's constructor.", "table", flag="arg")


@dataclass(frozen=True)
class RunSettings:
    """How the work is done; precision aside, results do not depend on it beyond rounding."""

    device: str = option("auto", "auto, cpu, cuda or cuda:N.")
    batch: int = option(16, "Windows in one forward pass.", "whole", least=1)
    threads: int | None = option(None, "Threads of torch (its own default).", "whole", least=1)
    precision: str = option("fp32", "Arithmetic of the network.", "word", words=("fp32", "bf16"))
    decoders: int = option(2, "Processes that decode and resample audio.", "whole", least=1)


@dataclass(frozen=True)
class TrainSettings:
    """How a network is trained; the defaults are the paper's recipe."""

    epochs: int = option(100, "Times that every training clip is seen.", "whole", least=1)
    batch: int = option(32, "Clips in one step.", "whole", least=2)
    learning_rate: float = option(1e-3, "Learning rate.", "number", above=0)
    schedule: str = option("constant", "Course of the learning rate.", "word", words=("constant", "cosine"))
    optimiser: str = option("radam", "Optimiser.", "word", words=("radam", "adam", "adamw", "sgd"))
    weight_decay: float = option(0.0, "Weight decay.", "number", least=0)
    augment: tuple[str, ...] = option((), "Augmentation: specaugment, mixup, noise.", "names")
    scaling: str = option(
        "measured", "Mean and std: of the training clips, or as given.", "word", words=("measured", "given")
    )
    memory_gib: float = option(4.0, "Clips are kept in memory up to this, else decoded anew.", "number", least=0)


@dataclass(frozen=True)
class CalibrateSettings:
    """How class bounds become deviations."""

    epsilon: float = option(0.05, "Smallest denominator of a deviation.", "number", least=1e-30)
    class_size: str = option(
        "level", "Bring evidence of the rule fused to one class size.", "word", words=("level", "ignore")
    )


@dataclass(frozen=True)
class DecisionSettings:
    """How layers are ranked and how many decide."""

    ranking: str = option("rank", "Score of a layer.", "word", words=("rank", "wasserstein", "paper"))
    top_k: int | str = option("auto", "How many layers decide.", "whole", words=("auto", "all"), least=1)
    rule: str = option(
        "fused", "Network and layers together, or the paper's smallest deviation.", "word", words=("fused", "gram")
    )
    false_reject: float = option(
        0.05, "Share of known recordings that may be called unknown.", "number", above=0, least=1e-6, below=1
    )


@dataclass(frozen=True)
class CacheSettings:
    """Where descriptors are kept."""

    dir: str = option(".gramcli", "Folder of the cache.", "path", flag="cache")
    clips_per_shard: int | None = option(None, "Clips in one shard (64 MiB of them).", "whole", least=1)


@dataclass(frozen=True)
class Settings:
    """All settings of one run."""

    data: DataSettings = field(default_factory=DataSettings)
    segment: SegmentSettings = field(default_factory=SegmentSettings)
    frontend: FrontendSettings = field(default_factory=FrontendSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    run: RunSettings = field(default_factory=RunSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    calibrate: CalibrateSettings = field(default_factory=CalibrateSettings)
    decision: DecisionSettings = field(default_factory=DecisionSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Returns sections of plain JSON values, without what is not given."""
        sections: dict[str, dict[str, Any]] = json.loads(json.dumps(dataclasses.asdict(self)))
        return {
            name: {key: value for key, value in table.items() if value is not None} for name, table in sections.items()
        }


PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    # The paper's rule as it stands: Eq. 9 without a floor worth the name, Eq. 12 on training clips, sizes not minded.
    "paper": {"calibrate": {"epsilon": 1e-6, "class_size": "ignore"}, "decision": {"ranking": "paper", "rule": "gram"}},
}


def fields() -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    """Yields every setting as (section, field)."""
    for section in dataclasses.fields(Settings):
        for key in dataclasses.fields(section_type(section.name)):
            yield section.name, key


def section_type(name: str) -> type[Any]:
    """Returns the dataclass of a section."""
    factory: Any = Settings.__dataclass_fields__[name].default_factory
    return factory  # type: ignore[no-any-return]
