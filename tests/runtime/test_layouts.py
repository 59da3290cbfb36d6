"""oneDNN leaves the results of convolutions in layouts of its own; nothing else must notice."""

import numpy as np
import pytest

import ksym


@pytest.mark.parametrize(
    "between", [lambda x: x, ksym.relu, lambda x: x + x], ids=["as is", "relu", "sum"]
)
@pytest.mark.parametrize("side", [3, 4])
def test_a_reshaped_convolution_is_added_to_something_else(rng, between, side):
    x, w = ksym.placeholder((2, 16, side, side)), ksym.placeholder((32, 16, 3, 3))
    bias = ksym.placeholder((2, 32 * (side - 2) ** 2))
    flat = ksym.reshape(between(ksym.convolution(x, w)), (2, -1)) + bias
    loss = ksym.sum(ksym.square(flat))
    outputs = [flat, *ksym.gradients(loss, [x, w])]
    values = [rng.normal(size=slot.shape).astype("float32") for slot in (x, w, bias)]
    expected = ksym.function([x, w, bias], outputs, mode="interpret")(*values)
    for got, wanted in zip(ksym.function([x, w, bias], outputs)(*values), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-3)


def test_gradients_of_convolutions_meet_when_windows_have_one_element(rng):
    # Moving an axis of one element is a reshape.
    x, w = ksym.placeholder((2, 1, 32)), ksym.placeholder((32, 32, 1))
    moved = ksym.transpose(x, (0, 2, 1))
    residual = ksym.transpose(ksym.convolution(moved, w), (0, 2, 1)) + x
    (gradient,) = ksym.gradients(ksym.sum(ksym.square(residual)), [x])
    values = [rng.normal(size=slot.shape).astype("float32") for slot in (x, w)]
    expected = ksym.function([x, w], gradient, mode="interpret")(*values)
    got = ksym.function([x, w], gradient)(*values)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-3)
