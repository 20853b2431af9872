from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gramcli.blocks import blocks


@given(st.integers(0, 50), st.integers(0, 20), st.integers(0, 200))
def test_blocks_are_whole_in_order_and_no_larger_than_asked(count, numbers, most):
    found = list(blocks(count, numbers, most))
    assert [n for one in found for n in range(one.start, one.stop)] == list(range(count))
    assert all(one.stop - one.start == 1 or (one.stop - one.start) * numbers <= max(most, numbers) for one in found)
