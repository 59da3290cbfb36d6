"""Activations after pooling instead of before it."""

import numpy as np
import pytest

import ksym
from ksym import ops
from ksym.compiler.passes.pool_first import pool_first
from ksym.graph import topological_order


def rectified(x, **pooling):
    return ops.max_pool(ksym.relu(x), **{"window": 2, **pooling})


def names(outputs):
    return [node.operator.name for node in topological_order(outputs) if node.inputs]


@pytest.fixture
def x():
    return ksym.placeholder((2, 3, 5, 6))


def agree(x, outputs, value):
    """Compare the pass done and left out, on values with many equal elements and on others."""
    with_it = ksym.function([x], outputs)
    without = ksym.function([x], outputs, flags="pool_first=0")
    for each in (value, np.rint(value)):
        for found, expected in zip(with_it(each), without(each), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "pooling", [{}, {"padding": "same", "strides": 1}, {"window": 3, "strides": 2}], ids=str
)
def test_values_and_gradients_are_the_same(x, pooling, rng):
    y = rectified(x, **pooling)
    loss = ksym.sum(ksym.square(y) + 3.0 * y)
    (gradient,) = ksym.gradients(loss, [x])
    assert names(pool_first([y]))[-2:] == ["max_pool", "relu"]
    found = names(pool_first([y, gradient]))
    assert found.index("relu_gradient") < found.index("max_pool_gradient")
    agree(x, [y, gradient], rng.normal(size=x.shape))


def test_an_activation_that_others_read_stays(x):
    activation = ksym.relu(x)
    outputs = [ops.max_pool(activation, 2), ksym.exp(activation)]
    assert pool_first(outputs) == outputs
    outputs = [ops.max_pool(activation, 2), activation]
    assert pool_first(outputs) == outputs


def test_a_gradient_that_does_not_go_on_through_the_activation_stays(x, rng):
    activation = ksym.relu(x)
    y = ops.max_pool(activation, 2)
    (to_activation,) = ksym.gradients(ksym.sum(ksym.square(y)), [activation])
    outputs = [y, to_activation]
    assert pool_first(outputs) == outputs


def test_gradients_of_second_order(x, rng):
    y = ksym.sum(ksym.tanh(rectified(x)))
    (first,) = ksym.gradients(y, [x])
    (second,) = ksym.gradients(ksym.sum(ksym.square(first)), [x])
    agree(x, [first, second], rng.normal(size=x.shape))


def test_weights_are_as_they_were_after_a_prediction(rng):
    # Outside of training mode oneDNN brings weights into an order of its own.
    x = ksym.placeholder((1, 16, 8, 8))
    value = rng.normal(size=(16, 16, 3, 3)).astype("float32")
    w = ksym.Variable(value)
    y = rectified(ops.convolution(x, w, padding="same", data_format="channels_first"))
    predict = ksym.function([x], y)
    for _ in range(2):
        predict(rng.normal(size=(1, 16, 8, 8)))
        np.testing.assert_array_equal(w.get_value(), value)


def test_an_average_over_all_shares_out_its_gradient_by_broadcasting(rng):
    x = ksym.placeholder((2, 3, 4, 5))
    (gradient,) = ksym.gradients(ksym.sum(ksym.square(ops.average_pool(x, (4, 5)))), [x])
    function = ksym.function([x], gradient)
    value = rng.normal(size=(2, 3, 4, 5)).astype("float32")
    expected = np.broadcast_to(value.mean((2, 3), keepdims=True) / 10.0, value.shape)
    np.testing.assert_allclose(function(value), expected, rtol=1e-5, atol=1e-7)
    assert "average_pool_gradient" not in [n.operator.name for n in function.last_graph()]
    (part,) = ksym.gradients(ksym.sum(ops.average_pool(x, (2, 5))), [x])
    function = ksym.function([x], part)
    np.testing.assert_allclose(function(value), np.full_like(value, 0.1), rtol=1e-5)
    assert "average_pool_gradient" in [n.operator.name for n in function.last_graph()]
