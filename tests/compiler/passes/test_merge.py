"""Equal nodes are merged, and keep their origin."""

import pytest

import ksym
from ksym import compiler, ops
from ksym.compiler.passes.merge import merge
from ksym.graph import topological_order


def names(outputs):
    return [n.operator.name for n in topological_order(outputs) if n.inputs]


@pytest.fixture
def x():
    return ksym.placeholder((2, 3))


def test_equal_nodes_are_merged(x):
    y = ksym.exp(x) + ksym.exp(x) * ksym.constant(2.0) + ksym.exp(x) * ksym.constant(2.0)
    assert names(merge([y])).count("exp") == 1
    assert names(merge([y])).count("multiply") == 1


def test_what_looks_equal_but_is_not_stays_apart():
    a, b = ksym.placeholder((2,)), ksym.placeholder((2,))
    (z,) = merge([ksym.exp(a) + ksym.exp(b)])
    assert names([z]).count("exp") == 2
    u, v = ksym.random_uniform((2,)), ksym.random_uniform((2,))
    (z,) = merge([u + v])
    assert sum(n.operator is ops.standard_uniform for n in topological_order([z])) == 2


def test_rewritten_nodes_keep_their_origin(x):
    y = ksym.exp(x + 0.0)
    place = y.node.origin
    (z,) = compiler.optimize([y])
    assert z.node.origin == place
