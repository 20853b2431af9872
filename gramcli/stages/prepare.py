"""From settings to a network that is ready to score windows, and the identity of what it computes."""

from __future__ import annotations

import dataclasses
import itertools
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gramcli import __version__
from gramcli.audio.workers import Request
from gramcli.errors import ArtefactError, UsageError, shown
from gramcli.settings import Network, Settings

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

    from gramcli.network.build import Built
    from gramcli.network.capture import Survey
    from gramcli.network.scorer import Scorer

FORMAT = 1
"""Version of what is computed; a change that alters descriptors raises it."""

RESAMPLER = "soxr HQ"


@dataclass(frozen=True)
class Prepared:
    """A built network, its layers and the scorer."""

    built: Built
    scorer: Scorer
    identity: Mapping[str, Any]
    samples: int
    """Length of a window in samples."""
    device: str
    """Where it runs, in words."""


def prepare(
    settings: Settings,
    labels: Sequence[str],
    folder: Path,
    *,
    only: Sequence[str] | None = None,
    state: Mapping[str, torch.Tensor] | None = None,
    identity: Mapping[str, Any] | None = None,
) -> Prepared:
    """Builds the network, finds its layers with one probe forward, and makes the scorer.

    Args:
        settings: All settings.
        labels: Labels of the outputs where the settings name none.
        folder: First on the import path of a factory.
        only: Layers to record; all that the settings choose if None.
        state: Weights that are in memory, for a network from an exported model.
        identity: What the result must be; its weights' digest stands where `state` is given.

    Raises:
        UsageError: No network named, or an unknown one.
        ArtefactError: Weights or classes do not fit the network, or the identity differs.
        ResourceError: The device is missing.
    """
    import torch

    from gramcli.audio import frontend
    from gramcli.cache.view import differences
    from gramcli.network import capture, scorer

    if settings.run.threads is not None:
        torch.set_num_threads(settings.run.threads)
    device = scorer.device(settings.run.device)
    scorer.check_precision(settings.run.precision, device)
    classes = settings.network.classes or tuple(labels)
    built = build_network(settings, classes, folder, state)
    samples = frontend.samples(settings.frontend, settings.segment)
    front = frontend.build(settings.frontend)
    survey = probe(built, front, samples, settings.network)
    chosen = capture.choose(survey.layers, settings.network.layers)
    found = identify(settings, built, classes, [(layer.name, layer.channels) for layer in chosen])
    if identity is not None:
        if state is not None:
            found = {**found, "weights": identity["weights"]}
        changed = differences(identity, found)
        if changed:
            raise ArtefactError(
                f"the network does not fit the statistics ({'; '.join(changed)}); give the settings of the extract, "
                "as --weights, or extract into another cache"
            )
    recorded = chosen if only is None else [layer for layer in chosen if layer.name in set(only)]
    ready = scorer.Scorer(
        built.module,
        front,
        recorded,
        device,
        settings.run.batch,
        settings.run.precision,
        built.outputs,
        settings.network.with_means and only is None,
    )
    where = f"{device} ({torch.get_num_threads()} threads)" if device.type == "cpu" else str(device)
    return Prepared(built, ready, found, samples, where)


def check_held_out(settings: Settings) -> None:
    """Raises a UsageError if a label held out is an output of the network, to which such sounds are not unknown."""
    for label in settings.data.hold_out:
        if label in settings.network.classes:
            raise UsageError(
                f"data.hold_out: '{shown(label)}' is one of the network's classes, so such sounds are not unknown to "
                "it; take it out of network.classes, or use a network that was trained with it held out"
            )


def build_network(
    settings: Settings,
    classes: Sequence[str],
    folder: Path,
    state: Mapping[str, torch.Tensor] | None = None,
) -> Built:
    """Builds the network that the settings name and loads its weights; see `prepare` for arguments and errors."""
    from gramcli.network import build, checkpoint

    network = settings.network
    wanted = len(classes) if classes and (network.head == "map" or network.classes) else None
    if state is None:
        built = build.build(network, wanted, settings.data.seed, folder)
    else:
        built = build.build(dataclasses.replace(network, weights=None), wanted, settings.data.seed, folder)
        checkpoint.load_into(built.module, dict(state), Path("the exported model"))
    if network.head == "map" and classes and built.outputs != len(classes):
        raise ArtefactError(
            f"{built.architecture}: has {built.outputs} outputs for {len(classes)} labels; "
            f"name its classes in order in network.classes, or set network.head to none"
        )
    return built


def probe(built: Built, front: torch.nn.Module, samples: int, network: Network) -> Survey:
    """Runs the network once on two windows of faint noise and lists its activations."""
    import torch

    from gramcli.network import capture

    noise = torch.randn(2, samples, generator=torch.Generator().manual_seed(0)) * 0.1
    with torch.inference_mode():
        return capture.survey(built.module, front(noise), network.channel_dims)


def identify(
    settings: Settings, built: Built, classes: Sequence[str], layers: Sequence[tuple[str, int]]
) -> dict[str, Any]:
    """Returns all that descriptors and logits depend on, as JSON values."""
    front = dataclasses.asdict(settings.frontend)
    if settings.frontend.kind == "waveform":  # nothing else is used then
        front = {key: front[key] for key in ("kind", "sample_rate")}
    return {
        "format": FORMAT,
        "architecture": built.architecture,
        "arguments": dict(built.arguments),
        "weights": built.weights,
        "head": settings.network.head,
        "outputs": list(classes) if settings.network.head == "map" else built.outputs,
        "layers": [list(layer) for layer in layers],
        "channel_dims": dict(settings.network.channel_dims),
        "frontend": front,
        "segment": dataclasses.asdict(settings.segment),
        "resampler": RESAMPLER,
        "condition": "clean",
        "precision": settings.run.precision,
        **({"with_means": True} if settings.network.with_means else {}),
    }


def versions() -> dict[str, str]:
    """Returns what the numbers were made with; recorded, not part of any fingerprint."""
    from importlib.metadata import version

    parts = ("torch", "torchaudio", "timm", "numpy", "h5py", "soundfile", "soxr")
    return {"gramcli": __version__, "python": platform.python_version(), **{part: version(part) for part in parts}}


def fit(windows: Sequence[npt.NDArray[Any]], samples: int, pad: str) -> npt.NDArray[Any]:
    """Cuts or pads decoded windows to one length and stacks them, (N, samples) float32."""
    import numpy as np

    from gramcli.audio import decode

    return np.stack([decode.fit(window, samples, pad) for window in windows])


class Span(Protocol):
    """A window of a file: a clip of the cache, or a part of a new recording."""

    @property
    def path(self) -> str:
        """The file."""

    @property
    def start(self) -> float | None:
        """Seconds, or None for the whole file."""

    @property
    def end(self) -> float | None:
        """Seconds, or None for the whole file."""


def requests(spans: Iterable[Span], settings: Settings) -> Iterator[Request]:
    """Yields what to decode, neighbouring windows of one file together."""
    for path, group in itertools.groupby(spans, key=lambda span: span.path):
        windows = tuple(None if span.start is None or span.end is None else (span.start, span.end) for span in group)
        yield Request(path, windows, settings.frontend.sample_rate, settings.segment.channel)
