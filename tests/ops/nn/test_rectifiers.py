"""Rectifiers between convolutions, where they are computed in the layout of oneDNN's kernels."""

import numpy as np
import pytest

import ksym
from ksym import ops
from ksym.ops import placeholder

inf, nan = np.inf, np.nan
AT = [nan, inf, -inf, 0, 6, 3, -2, 7, 5.5, 1e-3, 1e30, -1e30]


def between_convolutions(activation, x, options=None):
    """Return values and gradients of an activation whose input and gradient are in blocks."""
    value = np.zeros((1, 8, len(x)), "float32")
    value[0, 0] = x
    one = np.zeros((8, 8, 1), "float32")
    one[0, 0] = 1.0
    data, kernel, g = placeholder(value.shape), placeholder(one.shape), placeholder(value.shape)
    y = activation(ops.convolution(data, kernel))
    z = ops.convolution(y, kernel)
    found = ksym.gradients([z], [data], output_gradients=[g])
    f = ksym.function([data, kernel, g], [y, *found], **(options or {}))
    y, slope = f(value, one, np.ones_like(value))
    return y[0, 0], slope[0, 0]


def test_relu6_between_convolutions_keeps_nan_and_its_limits():
    y, slope = between_convolutions(ops.relu6, AT)
    np.testing.assert_allclose(y, [nan, 6, 0, 0, 6, 3, 0, 6, 5.5, 1e-3, 6, 0], rtol=0, atol=2.5e-7)
    assert slope[1:].tolist() == [0, 0, 0, 0, 1, 0, 0, 1, 1, 0, 0]


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("channels", [3, 8, 12])
def test_relu6_between_convolutions_equals_that_of_float64(axes, channels, rng):
    def outputs(dtype):
        x = placeholder((2, channels, *[7] * axes), dtype)
        w = placeholder((channels, channels, *[3] * axes), dtype)
        y = ops.relu6(ops.convolution(x, w, padding="same"))
        z = ops.convolution(y, w, padding="same")
        first = ksym.gradients(ksym.sum(ksym.square(z)), [x, w])
        second = ksym.gradients(ksym.sum(ksym.square(first[1])), [x])
        return ksym.function([x, w], [y, z, *first, *second])

    # Small whole numbers and a half: no activation is near an end of the range.
    x = rng.integers(-2, 3, (2, channels, *[7] * axes)).astype("float32")
    w = rng.integers(-1, 2, (channels, channels, *[3] * axes)).astype("float32") + 0.015625
    for narrow, wide in zip(outputs("float32")(x, w), outputs("float64")(x, w), strict=True):
        np.testing.assert_allclose(narrow, wide, rtol=1e-5, atol=2e-6 * np.abs(wide).max())


def test_relu6_between_convolutions_stays_native():
    x, w = placeholder((2, 8, 9, 9)), placeholder((8, 8, 3, 3))
    y = ops.convolution(ops.relu6(ops.convolution(x, w)), w)
    f = ksym.function([x, w], [y, *ksym.gradients(ksym.sum(y * y), [x, w])])
    f(np.zeros((2, 8, 9, 9), "float32"), np.zeros((8, 8, 3, 3), "float32"))
    assert str(f.last_plan()).count("native graph:") <= 2
