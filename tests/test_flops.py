"""The work that operators declare, against counts by other formulas."""

import numpy as np
import pytest
from drawing import HypothesisDraw
from hypothesis import given, settings
from hypothesis import strategies as st

import ksym
from ksym.compiler.specialize import specialize
from ksym.graph import OPERATORS, topological_order


def flops(tensor):
    return sum(node.operator.flops(node) for node in topological_order([tensor]))


@settings(max_examples=10)
@pytest.mark.parametrize("name", sorted(OPERATORS))
@given(data=st.data())
def test_every_operator_has_a_number_for_its_sample(name, data):
    operator = OPERATORS[name]
    try:
        sample = operator.sample(HypothesisDraw(data))
    except NotImplementedError:
        return
    tensors = [ksym.placeholder(a.shape, a.dtype.name) for a in sample.operands]
    made = operator.apply(*tensors, **sample.attributes)
    node = (made[0] if isinstance(made, (tuple, list)) else made).node
    if all(None not in t.shape for t in node.outputs):
        assert node.operator.flops(node) >= 0.0


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: ksym.placeholder((2, 3)) @ ksym.placeholder((3, 5)), 2 * 2 * 3 * 5),
        (lambda: ksym.einsum("bij,bjk->bik", *map(ksym.placeholder, ((7, 2, 3), (7, 3, 5)))), 420),
        (lambda: ksym.tanh(ksym.placeholder((4, 5))), 20),
        (lambda: ksym.sum(ksym.placeholder((4, 5)), axis=0), 20),
        (lambda: ksym.transpose(ksym.placeholder((4, 5))), 0),
        (lambda: ksym.inv(ksym.placeholder((2, 5, 5))), 2 * 2 * 125),
        (lambda: ksym.max_pool(ksym.placeholder((1, 2, 6, 6)), (2, 2)), 2 * 9 * 4),
    ],
)
def test_the_work_of_known_operators(build, expected):
    (tensor,) = specialize([build()], {})
    assert flops(tensor) == pytest.approx(expected)


def test_a_convolution_is_the_product_of_its_windows():
    x, w = ksym.placeholder((2, 6, 9, 9)), ksym.placeholder((8, 3, 3, 3))
    (y,) = specialize([ksym.convolution(x, w, groups=2)], {})
    # Each of 8 filters sees 3 channels in windows of 9.
    assert flops(y) == 2 * np.prod(y.shape) * 3 * 9


def test_a_recurrent_layer_is_its_products():
    t, b, i, u = 5, 2, 3, 4
    made = ksym.lstm(
        ksym.placeholder((t, b, i)),
        ksym.placeholder((b, u)),
        ksym.placeholder((b, u)),
        ksym.placeholder((i, 4 * u)),
        ksym.placeholder((u, 4 * u)),
        ksym.placeholder((4 * u,)),
    )
    node = made[0].node
    assert node.operator.flops(node) == 2 * t * b * 4 * u * (i + u)
