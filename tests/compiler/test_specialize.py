"""The shapes of a call put into a graph."""

import pytest

import ksym
from ksym import ops
from ksym.compiler.passes.simplify import simplify
from ksym.compiler.specialize import specialize
from ksym.errors import ShapeError
from ksym.graph import topological_order
from ksym.testing import assert_same_graph


def names(outputs):
    return [n.operator.name for n in topological_order(outputs) if n.inputs]


@pytest.fixture
def x():
    return ksym.placeholder((2, 3))


def test_specialisation_makes_every_shape_known():
    a = ksym.placeholder((None, 4))
    y = ksym.reshape(a, (ksym.shape_of(a)[0], 2, -1)) * 2.0
    b = ksym.placeholder((5, 4))
    (z,) = specialize([y], {a: b})
    assert z.shape == (5, 2, 2)
    assert_same_graph([z], [ksym.reshape(b, (5, 2, -1)) * 2.0])


def test_what_is_computed_from_shapes_becomes_constant():
    a = ksym.placeholder((None, 4))
    count = ksym.cast(ksym.prod(ksym.shape_of(a)), "float32")
    (z,) = specialize([ksym.sum(a) / count], {a: ksym.placeholder((5, 4))})
    assert "shape_of" not in names([z])
    assert "prod" not in names([z])


def test_a_static_condition_leaves_one_branch(x):
    phase = ksym.placeholder((), "bool", static=True)
    y = ksym.where(phase, ksym.exp(x), ksym.log(x))
    (z,) = simplify(specialize([y], {phase: ksym.constant(True)}))
    assert_same_graph([z], [ksym.exp(x)])


def test_compositions_are_expanded(x):
    (z,) = specialize([ksym.cumprod(x, axis=1)], {x: x})
    assert "cumprod" not in names([z])
    (z,) = specialize([ops.sum_to(x, (3,))], {x: x})
    assert_same_graph([z], [ksym.reshape(ksym.sum(x, 0, keepdims=True), (3,))])


def test_sizes_that_turn_out_wrong_are_refused():
    a, b = ksym.placeholder((None,)), ksym.placeholder((None,))
    with pytest.raises(ShapeError, match="broadcast"):
        specialize([a + b], {a: ksym.placeholder((2,)), b: ksym.placeholder((3,))})
