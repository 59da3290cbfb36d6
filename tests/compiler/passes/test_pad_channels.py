"""Convolutions of as many channels as fill the blocks of oneDNN's kernels."""

import numpy as np
import pytest

import ksym
from ksym import ops
from ksym.compiler.costs import Costs
from ksym.compiler.passes.pad_channels import pad_channels
from ksym.graph import topological_order
from ksym.ops import placeholder

EAGER = Costs(padded_work=0.0)


def convolutions(outputs, costs=EAGER):
    """Return the shapes of the kernels of all convolutions after the pass."""
    order = topological_order(pad_channels(outputs, costs))
    return [node.inputs[1].shape for node in order if node.operator is ops.convolution]


def convolved(filters, channels, window=3, dtype="float32", **options):
    x = placeholder((2, channels * options.get("groups", 1), *[9] * 2), dtype)
    w = placeholder((filters, channels, window, window), dtype)
    return x, w, ops.convolution(x, w, **options)


@pytest.mark.parametrize(
    ("filters", "channels", "padded"),
    [
        (12, 16, (16, 16)),
        (1, 16, (16, 16)),
        (16, 28, (16, 32)),
        (60, 60, (64, 64)),
        (8, 24, (8, 24)),  # half a block
        (16, 12, (16, 12)),  # few channels, forward only
        (16, 3, (16, 3)),
    ],
)
def test_channels_and_filters_fill_blocks(filters, channels, padded):
    assert convolutions([convolved(filters, channels)[-1]]) == [(*padded, 3, 3)]


def test_channels_of_what_is_differentiated_are_padded_too():
    x, w, y = convolved(16, 12)
    outputs = [y, *ksym.gradients(ksym.sum(ksym.square(y)), [x, w])]
    assert set(convolutions(outputs)) == {(16, 16, 3, 3)}


@pytest.mark.parametrize(
    "options",
    [{"window": 1}, {"dtype": "float64"}, {"groups": 3}],
    ids=lambda options: next(iter(options)),
)
def test_products_groups_and_other_dtypes_stay(options):
    outputs = [convolved(12, 20, **options)[-1]]
    assert pad_channels(outputs, EAGER) == outputs


def test_little_work_stays():
    outputs = [convolved(12, 20)[-1]]
    assert pad_channels(outputs) == outputs


@pytest.mark.parametrize(
    ("axes", "options"),
    [
        (1, {"padding": "causal", "dilation": 2}),
        (1, {"padding": "same", "strides": 2}),
        (2, {"padding": "same"}),
        (2, {"padding": "valid", "dilation": 2}),
        (2, {"padding": ((1, 0), (0, 2)), "strides": 2}),
        (3, {"padding": "same"}),
    ],
)
@pytest.mark.parametrize(("filters", "channels"), [(12, 20), (1, 5), (18, 16)])
@pytest.mark.parametrize("bias", [False, True])
def test_values_and_gradients_are_those_of_float64(axes, options, filters, channels, bias, rng):
    sides = {1: (400,), 2: (20, 24), 3: (9, 8, 7)}[axes]
    given = [(3, channels, *sides), (filters, channels, *[3] * axes), (filters,)][: 2 + bias]

    def computed(dtype, values, flags):
        inputs = [placeholder(shape, dtype) for shape in given]
        y = ops.convolution(*inputs, **options)
        y = ops.relu(y)
        found = ksym.gradients(ksym.sum(y * y * 0.25), inputs)
        return ksym.function(inputs, [y, *found], flags=flags)(*values)

    values = [rng.standard_normal(shape).astype("float32") for shape in given]
    exact = computed("float64", values, None)
    for found, wanted in zip(computed("float32", values, None), exact, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-5 * np.abs(wanted).max())


def test_what_is_cut_off_is_not_read_where_an_input_is_infinite(rng):
    x, w = placeholder((1, 20, 40, 40)), placeholder((12, 20, 3, 3))
    y = ops.convolution(ops.relu(ops.convolution(x, w, padding="same")), w[:, :12], padding="same")
    value = rng.standard_normal(x.shape).astype("float32")
    value[0, 0, 5, 5] = np.inf
    kernel = rng.standard_normal(w.shape).astype("float32")
    found = ksym.function([x, w], y)(value, kernel)
    wanted = ksym.function([x, w], y, flags="pad_channels=0")(value, kernel)
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(wanted))
