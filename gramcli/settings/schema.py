"""All settings of gramcli with their defaults and help texts, one frozen dataclass for each section.

The command line makes its flags from these fields, so a setting has one name, one default and one help text.
`gramcli.settings.sources` says which source of a value wins.
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
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    flag: str | None = None,
) -> Any:
    """A dataclass field with its help text and the values it can have.

    Args:
        default: Value if no source gives one; ``None`` means "not given".
        help: One line for ``--help``.
        kind: ``text``, ``path``, ``int``, ``number`` (float), ``switch`` (bool), ``names`` (list of text),
            ``table`` (key = value) or ``word`` (one of `words`).
        words: Valid words; for numbers, words that are valid instead of a number.
        least: Smallest valid number.
        most: Largest valid number: what is larger can only be a mistake, and would overflow or exhaust memory.
        above: Valid numbers are larger than this.
        below: Valid numbers are smaller than this.
        flag: Name of the command-line flag, if it is not the key with dashes.
    """
    about = {
        "help": help, "kind": kind, "words": words, "flag": flag,
        "least": least, "most": most, "above": above, "below": below,
    }  # fmt: skip
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=about)
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class DataSettings:
    """Which clips there are and how they are split."""

    manifest: str | None = option(None, "Folder, CSV/TSV/JSONL file or DCASE folder that lists the clips.", "path")
    audio_root: str | None = option(
        None, "Folder that file names in the manifest are relative to (default: its own).", "path"
    )
    allow_outside: bool = option(
        False, "Allow audio files outside the folder that file names are relative to.", "switch"
    )
    validation_fold: str | None = option(None, "Value of the fold column that becomes the validation split.")
    test_fold: str | None = option(None, "Value of the fold column that becomes the test split.")
    hold_out: tuple[str, ...] = option(
        (), "Labels kept out of training and validation; their test clips serve as unknown sounds.", "names"
    )
    max_seconds: float = option(90_000.0, "Longest audio file that is read, in seconds.", "number", above=0, most=1e9)
    allow_truncated: bool = option(False, "Use truncated audio files as far as they can be decoded.", "switch")
    seed: int = option(0, "Seed of random splits and random weights.", "int", least=0, most=2**63 - 1)


@dataclass(frozen=True)
class SegmentSettings:
    """How clips are cut into windows."""

    seconds: float = option(
        10.0, "Length of a window in seconds; longer clips are cut into several.", "number", above=0, most=86_400
    )
    pad: str = option("zero", "Fill a shorter clip with zeros, or repeat it.", "word", words=("zero", "repeat"))
    channel: int | str = option(
        "mix", "Channel to use, counted from 0, or the mean of all (mix).", "int", words=("mix",), least=0, most=1023
    )


@dataclass(frozen=True)
class FrontendSettings:
    """How audio becomes the input of the network."""

    kind: str = option(
        "logmel", "Input of the network: log-mel spectrogram, or audio samples.", "word", words=("logmel", "waveform")
    )
    sample_rate: int = option(16000, "Sample rate that audio is resampled to, in Hz.", "int", least=1000, most=768_000)
    n_fft: int = option(1024, "Length of the Fourier transform, in samples.", "int", least=2, most=2**20)
    window_ms: float = option(40.0, "Length of the Hann window, in milliseconds.", "number", above=0, most=1e6)
    hop_ms: float = option(20.0, "Step between frames, in milliseconds.", "number", above=0, most=1e6)
    n_mels: int = option(128, "Number of mel bands.", "int", least=1, most=16_384)
    f_min: float = option(0.0, "Lowest frequency, in Hz.", "number", least=0, most=384_000)
    f_max: float | str = option(
        "nyquist",
        "Highest frequency, in Hz, or half the sample rate (nyquist).",
        "number",
        words=("nyquist",),
        above=0,
        most=384_000,
    )
    mel_scale: str = option("htk", "Formula of the mel scale.", "word", words=("htk", "slaney"))
    norm: str = option("none", "Area normalisation of the mel filters.", "word", words=("none", "slaney"))
    log: str = option("db", "Decibels, or natural logarithm.", "word", words=("db", "ln"))
    amin: float = option(1e-10, "Power below which the logarithm is clamped.", "number", above=0, most=1e20)
    top_db: float | str = option(
        80.0, "Range below the window's own maximum that is kept, in dB.", "number", words=("none",), above=0, most=1e4
    )
    mean: float = option(0.0, "Mean that is subtracted from the log-mel.", "number", least=-1e8, most=1e8)
    std: float = option(1.0, "Standard deviation that the log-mel is then divided by.", "number", above=0, most=1e8)


@dataclass(frozen=True)
class NetworkSettings:
    """The trained network and which of its layers are recorded."""

    name: str | None = option(None, "Name of a timm network, or package.module:factory of your own.", flag="network")
    weights: str | None = option(None, "Checkpoint of the network: safetensors, or a state dict.", "path")
    classes: tuple[str, ...] = option((), "Class labels, in the order of the network's outputs.", "names")
    head: str = option(
        "map", "map if the network's outputs are the classes, none if not.", "word", words=("map", "none")
    )
    layers: tuple[str, ...] = option(("*",), "Layers to record; * and ? are wildcards.", "names")
    channel_dims: Mapping[str, Any] = option(
        {}, "Channel dimension of layers for which it is guessed wrongly, e.g. 'blocks.*=2'.", "table"
    )
    with_means: bool = option(False, "Also keep channel means, for evaluate --rivals.", "switch")
    args: Mapping[str, Any] = option(
        {"in_chans": 1}, "Argument of the network's constructor; may be repeated.", "table", flag="arg"
    )


@dataclass(frozen=True)
class RunSettings:
    """How the computer is used. Apart from `precision`, results depend on it only by rounding."""

    device: str = option("auto", "Device for the network: auto, cpu, cuda or cuda:N.")
    batch: int = option(16, "Windows in one forward pass of the network.", "int", least=1, most=2**20)
    threads: int | None = option(None, "Threads for the network (default: torch's own).", "int", least=1, most=1024)
    precision: str = option("fp32", "Number format of the network's arithmetic.", "word", words=("fp32", "bf16"))
    decoders: int = option(2, "Number of processes that decode audio.", "int", least=1, most=64)


@dataclass(frozen=True)
class TrainSettings:
    """How a network is trained; the defaults are the paper's recipe."""

    epochs: int = option(100, "Number of passes over the training clips.", "int", least=1, most=10**6)
    batch: int = option(32, "Clips in one training step.", "int", least=2, most=2**20)
    learning_rate: float = option(1e-3, "Learning rate.", "number", above=0, most=1e6)
    schedule: str = option("constant", "Schedule of the learning rate.", "word", words=("constant", "cosine"))
    optimiser: str = option("radam", "Optimiser.", "word", words=("radam", "adam", "adamw", "sgd"))
    weight_decay: float = option(0.0, "Weight decay.", "number", least=0, most=1e6)
    augment: tuple[str, ...] = option((), "Augmentations: specaugment, mixup, noise.", "names")
    scaling: str = option(
        "measured",
        "Measure mean and std on the training clips, or use --mean and --std.",
        "word",
        words=("measured", "given"),
    )
    memory_gib: float = option(
        4.0, "Keep clips in memory up to this size; else decode them every epoch.", "number", least=0, most=1e6
    )


@dataclass(frozen=True)
class CalibrateSettings:
    """How deviations are computed from class bounds."""

    epsilon: float = option(
        0.05, "Smallest denominator of a deviation (epsilon of Eq. 9).", "number", least=1e-30, most=1e20
    )
    class_size: str = option(
        "level", "Correct the fused rule for unequal class sizes.", "word", words=("level", "ignore")
    )


@dataclass(frozen=True)
class DecisionSettings:
    """How layers are ranked, and how the rule and the threshold are set."""

    ranking: str = option("rank", "Score that layers are ranked by.", "word", words=("rank", "wasserstein", "paper"))
    top_k: int | str = option(
        "auto", "Number of layers in the deviation.", "int", words=("auto", "all"), least=1, most=10**9
    )
    rule: str = option(
        "fused",
        "Combine network and layers, or use the smallest deviation (gram, as in the paper).",
        "word",
        words=("fused", "gram"),
    )
    false_reject: float = option(
        0.05, "Share of known recordings that may be called unknown.", "number", above=0, least=1e-6, below=1
    )


@dataclass(frozen=True)
class CacheSettings:
    """Where descriptors are stored."""

    dir: str = option(".gramcli", "Folder of the cache.", "path", flag="cache")
    clips_per_shard: int | None = option(
        None, "Clips in one file of the cache (default: 64 MiB of them).", "int", least=1, most=10**9
    )


LARGEST_WINDOW = 2**28
"""Samples of a window, at most: 1 GiB of float32, 4.6 hours at 16 kHz."""
LARGEST_SPECTROGRAM = 2**30
"""Numbers in the spectrogram of a window, and in the mel filters, at most: 4 GiB of float32."""


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
    stated: Mapping[str, Mapping[str, Any]] | None = field(default=None, compare=False, repr=False)
    """No section: the settings that the checkpoint's metadata stated when these were put together, by section and key.
    None if its metadata was not read. Whoever reads the weights checks that they come from the same file."""

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Returns sections of plain JSON values, without settings that are not given."""
        sections: dict[str, dict[str, Any]] = json.loads(
            json.dumps({name: dataclasses.asdict(getattr(self, name)) for name in SECTIONS})
        )
        return {
            name: {key: value for key, value in table.items() if value is not None} for name, table in sections.items()
        }

    def excess(self) -> str:
        """Returns which settings together ask for more memory than any use of them needs, for a message; else ""."""
        front = self.frontend
        samples = self.segment.seconds * front.sample_rate
        if samples > LARGEST_WINDOW:
            return (
                f"segment.seconds = {self.segment.seconds:g} at {front.sample_rate} Hz are {samples:.0f} samples a "
                f"window, more than {LARGEST_WINDOW}"
            )
        hop = max(1.0, front.hop_ms * front.sample_rate / 1000)
        numbers = max((1 + samples / hop) * max(front.n_fft, front.n_mels), front.n_fft * front.n_mels)
        if front.kind == "logmel" and numbers > LARGEST_SPECTROGRAM:
            return (
                f"frontend.n_fft = {front.n_fft}, n_mels = {front.n_mels} and hop_ms = {front.hop_ms:g} need "
                f"{numbers:.0f} numbers for a window of {self.segment.seconds:g} s, more than {LARGEST_SPECTROGRAM}"
            )
        return ""


SECTIONS = tuple(field.name for field in dataclasses.fields(Settings) if field.name != "stated")
"""Names of the sections, in their order."""


PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    # The rule as published: Eq. 9 with a negligible epsilon, Eq. 12 on training clips, no correction for class sizes.
    "paper": {"calibrate": {"epsilon": 1e-6, "class_size": "ignore"}, "decision": {"ranking": "paper", "rule": "gram"}},
}


def fields() -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    """Yields every setting as (section, field)."""
    for section in SECTIONS:
        for key in dataclasses.fields(section_type(section)):
            yield section, key


def is_valid(section: str, name: str, value: object) -> bool:
    """Returns whether a setting can have a number, which a file may hold as a float where it wrote one."""
    about: Mapping[str, Any] = section_type(section).__dataclass_fields__[name].metadata
    below, above = about["below"], about["above"]
    return (
        isinstance(value, float | int)
        and not isinstance(value, bool)
        and (about["least"] is None or value >= about["least"])
        and (about["most"] is None or value <= about["most"])
        and (above is None or value > above)
        and (below is None or value < below)
    )


def section_type(name: str) -> type[Any]:
    """Returns the dataclass of a section."""
    factory: Any = Settings.__dataclass_fields__[name].default_factory
    return factory  # type: ignore[no-any-return]
