from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.utils._python_dispatch import TorchDispatchMode

from gramcli.gram.descriptor import constant, normalise
from gramcli.network.row_sums import row_sums, row_sums_and_means
from tests import reference

LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}

whole_maps = hnp.arrays(
    np.float32,
    st.tuples(st.just(2), st.integers(1, 6), st.integers(1, 5), st.integers(1, 5)),
    elements=st.integers(-20, 20).map(float),
)
"""Small whole numbers. float32 holds their sums of products exactly, so results can be compared bit by bit."""

rows = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 8)),
    elements=st.floats(allow_nan=False, allow_infinity=False, width=32),
)


def maps_of(shape: tuple[int, ...], layout: str = "contiguous", seed: int = 0) -> torch.Tensor:
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).relu()
    return maps.contiguous(memory_format=LAYOUTS[layout])


class Allocations(TorchDispatchMode):
    """Records the bytes of every new tensor that does not share the memory of `given`."""

    def __init__(self, given: torch.Tensor) -> None:
        super().__init__()
        self.given = given.untyped_storage().data_ptr()
        self.bytes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.untyped_storage().data_ptr() != self.given:
            self.bytes.append(made.untyped_storage().nbytes())
        return made


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(3, 64, 5, 9), (2, 7, 1, 1), (2, 1, 4, 4), (4, 130, 13, 3)])
def test_equals_row_sums_of_the_gram_matrix(shape, layout):
    maps = maps_of(shape, layout)
    sums = row_sums(maps)
    wanted = np.array([reference.row_sums(clip.numpy()) for clip in maps])
    assert sums.dtype == torch.float32
    np.testing.assert_allclose(sums, wanted, rtol=0, atol=1e-5 * wanted.max())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("shape", "dim"), [((3, 64, 5, 9), 1), ((3, 5, 9, 64), 3), ((2, 7), 1)])
def test_channel_means_follow_the_row_sums_and_do_not_change_them(shape, dim, layout):
    maps = maps_of(shape, layout) if len(shape) == 4 else maps_of(shape)
    both = row_sums_and_means(maps, dim)
    channels = shape[dim]
    assert torch.equal(both[:, :channels], row_sums(maps, dim))
    wanted = np.moveaxis(maps.double().numpy(), dim, 1).reshape(shape[0], channels, -1).mean(axis=2)
    np.testing.assert_allclose(both[:, channels:], wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "channel_dim"),
    [((3, 5), 1), ((3, 5), -1), ((3, 5, 11), 1), ((3, 11, 5), -1), ((3, 4, 6, 5), 3), ((3, 5, 2, 3, 4), 1)],
)
def test_any_number_of_positions_and_any_channel_dimension(shape, channel_dim):
    maps = maps_of(shape)
    wanted = [reference.row_sums(clip.numpy()) for clip in maps.movedim(channel_dim, 1)]
    np.testing.assert_allclose(row_sums(maps, channel_dim), wanted, rtol=1e-5)


@given(whole_maps, st.randoms(use_true_random=False))
def test_permuted_positions_change_nothing_and_permuted_channels_permute_the_result(maps, random):
    sums = row_sums(torch.from_numpy(maps))
    flat = maps.reshape(*maps.shape[:2], -1)
    positions = random.sample(range(flat.shape[2]), flat.shape[2])
    channels = random.sample(range(flat.shape[1]), flat.shape[1])
    assert torch.equal(row_sums(torch.from_numpy(flat[:, :, positions])), sums)
    assert torch.equal(row_sums(torch.from_numpy(flat[:, channels])), sums[:, channels])


@given(whole_maps)
def test_the_memory_layout_changes_nothing(maps):
    last = torch.from_numpy(maps).contiguous(memory_format=torch.channels_last)
    assert torch.equal(row_sums(last), row_sums(torch.from_numpy(maps)))


@given(whole_maps, st.integers(-10, 10))
def test_scaling_the_maps_does_not_change_the_scaled_descriptor(maps, power):
    sums = row_sums(torch.from_numpy(maps)).numpy()
    scaled = row_sums(torch.from_numpy(maps) * 2.0**power).numpy()
    np.testing.assert_array_equal(scaled, sums * np.float32(4.0**power))
    np.testing.assert_array_equal(normalise(scaled), normalise(sums))


def test_constant_maps_have_the_computed_row_sums():
    maps = torch.full((2, 6, 4, 5), 3.0)
    assert torch.equal(row_sums(maps), torch.full((2, 6), 3.0 * 3.0 * 6 * 20))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(64, 16, 63), (2048, 4, 16), (17, 13, 11), (3, 7, 5), (33, 1, 1)])
def test_a_clip_is_the_same_in_any_batch_of_two_or_more(shape, layout):
    maps = maps_of((9, *shape), layout)
    sums = row_sums(maps)
    for start, stop in [(0, 2), (7, 9), (1, 4), (3, 8)]:
        part = maps[start:stop].contiguous(memory_format=LAYOUTS[layout])
        assert torch.equal(row_sums(part), sums[start:stop])


def test_a_clip_that_is_not_finite_does_not_change_the_others():
    maps = maps_of((4, 32, 8, 8), "channels_last")
    sums = row_sums(maps)
    maps[1], maps[3] = torch.nan, 3e38
    broken = row_sums(maps)
    assert torch.equal(broken[[0, 2]], sums[[0, 2]])
    assert not broken[[1, 3]].isfinite().any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precisions_are_summed_in_float32(dtype):
    maps = torch.full((2, 8, 5, 5), 300.0, dtype=dtype)  # 300² is beyond float16
    sums = row_sums(maps)
    assert sums.dtype == torch.float32
    assert torch.equal(sums, torch.full((2, 8), float(maps[0, 0, 0, 0]) ** 2 * 8 * 25))


def test_channels_last_maps_are_neither_copied_nor_multiplied_to_a_gram_matrix():
    maps = maps_of((2, 256, 4, 5), "channels_last")
    with Allocations(maps) as made:
        row_sums(maps)
    assert made.bytes
    assert max(made.bytes) == 4 * 2 * 256


@pytest.mark.parametrize(("shape", "channel_dim"), [((4,), 1), ((4, 3), 0), ((4, 3, 2), -3)])
def test_clips_and_channels_must_differ(shape, channel_dim):
    with pytest.raises(ValueError, match="clips and channels"):
        row_sums(torch.zeros(shape), channel_dim)


@given(rows)
def test_normalise_is_equation_6(sums):
    scaled = normalise(sums)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [reference.normalise(row) for row in sums.tolist()], rtol=0, atol=1e-6)
    flat = constant(scaled)
    assert flat.tolist() == [len(set(row)) == 1 for row in sums.tolist()]
    assert (scaled[flat] == 0).all()
    assert (scaled[~flat].min(axis=1) == 0).all()
    assert (scaled[~flat].max(axis=1) == 1).all()


def test_a_constant_layer_and_a_single_channel_are_zero():
    sums = np.array([[7, 7, 7], [0, 0, 0], [1, 2, 3]], np.float32)
    assert constant(normalise(sums)).tolist() == [True, True, False]
    assert normalise(sums).tolist() == [[0, 0, 0], [0, 0, 0], [0, 0.5, 1]]
    assert constant(normalise(sums[:, :1])).all()
    assert (normalise(sums[:, :1]) == 0).all()


def test_the_largest_and_smallest_numbers_are_scaled():
    huge, tiny = np.finfo(np.float32).max, np.finfo(np.float32).smallest_subnormal
    sums = np.array([[-huge, 0, huge], [0, tiny, 2 * tiny]], np.float32)
    assert normalise(sums).tolist() == [[0, 0.5, 1], [0, 0.5, 1]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_clip_that_is_not_finite_becomes_nan_in_all_channels(bad):
    sums = np.array([[1, 2, 3], [1, bad, 3], [bad, bad, bad]], np.float32)
    scaled = normalise(sums)
    assert scaled[0].tolist() == [0, 0.5, 1]
    assert np.isnan(scaled[1:]).all()


def test_an_array_of_no_clips_is_allowed():
    assert normalise(np.empty((0, 3), np.float32)).shape == (0, 3)
    assert constant(np.empty((0, 3), np.float32)).shape == (0,)
