"""Convolutions take over their bias, and its gradient."""

import numpy as np

import ksym
from ksym.compiler.passes.bias import fuse_bias
from ksym.compiler.passes.simplify import simplify
from ksym.graph import topological_order
from ksym.testing import assert_same_graph


def names(outputs):
    return [n.operator.name for n in topological_order(outputs) if n.inputs]


def test_a_convolution_takes_over_its_bias():
    a, w = ksym.placeholder((2, 3, 8, 8)), ksym.placeholder((4, 3, 3, 3))
    bias = ksym.placeholder((4,))
    y = ksym.convolution(a, w) + ksym.reshape(bias, (4, 1, 1))
    found = simplify(fuse_bias([y]))
    assert_same_graph(found, [ksym.convolution(a, w, bias)])


def test_a_result_that_is_needed_without_bias_keeps_it_apart():
    a, w = ksym.placeholder((2, 3, 8, 8)), ksym.placeholder((4, 3, 3, 3))
    y = ksym.convolution(a, w)
    z = y + ksym.reshape(ksym.placeholder((4,)), (4, 1, 1))
    assert names(fuse_bias([z, y])) == names([z, y])
    elsewhere = y + ksym.placeholder((6,))  # not one number for each channel
    assert names(fuse_bias([elsewhere])) == names([elsewhere])


def test_the_gradient_sums_its_bias_itself():
    a, w, bias = (ksym.placeholder(s, "float64") for s in ((2, 3, 5, 5), (4, 3, 3, 3), (4,)))
    y = ksym.tanh(ksym.convolution(a, w) + ksym.reshape(bias, (4, 1, 1)))
    y = ksym.convolution(
        y, ksym.placeholder((2, 4, 2, 2), "float64", default=np.ones((2, 4, 2, 2)))
    )
    derived = ksym.gradients(ksym.sum(ksym.square(y)), [a, w, bias])
    f = ksym.function([a, w, bias], derived)
    plain = ksym.function([a, w, bias], derived, mode="interpret")
    values = [np.random.default_rng(i).normal(size=t.shape) for i, t in enumerate((a, w, bias))]
    for found, expected in zip(f(*values), plain(*values), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    used = [n.operator.name for n in f.last_graph()]
    assert "sum" not in used
    assert used.count("convolution_gradient") == 2


def test_the_gradient_has_the_bias_of_its_convolution():
    a, w, bias = (ksym.placeholder(s) for s in ((2, 3, 5, 5), (4, 3, 3, 3), (4,)))
    y = ksym.relu(ksym.convolution(a, w) + ksym.reshape(bias, (4, 1, 1)))
    f = ksym.function([a, w, bias], ksym.gradients(ksym.sum(y), [a, w, bias]))
    f(np.ones((2, 3, 5, 5)), np.ones((4, 3, 3, 3)), np.ones(4))
    nodes = {node.operator.name: node for node in f.last_graph()}
    forward, backward = nodes["convolution"], nodes["convolution_gradient"]
    assert backward.inputs[1:] == forward.inputs  # so natively it needs no forward node but this
