"""Gradients of slices that fill a tensor are one concatenation."""

import numpy as np
import pytest

import ksym
from ksym.compiler.passes.joins import concatenate_slice_gradients
from ksym.compiler.passes.merge import merge
from ksym.compiler.specialize import specialize
from ksym.graph import topological_order


def names(outputs):
    return [n.operator.name for n in topological_order(outputs) if n.inputs]


@pytest.fixture
def x():
    return ksym.placeholder((2, 3))


def _gradient_of_parts(x, bounds):
    loss = sum(ksym.sum(ksym.exp(x[:, a:b]) * (a + 1.0)) for a, b in bounds)
    return specialize([ksym.gradients(loss, x)], {})


@pytest.mark.parametrize(
    ("bounds", "joined"),
    [
        ([(0, 1), (1, 3)], True),
        ([(2, 3), (0, 1), (1, 2)], True),
        ([(0, 2), (1, 3)], False),  # they overlap
        ([(0, 1), (2, 3)], False),  # something lies between
    ],
)
def test_gradients_of_slices_that_fill_a_tensor_are_joined(x, bounds, joined):
    before = merge(_gradient_of_parts(x, bounds))
    after = concatenate_slice_gradients(before)
    assert ("concatenate" in names(after)) == joined
    assert ("slice_gradient" in names(after)) != joined
    value = np.arange(6.0).reshape(2, 3)
    expected = ksym.function([x], before, mode="interpret")(value)
    np.testing.assert_allclose(ksym.function([x], after, mode="interpret")(value), expected)
