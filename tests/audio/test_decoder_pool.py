from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gramcli.audio import decoder_pool as workers
from gramcli.audio import decoder_process
from gramcli.audio.decoder_pool import Decoded, Decoders
from gramcli.audio.reader import Probe, Reader, probe
from gramcli.audio.requests import Request
from gramcli.errors import AudioError, ResourceError
from tests.audio.test_reader import bad_files
from tests.conftest import shared
from tests.support.sounds import noise, write

FAKE = """
import json, os, signal, sys, time
reply = lambda line: print(json.dumps(line), flush=True)
reply({"ready": True})
for line in sys.stdin:
    request = json.loads(line)
    for window in request.get("windows", [None]):
        if "hang" in request.get("path", "") and window == [1, 2]: time.sleep(60)
        if "crash" in request.get("path", "") and window == [1, 2]: os.kill(os.getpid(), signal.SIGSEGV)
        if "poison" in request.get("path", ""): os.kill(os.getpid(), signal.SIGSEGV)
        if "exit" in request.get("path", ""): sys.exit("the reason\\nin the last line")
        if "slow" in request.get("path", ""):
            for _ in range(8): time.sleep(0.1); reply({})
        reply({"samples": 0})
"""


def fake(count: int = 1, timeout_s: float = 60.0, code: str = FAKE) -> Decoders:
    """Decoders whose children do what the name of the file says."""
    return Decoders(count, timeout_s, command=[sys.executable, "-c", code])


def outcomes(decoded: Iterator[Decoded]) -> list[str]:
    return [one.error or "ok" for one in decoded]


def seconds(count: int) -> tuple[tuple[float, float], ...]:
    return tuple((float(i), i + 1.0) for i in range(count))


def children(decoders: Decoders) -> list[int]:
    """Returns the ids of the processes that there are now."""
    return [lane._child._process.pid for lane in decoders._lanes if lane._child is not None]


def ended(pid: int, within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_children_decode_as_this_process_does() -> None:
    folder = shared("data", "esc10", "audio")
    files = [str(file) for file in sorted(folder.glob("*.ogg"))[::10]]
    with Decoders(2) as decoders:
        decoded = list(decoders.decode(Request(file, (None, (0.25, 1.5)), 16000) for file in files))
        probed = list(decoders.probe(files))
    assert probed == [probe(file) for file in files]
    assert len(decoded) == 2 * len(files)
    for file, (whole, part) in zip(files, zip(decoded[::2], decoded[1::2], strict=True), strict=True):
        with Reader(file, 16000, "mix") as reader:
            assert np.array_equal(whole.samples, reader.read(None))
            assert np.array_equal(part.samples, reader.read((0.25, 1.5)))


def test_samples_can_be_changed(tmp_path: Path) -> None:
    with Decoders(1) as decoders:
        (one,) = decoders.decode([Request(write(tmp_path / "x.wav", noise(0.1)), (None,), 16000)])
    assert one.samples.dtype == np.float32
    one.samples[0] += 1  # PyTorch warns of arrays that cannot be written to


def test_bad_files_fail_alone_and_in_order(tmp_path: Path) -> None:
    bad = bad_files(tmp_path / "bad")
    good = write(tmp_path / "good.wav", noise(1))
    files = [file for path in bad for file in (path, good)]
    with Decoders(2) as decoders:
        probed = list(decoders.probe(files))
        decoded = list(decoders.decode(Request(file, (None,), 8000) for file in files))
        pids = children(decoders)
        assert len(pids) == 2
    for about, one in zip(probed[1::2], decoded[1::2], strict=True):
        assert isinstance(about, Probe)
        assert one.error == ""
        assert len(one.samples) == 8000
    for path, about, one in zip(bad, probed[::2], decoded[::2], strict=True):
        assert one.samples is None
        assert bad[path].replace("\\", "") in one.error
        assert isinstance(about, AudioError) or "sample 77" in one.error or path.endswith("half.flac")


def test_a_name_that_is_not_utf8_travels(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n.wav")
    Path(write(tmp_path / "x.wav", noise(1))).rename(path)
    with Decoders(1) as decoders:
        assert [about.frames for about in decoders.probe([path])] == [16000]


def test_a_long_file_is_read_on_across_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "WINDOWS_PER_JOB", 3)
    sound = noise(20)
    long, other = write(tmp_path / "long.wav", sound), write(tmp_path / "other.wav", noise(1))
    requests = [
        Request(long, seconds(10), 16000),
        Request(long, seconds(20)[10:], 16000),
        Request(other, (None,), 16000),
    ]
    # back to the start, which takes a new reader
    requests.append(Request(long, seconds(1), 16000))
    with Decoders(2, ahead=4) as decoders:
        decoded = list(decoders.decode(requests))
    assert len(decoded) == 22
    for i in [*range(20), 21]:
        expected = sound[16000 * (i % 21) :][:16000, 0]
        assert np.array_equal(decoded[i].samples, expected)


def test_work_ahead_is_bounded(tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", noise(0.1))
    taken = []

    def requests() -> Iterator[Request]:
        for i in range(100):
            taken.append(i)
            yield Request(path, (None,), 16000)

    with Decoders(2, ahead=5) as decoders:
        results = decoders.decode(requests())
        next(results)
        assert len(taken) == 5
        results.close()
        assert len(list(decoders.decode([Request(path, (None,), 16000)]))) == 1


def test_a_crash_fails_one_window() -> None:
    with fake() as decoders:
        found = outcomes(decoders.decode([Request("crash", seconds(4), 16000), Request("fine", seconds(2), 16000)]))
    assert found == ["ok", "the decoder process crashed (signal 11)", "ok", "ok", "ok", "ok"]


def test_silence_ends_a_child() -> None:
    start = time.monotonic()
    with fake(timeout_s=0.5) as decoders:
        found = outcomes(decoders.decode([Request("hang", seconds(3), 16000), Request("fine", seconds(1), 16000)]))
    assert found == ["ok", "the decoder process gave no reply within 0.5 s", "ok", "ok"]
    assert time.monotonic() - start < 20


def test_signs_of_life_put_the_end_off() -> None:
    with fake(timeout_s=0.5) as decoders:
        assert outcomes(decoders.decode([Request("slow", (None,), 16000)])) == ["ok"]


def test_what_takes_two_children_down_is_given_up() -> None:
    with fake() as decoders:
        found = outcomes(decoders.decode([Request("poison", seconds(20), 16000), Request("fine", seconds(1), 16000)]))
    assert found == ["the decoder process crashed (signal 11)"] * 20 + ["ok"]


def test_an_end_gives_its_reason() -> None:
    with fake() as decoders:
        assert outcomes(decoders.decode([Request("exit", (None,), 16000)])) == [
            "the decoder process ended (exit 1): in the last line"
        ]


def test_a_child_killed_at_work_is_replaced(tmp_path: Path) -> None:
    good = write(tmp_path / "x.wav", noise(1))
    with Decoders(2) as decoders:
        list(decoders.probe([good] * 4))
        before = children(decoders)
        results = decoders.decode([Request(good, (None,), 16000)] * 200)
        next(results)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        found = outcomes(results)
        assert not set(before) & set(children(decoders))
    assert len(found) == 199
    failed = [error for error in found if error != "ok"]
    assert len(failed) <= 2
    assert set(failed) <= {"the decoder process crashed (signal 9)"}


def test_a_stopped_child_times_out(tmp_path: Path) -> None:
    good = write(tmp_path / "x.wav", noise(1))
    with Decoders(1, timeout_s=1.0) as decoders:
        list(decoders.probe([good]))
        os.kill(children(decoders)[0], signal.SIGSTOP)
        decoded = decoders.decode([Request(good, (None, None), 16000)])
        assert outcomes(decoded) == ["the decoder process gave no reply within 1 s", "ok"]


def test_a_child_that_ended_between_two_jobs_costs_nothing(tmp_path: Path) -> None:
    good = write(tmp_path / "x.wav", noise(1))
    with Decoders(1) as decoders:
        list(decoders.probe([good]))
        (pid,) = children(decoders)
        os.kill(pid, signal.SIGKILL)
        assert ended(pid)
        assert outcomes(decoders.decode([Request(good, (None,), 16000)])) == ["ok"]


@pytest.mark.parametrize("command", [["/does/not/exist"], [sys.executable, "-c", "raise ImportError('no part')"]])
def test_children_that_cannot_start_are_the_machines_fault(command: list[str]) -> None:
    with (
        Decoders(1, command=command) as decoders,
        pytest.raises(ResourceError, match=r"cannot be started: .*no.*") as caught,
    ):
        list(decoders.probe(["x.wav"]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("late", [1, 2])
def test_a_child_that_is_late_is_started_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: int) -> None:
    monkeypatch.setattr(decoder_process, "START_S", 2.0)
    count = tmp_path / "count"
    wait = f"""
import time
with open({str(count)!r}, "a+") as file:
    file.write("x")
    file.seek(0)
    if len(file.read()) <= {late}:
        file.flush()
        time.sleep(60)
"""
    with fake(code=wait + FAKE) as decoders:
        if late == 1:
            assert len(list(decoders.decode([Request("fine", (None,), 16000)]))) == 1
        else:
            with pytest.raises(ResourceError, match=r"gave no reply within 2 s; .*: run .* fewer --decoders"):
                list(decoders.decode([Request("fine", (None,), 16000)]))
    assert count.read_text() == "xx"


UNREADABLE = (
    "'nonsense'", "'[1]'", "'{\"ready\": true}'",
    "'{\"samples\": -1}'", "'{\"samples\": \"many\"}'", "'{\"other\": 1}'",
    "'[' * 100_000", "'x' * (1 << 21)",
)  # fmt: skip


@pytest.mark.parametrize("said", UNREADABLE)
def test_a_child_that_sends_an_unreadable_reply_fails_what_it_was_at(said: str) -> None:
    reply = f"print({said}, flush=True) if request['path'].endswith('odd') else reply({{'samples': 0}})"
    code = FAKE.replace('reply({"samples": 0})', reply)
    assert reply in code
    with fake(code=code) as decoders:
        found = outcomes(decoders.decode([Request("odd", seconds(1), 16000), Request("fine", seconds(2), 16000)]))
    assert found == ["the decoder process sent an unreadable reply; the clip is skipped (please report it)", "ok", "ok"]


def test_closing_ends_children_and_threads(tmp_path: Path) -> None:
    good = write(tmp_path / "x.wav", noise(1))
    decoders = Decoders(2, timeout_s=60)
    results = decoders.decode([Request(good, (None,), 16000)] * 50)
    next(results)
    pids = children(decoders)
    assert pids
    start = time.monotonic()
    decoders.close()
    assert time.monotonic() - start < 5
    assert all(ended(pid) for pid in pids)
    assert not [thread for thread in threading.enumerate() if thread.name == "gramcli decoder"]
    with pytest.raises(ValueError, match="closed"):
        list(results)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_children_end_with_a_killed_parent(tmp_path: Path, end: signal.Signals) -> None:
    """The parent is a script without a main guard."""
    good = write(tmp_path / "x.wav", noise(1))
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, time; from gramcli.audio.decoder_pool import Decoders, Request\n"
        "decoders = Decoders(2)\n"
        f"list(decoders.decode([Request({good!r}, (None,), 16000)] * 8))\n"
        "print(*[lane._child._process.pid for lane in decoders._lanes if lane._child], flush=True)\n"
        "time.sleep(60)\n"
    )
    package = str(Path(workers.__file__).parents[2])
    parent = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": package}
    )
    with parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert pids
        parent.send_signal(end)
    assert all(ended(pid) for pid in pids)


def test_counts_below_one_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Decoders(0)


def test_a_child_that_was_started_ahead_is_the_one_that_decodes(tmp_path):
    decoder_process.start_ahead()
    decoder_process.start_ahead()
    (spare,) = decoder_process._SPARE
    path = write(tmp_path / "tone.wav", noise(0.1))
    with Decoders(1) as decoders:
        (found,) = decoders.probe([str(path)])
        assert found == probe(str(path))
        assert not decoder_process._SPARE
        assert spare.alive()
    assert not spare.alive()


def test_a_child_that_was_started_elsewhere_finds_relative_names(tmp_path, monkeypatch):
    write(tmp_path / "there" / "tone.wav", noise(0.1))
    decoder_process.start_ahead()
    monkeypatch.chdir(tmp_path / "there")
    with Decoders(1) as decoders:
        (found,) = decoders.probe(["tone.wav"])
        (decoded,) = decoders.decode([Request("../there/tone.wav", (None,), 16000)])
    assert isinstance(found, Probe)
    assert len(decoded.samples) == 1600
