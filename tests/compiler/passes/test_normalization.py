"""Normalisation by given numbers within convolutions."""

import numpy as np
import pytest

import ksym
from ksym import ops
from ksym.compiler.passes.normalization import fold_normalization
from ksym.graph import topological_order

CHANNELS = 4


@pytest.fixture
def x():
    return ksym.placeholder((2, 3, 5, 6), "float64")


@pytest.fixture
def vectors(rng):
    """A mean, a variance, a scale and a shift; one channel is scaled by 0."""
    mean, var, gamma, beta = rng.normal(size=(4, CHANNELS))
    gamma[1] = 0.0
    return [ksym.Variable(v) for v in (mean, np.square(var), gamma, beta)]


def convolved(x, rng, bias, **options):
    w = ksym.Variable(rng.normal(size=(CHANNELS, 3, 3, 3)))
    result = ops.convolution(x, w, **options)
    return result + ksym.Variable(rng.normal(size=(CHANNELS, 1, 1))) if bias else result


def names(outputs):
    return [node.operator.name for node in topological_order(outputs) if node.inputs]


def compiled(x, outputs):
    """Return what the pass leaves in a function, having compared it with the pass left out."""
    with_it = ksym.function([x], outputs)
    without = ksym.function([x], outputs, flags="fold_normalization=0")
    value = np.random.default_rng(3).normal(size=x.shape)
    for found, expected in zip(with_it(value), without(value), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    return [node.operator.name for node in with_it.last_graph()]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("options", [{}, {"strides": 2, "padding": "same"}], ids=str)
def test_a_convolution_normalises_its_result(x, vectors, rng, bias, options):
    y = ops.normalize(convolved(x, rng, bias, **options), *vectors)
    found = compiled(x, [y])
    assert "convolution" in found
    assert "normalize" not in found


def test_weights_that_change_count_at_the_next_call(x, vectors, rng):
    y = ops.normalize(convolved(x, rng, True), *vectors)
    f = ksym.function([x], y)
    value = rng.normal(size=x.shape)
    before = f(value)
    beta = vectors[-1]
    beta.set_value(beta.get_value() + 2.0)
    np.testing.assert_allclose(f(value), before + 2.0)


def test_a_result_that_others_read_is_computed_once(x, vectors, rng):
    y = convolved(x, rng, False)
    outputs = [ops.normalize(y, *vectors), ksym.exp(y)]
    assert fold_normalization(outputs) == outputs


def test_gradients_are_those_of_the_normalisation(x, vectors, rng):
    y = ops.normalize(convolved(x, rng, False), *vectors)
    gradients = ksym.gradients(ksym.sum(ksym.square(y)), [x, *vectors])
    assert compiled(x, [y, *gradients]).count("convolution") == 1


def test_normalisation_along_another_axis_stays(x, rng):
    y = convolved(x, rng, False)
    outputs = [ops.normalize(y, *(rng.uniform(1, 2, (4, y.shape[2]))), axis=2)]
    assert fold_normalization(outputs) == outputs
