from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramcli.audio.windows import windows
from gramcli.errors import AudioError


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (0.3, [None]),
        (10, [None]),
        (10.9, [None]),
        (11, [(0, 10), (1, 11)]),
        (20, [(0, 10), (10, 20)]),
        (20.5, [(0, 10), (10, 20)]),
        (25, [(0, 10), (10, 20), (15, 25)]),
    ],
)
def test_whole_files(duration: float, expected: list[tuple[float, float] | None]) -> None:
    assert windows(duration, None, None, 10) == expected


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, None, [(0, 10), (10, 20), (15, 25)]),
        (20, None, [(20, 25)]),
        (3, 4, [(3, 4)]),
        (3, 13.5, [(3, 13)]),
        (3, 15, [(3, 13), (5, 15)]),
        (None, 12, [(0, 10), (2, 12)]),
        (22, 99, [(22, 25)]),
    ],
)
def test_stretches(start: float | None, end: float | None, expected: list[tuple[float, float]]) -> None:
    assert windows(25, start, end, 10) == expected


def test_a_stretch_behind_the_end_is_the_files_fault() -> None:
    with pytest.raises(AudioError, match="the stretch begins at 30 s, the audio ends at 25 s"):
        windows(25, 30, 31, 10)


@pytest.mark.parametrize(("start", "end", "seconds"), [(3, 3, 10), (-1, 2, 10), (None, None, 0), (4, 2, 10)])
def test_mistakes_of_the_caller(start: float | None, end: float | None, seconds: float) -> None:
    with pytest.raises(ValueError, match="must"):
        windows(25, start, end, seconds)


@given(st.floats(0.01, 40), st.floats(0.05, 100))
def test_windows_cover_all_but_a_short_rest(ratio: float, seconds: float) -> None:
    duration = ratio * seconds
    cut = windows(duration, None, None, seconds)
    if cut == [None]:
        assert duration < seconds * 1.1 * (1 + 1e-9)
        return
    spans = [span for span in cut if span is not None]
    assert len(spans) == len(cut)
    assert spans == sorted(spans)
    assert spans[0][0] == 0
    tolerance = 1e-9 * duration
    assert duration - seconds / 10 - tolerance <= spans[-1][1] <= duration + tolerance
    for (start, end), (following, _) in itertools.pairwise(spans):
        assert following <= end + tolerance
        assert end - start == pytest.approx(seconds)


def test_a_file_has_a_bounded_number_of_windows() -> None:
    assert len(windows(90_000.0, None, None, 0.1)) == 900_000
    with pytest.raises(
        AudioError, match=r"cut into 45000000 windows of 0\.002 s, .* at most 1000000; give more --seconds"
    ):
        windows(90_000.0, None, None, 0.002)
