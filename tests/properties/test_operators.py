"""Every declared operator against NumPy, against itself node by node, and its gradients.

The samples come from the declarations; one without a sample fails here.
"""

import numpy as np
import pytest
from drawing import HypothesisDraw, build
from hypothesis import given
from hypothesis import strategies as st

import ksym
from ksym.graph import OPERATORS
from ksym.testing import evaluate_numpy, verify_gradient

LEAVES = {"placeholder", "variable"}  # given their values by a call: nothing to compute
NAMES = sorted(set(OPERATORS) - LEAVES)


def draw_case(name, data):
    return OPERATORS[name].sample(HypothesisDraw(data))


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_values(name, data):
    inputs, values, outputs = build(name, draw_case(name, data))
    native = ksym.function(inputs, outputs)(*values)
    if not OPERATORS[name].pure:
        assert [(r.shape, r.dtype.name) for r in native] == [o.spec for o in outputs]
        return
    stepwise = ksym.function(inputs, outputs, mode="interpret")(*values)
    meant = evaluate_numpy(outputs, dict(zip(inputs, values, strict=True)))
    for found, step, expected in zip(native, stepwise, meant, strict=True):
        np.testing.assert_allclose(found, step, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
        assert found.dtype == expected.dtype


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_gradients_of_first_and_second_order(name, data):
    sample = draw_case(name, data)
    operator = OPERATORS[name]

    def apply(*tensors):
        chosen = dict(zip(sample.differentiate, tensors, strict=True))
        operands = [chosen.get(i, array) for i, array in enumerate(sample.operands)]
        return operator.apply(*operands, **sample.attributes)

    if sample.differentiate:
        verify_gradient(apply, [sample.operands[i] for i in sample.differentiate])


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_unknown_dimensions_are_settled_by_the_call(name, data):
    sample = draw_case(name, data)
    inputs, values, outputs = build(name, sample)
    hidden, _, vague = build(name, sample, hide=lambda side: data.draw(st.booleans()))
    for sharp, blurred in zip(outputs, vague, strict=True):
        assert sharp.rank == blurred.rank
        assert ksym.shapes.compatible(sharp.shape, blurred.shape)
    if not OPERATORS[name].pure:
        return
    found = ksym.function(hidden, vague)(*values)
    expected = ksym.function(inputs, outputs)(*values)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_a_declaration_says_what_it_is(name):
    operator = OPERATORS[name]
    assert operator.__doc__
    assert operator.__signature__.parameters
    assert repr(operator) == f"<operator {name}>"
