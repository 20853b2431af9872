"""Randomly changed audio files of eight formats neither crash a decoder, nor hang it, nor make it grow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gramcli.audio.decoder_pool import Decoders
from gramcli.audio.limits import LOUDEST, Limits
from gramcli.audio.reader import Probe
from gramcli.audio.requests import Request
from gramcli.audio.windows import windows
from gramcli.errors import AudioError
from tests.support.audio_mutations import mutated, originals

HANGS_S = 10.0
GROWTH = 500 * 1024
"""KiB over what a child holds that has decoded whole files."""
TOGETHER = 100
"""Files on disk at a time."""


def peak(decoders: Decoders) -> int:
    """Returns the most KiB that one of the children has held."""
    held = []
    for lane in decoders._lanes:
        if lane._child is not None:
            status = Path(f"/proc/{lane._child._process.pid}/status").read_text()
            held.append(int(status.partition("VmHWM:")[2].split()[0]))
    return max(held, default=0)


@pytest.mark.parametrize("anyhow", [False, True], ids=["as by default", "truncated too"])
@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_files_cost_themselves_at_most(tmp_path, capsys, count, anyhow):
    whole = []
    for n, content in enumerate(originals()):
        (tmp_path / f"whole-{n}").write_bytes(content)
        whole.append(str(tmp_path / f"whole-{n}"))
    used = refused = 0
    with Decoders(2, HANGS_S, limits=Limits(allow_truncated=anyhow)) as decoders:
        assert all(one.samples is not None for one in decoders.decode(Request(path, (None,), 16000) for path in whole))
        children = [lane._child for lane in decoders._lanes]
        before = peak(decoders)
        files = mutated(count, seed=int(anyhow))
        for first in range(0, count, TOGETHER):
            paths = [tmp_path / f"mutated-{n}" for n in range(first, min(first + TOGETHER, count))]
            for path in paths:
                path.write_bytes(next(files))
            requests = []
            for path, probe in zip(paths, decoders.probe(map(str, paths)), strict=True):
                if isinstance(probe, Probe):
                    try:
                        parts = windows(probe.duration, None, None, 10.0)
                    except AudioError:  # too short for one
                        parts = [None]
                    requests.append(Request(str(path), tuple(parts[:3]), 16000))
                else:
                    assert_one_line(str(probe), path)
                    refused += 1
            names = [request.path for request in requests for _ in request.windows]
            for path, one in zip(names, decoders.decode(requests), strict=True):
                if one.samples is None:
                    assert_one_line(one.error, Path(path))
                    refused += 1
                    continue
                assert one.samples.dtype == np.float32
                assert np.isfinite(one.samples).all()
                assert np.abs(one.samples).max(initial=0) <= 2 * LOUDEST
                used += 1
            for path in paths:
                path.unlink()
        assert [lane._child for lane in decoders._lanes] == children, "a child was replaced"
        grown = peak(decoders) - before
    assert grown < GROWTH
    assert min(used, refused) > count / 20
    with capsys.disabled():
        if count > 1000:
            print(f"\n{count} mutated files: {used} windows used, {refused} refused, {grown / 1024:.0f} MiB more")


def assert_one_line(text: str, path: Path) -> None:
    assert text, path
    assert "\n" not in text
    # neither a crash nor a hang, and nothing that the decoder did not expect, which has the name of an exception
    assert not text.startswith(("decoder ", "timed out")), f"{text}: {path.read_bytes()[:200]!r}"
    assert not text.partition(":")[0].endswith(("Error", "Exception")), f"{text}: {path.read_bytes()[:200]!r}"
