"""Pooling: axes of one element."""

import numpy as np
import pytest

import ksym


@pytest.mark.parametrize("name", ["max_pool", "average_pool"])
@pytest.mark.parametrize(
    ("shape", "window", "strides", "padding"),
    [
        ((2, 3, 8, 1), (2, 1), (2, 1), "valid"),
        ((2, 3, 1, 8), (1, 3), (1, 2), "same"),
        ((2, 3, 1, 7, 1), (1, 2, 1), (1, 2, 1), ((0, 0), (1, 0), (0, 0))),
        ((2, 3, 1, 1), (1, 1), (1, 1), "valid"),
        ((2, 3, 8, 1), (2, 1), (2, 2), "valid"),
        ((2, 3, 8, 1), (2, 1), (2, 1), ((0, 0), (0, 0))),
    ],
)
def test_an_axis_of_one_element_changes_nothing(name, shape, window, strides, padding):
    operator = getattr(ksym, name)
    value = np.random.default_rng(0).normal(size=shape).astype("float32")
    x, known = ksym.placeholder(shape), ksym.placeholder((None,) * len(shape))
    y, same = (operator(t, window, strides, padding) for t in (x, known))  # of unknown sides: as is
    for t, s in ((y, same), (ksym.gradients(y, x), ksym.gradients(same, known))):
        found, expected = ksym.function([x], t)(value), ksym.function([known], s)(value)
        assert found.shape == expected.shape
        np.testing.assert_array_equal(found, expected)
    last = operator(
        ksym.transpose(x, (0, *range(2, len(shape)), 1)),
        window,
        strides,
        padding,
        data_format="channels_last",
    )
    found = ksym.function([x], last)(value)
    np.testing.assert_array_equal(np.moveaxis(found, -1, 1), ksym.function([x], y)(value))


def test_a_sequence_is_pooled_between_convolutions_without_leaving_the_layout_of_kernels():
    x = ksym.placeholder((2, 16, 3))
    kernel = np.ones((3, 3, 3), "float32")

    def convolved(t):
        return ksym.convolution(t, kernel, data_format="channels_last")

    between = ksym.expand_dims(convolved(x), 2)
    pooled = ksym.squeeze(ksym.max_pool(between, (2, 1), data_format="channels_last"), 2)
    f = ksym.function([x], convolved(pooled))
    f(np.ones(x.shape, "float32"))
    (part,) = [part for part in str(f.last_plan()).splitlines() if "native graph" in part]
    assert "2 transpose" in part  # of the input and of the result
    assert "squeeze" not in part
    assert "expand_dims" not in part
