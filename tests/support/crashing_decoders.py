"""Decoders that fail on three files as if they had crashed: a fault that a later run may not meet again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from gramcli.audio.decoder_pool import Decoded, Decoders
from gramcli.audio.requests import Request

LOST = ("hum-0-0.wav", "hum-0-1.wav", "click-3-0.wav")
"""The first two share a shard in the sets of `tests.support.sets`."""


class CrashingDecoders(Decoders):
    """Stands for `Decoders`."""

    def decode(self, requests: Iterable[Request]) -> Iterator[Decoded]:
        requests = list(requests)
        for request, decoded in zip(requests, super().decode(requests), strict=True):
            lost = Path(request.path).name in LOST
            yield Decoded(None, "decoder crashed (signal 11)") if lost else decoded
