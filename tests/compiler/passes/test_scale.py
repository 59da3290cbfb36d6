"""Of a scaled product the smaller factor is scaled."""

import pytest

import ksym
from ksym.compiler.passes.scale import scale_factors
from ksym.compiler.passes.simplify import simplify
from ksym.graph import topological_order
from ksym.testing import assert_same_graph


def names(outputs):
    return [n.operator.name for n in topological_order(outputs) if n.inputs]


@pytest.fixture
def x():
    return ksym.placeholder((2, 3))


def test_the_smaller_factor_of_a_product_is_scaled(x):
    y, rate = ksym.placeholder((2, 40)), ksym.placeholder(())
    product = ksym.matmul(x, y, transpose_a=True)
    expected = ksym.matmul(rate * x, y, transpose_a=True)
    assert_same_graph(scale_factors([rate * product]), [expected])


def test_a_product_that_is_needed_unscaled_or_is_small_stays(x):
    y, rate = ksym.placeholder((2, 40)), ksym.placeholder(())
    product = ksym.matmul(x, y, transpose_a=True)
    both = [rate * product, product]
    assert names(scale_factors(both)) == names(both)
    small = [rate * (x @ ksym.placeholder((3, 1)))]
    assert names(scale_factors(small)) == names(small)


def test_a_scaled_subtrahend_is_added(x):
    rate = ksym.placeholder(())
    y = ksym.placeholder((2, 3))
    assert_same_graph(simplify([x - rate * y]), [x + (-rate) * y])
