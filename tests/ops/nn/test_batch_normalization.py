"""Batch normalisation between kernels of oneDNN."""

import numpy as np
import pytest

import ksym
from ksym import ops
from ksym.compiler.codegen.nnvm import lower
from ksym.compiler.specialize import specialize


def convolved(x, filters, rng, size=1):
    channels = x.shape[1]
    w = rng.normal(size=(filters, channels, size, size)).astype("float32") / channels
    return ops.convolution(x, ksym.Variable(w), padding="same")


def network(x, inner, after, rng):
    """A loss, and its gradient by x, of a normalisation between two convolutions."""
    y = convolved(x, inner, rng)
    y = ksym.batch_norm(y, np.ones(inner, "float32"), np.zeros(inner, "float32"))[0]
    loss = ksym.sum(ksym.square(convolved(ksym.relu(y), after, rng, 3)))
    return [loss, *ksym.gradients(loss, [x])]


def nodes(outputs, operator):
    graph = lower(specialize(outputs, {}))
    return graph, [node for node in graph.nodes if node["op"] == operator]


@pytest.mark.parametrize("inner", [16, 24, 12])
@pytest.mark.parametrize("after", [16, 24])
def test_the_gradient_between_convolutions_of_any_channels(inner, after, rng):
    x = ksym.placeholder((4, 16, 16, 16))
    outputs = network(x, inner, after, rng)
    value = rng.normal(size=x.shape).astype("float32")
    expected = ksym.function([x], outputs, mode="interpret")(value)
    found = ksym.function([x], outputs)(value)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * abs(other).max())


@pytest.mark.parametrize(("after", "put_in_order"), [(16, False), (24, True)])
def test_a_gradient_in_other_blocks_is_put_in_order(after, put_in_order, rng):
    # A convolution of 24 filters computes in blocks of 8, also the gradient by its 16 channels.
    x = ksym.placeholder((4, 16, 16, 16))
    graph, (backward,) = nodes(network(x, 16, after, rng), "_backward_BatchNorm")
    arriving = graph.nodes[backward["inputs"][0][0]]["op"]
    assert (arriving == "Reshape") == put_in_order


@pytest.mark.parametrize(
    ("shape", "axis", "dtype", "in_blocks"),
    [
        ((16, 16, 16, 16), 1, "float32", True),
        ((16, 8, 32, 16), 1, "float32", True),
        ((16, 12, 32, 16), 1, "float32", False),  # no whole blocks
        ((16, 16, 16, 16), 3, "float32", False),
        ((16, 16, 16, 16), 1, "float64", False),
        ((1, 16, 16, 16), 1, "float32", False),  # too small
        ((64, 16, 64), 1, "float32", False),
    ],
)
def test_an_array_in_order_is_put_into_blocks_where_that_is_faster(shape, axis, dtype, in_blocks):
    x = ksym.placeholder(shape, dtype)
    w = ksym.placeholder((shape[axis],), dtype)
    y = ksym.batch_norm(x, w, w, axis=axis)[0]
    loss = ksym.sum(ksym.square(y))
    outputs = [loss, *ksym.gradients(loss, [x, w])]
    _, made = nodes(outputs, "Convolution")
    assert len(made) == in_blocks


@pytest.mark.parametrize("special", [np.nan, np.inf])
def test_what_is_no_number_spoils_its_channel_only(special, rng):
    x = ksym.placeholder((16, 16, 16, 16))
    y = ksym.batch_norm(x, np.ones(16, "float32"), np.zeros(16, "float32"))[0]
    value = rng.normal(size=x.shape).astype("float32")
    value[3, 5, 7, 2] = special
    found = ksym.function([x], y)(value)
    assert np.isnan(found[:, 5]).any()
    assert np.isfinite(np.delete(found, 5, axis=1)).all()


def test_the_batch_may_have_any_size(rng):
    x = ksym.placeholder((None, 16, None, 16))
    y = ksym.batch_norm(x, np.ones(16, "float32"), np.zeros(16, "float32"))[0]
    loss = ksym.sum(y * ksym.square(y))
    native = ksym.function([x], ksym.gradients(loss, [x])[0])
    stepwise = ksym.function([x], ksym.gradients(loss, [x])[0], mode="interpret")
    for shape in ((2, 16, 4, 16), (16, 16, 16, 16), (8, 16, 32, 16)):
        value = rng.normal(size=shape).astype("float32")
        np.testing.assert_allclose(native(value), stepwise(value), rtol=1e-3, atol=1e-4)
