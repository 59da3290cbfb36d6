"""The forms in which a padding is given."""

import numpy as np
import pytest

import ksym

PAIRS = ((1, 1), (1, 1))


@pytest.mark.parametrize("given", [1, (1, 1), [1, (1, 1)], [[1, 1], np.int64(1)], PAIRS])
def test_a_number_stands_for_both_sides_and_one_for_all_axes(given):
    x = ksym.placeholder((2, 3, 7, 6))
    w = ksym.constant(np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype("float32"))
    results = [
        operator
        for padding in (given, PAIRS)
        for operator in (
            ksym.convolution(x, w, padding=padding),
            ksym.max_pool(x, 3, padding=padding),
            ksym.average_pool(x, 3, padding=padding),
        )
    ]
    found = ksym.function(x, results)(np.random.default_rng(1).normal(size=(2, 3, 7, 6)))
    for one, other in zip(found[:3], found[3:], strict=True):
        np.testing.assert_array_equal(one, other)
    assert ksym.convolution(x, w, padding=(0, 2)).shape == (2, 4, 5, 8)


@pytest.mark.parametrize(
    "given", [-1, (1,), (1, 1, 1), (1, (1, -1)), 1.5, (1, (1, 1, 1)), None, {}]
)
def test_what_is_no_padding_is_refused(given):
    x = ksym.placeholder((2, 3, 7, 6))
    with pytest.raises(ksym.ShapeError, match=r"(?s)for each of the 2 axes.*to do: write padding="):
        ksym.max_pool(x, 3, padding=given)


def test_a_name_that_is_not_known_says_which_are():
    with pytest.raises(
        ksym.ShapeError, match=r'(?s)padding .full. is not known.*to do: use "valid"'
    ):
        ksym.max_pool(ksym.placeholder((2, 3, 7, 6)), 3, padding="full")
