"""Identities of operators are applied, and no others."""

import numpy as np
import pytest

import ksym
from ksym.compiler.passes.fold import fold
from ksym.compiler.passes.simplify import simplify
from ksym.compiler.specialize import specialize
from ksym.graph import topological_order
from ksym.testing import assert_same_graph


def names(outputs):
    return [n.operator.name for n in topological_order(outputs) if n.inputs]


@pytest.fixture
def x():
    return ksym.placeholder((2, 3))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (lambda x: x + 0.0, lambda x: x),
        (lambda x: 0.0 + x, lambda x: x),
        (lambda x: x - 0.0, lambda x: x),
        (lambda x: x * 1.0, lambda x: x),
        (lambda x: x / 1.0, lambda x: x),
        (lambda x: x**1.0, lambda x: x),
        (lambda x: x**2.0, ksym.square),
        (lambda x: x**0.5, ksym.sqrt),
        (lambda x: ksym.copy(ksym.stop_gradient(x)), lambda x: x),
        (lambda x: ksym.cast(ksym.cast(x, "float64"), "float32"), lambda x: x),
        (lambda x: ksym.reshape(ksym.reshape(x, (6,)), (3, 2)), lambda x: ksym.reshape(x, (3, 2))),
        (lambda x: ksym.reshape(x, (2, 3)), lambda x: x),
        (lambda x: ksym.transpose(ksym.transpose(x)), lambda x: x),
        (lambda x: ksym.sum(ksym.sum(x, 0), 0), lambda x: ksym.sum(x, (0, 1))),
        (
            lambda x: ksym.matmul(ksym.transpose(x), x),
            lambda x: ksym.matmul(x, x, transpose_a=True),
        ),
        (lambda x: x[:], lambda x: x),
        (lambda x: ksym.broadcast_to(x, (2, 3)), lambda x: x),
        (lambda x: ksym.pad(x, [(0, 0), (0, 0)]), lambda x: x),
        (lambda x: ksym.concatenate([x], 0), lambda x: x),
        (lambda x: ksym.where(np.array(False), x, x * 2.0), lambda x: x * 2.0),
    ],
)
def test_identities(x, before, after):
    assert_same_graph(simplify(fold([before(x)])), [after(x)])


@pytest.mark.parametrize(
    "keep",
    [
        lambda x: x * 0.0,  # NaN and infinity would vanish
        lambda x: x - x,
        lambda x: x / x,
        lambda x: ksym.cast(ksym.cast(x, "int32"), "float32"),
        lambda x: x + np.zeros((2, 1, 1), "float32"),  # it stretches
        lambda x: ksym.reshape(x, (3, 2)),
    ],
)
def test_what_is_not_an_identity_stays(x, keep):
    y = keep(x)
    assert names(simplify([y])) == names([y])


def test_a_gradient_of_zero_vanishes_with_all_that_carries_it(x):
    w = ksym.placeholder((3, 2))
    on = ksym.placeholder((), "bool", static=True)
    y = ksym.where(on, ksym.tanh(x @ w), 0.0)
    g = ksym.gradients(ksym.sum(y), w)
    (off,) = simplify(specialize([g], {on: ksym.constant(False)}))
    assert_same_graph([off], [ksym.zeros((3, 2))])
    (taken,) = simplify(specialize([g], {on: ksym.constant(True)}))
    assert "matmul" in names([taken])
