"""Batching rules: a node over all steps of a loop is the stack of what it is at each."""

import numpy as np
import pytest
from drawing import HypothesisDraw, build
from hypothesis import given
from hypothesis import strategies as st

import ksym
from ksym.compiler.loops.over_steps import over_steps
from ksym.graph import OPERATORS
from ksym.operator.batching import Stacked
from ksym.operator.declaration import Operator
from ksym.testing import evaluate_numpy

HAVING_RULES = sorted(
    name for name, operator in OPERATORS.items() if type(operator).batched is not Operator.batched
)


@pytest.mark.parametrize("name", [*HAVING_RULES, "add", "where", "relu_gradient"])
@given(data=st.data())
def test_all_steps_at_once_are_each_step(name, data):
    operator = OPERATORS[name]
    inputs, values, outputs = build(name, operator.sample(HypothesisDraw(data)))
    node = outputs[0].node
    if node.operator is not operator or len(node.outputs) > 1:
        return
    given_values = dict(zip(inputs, values, strict=True))
    arrays = [evaluate_numpy([tensor], given_values)[0] for tensor in node.inputs]
    free = [i for i in range(len(arrays)) if i not in operator.static_operands]
    varying = data.draw(st.sets(st.sampled_from(free), min_size=1))
    steps, operands, whole = [{}, {}, {}], [], {}
    for position, (tensor, array) in enumerate(zip(node.inputs, arrays, strict=True)):
        if position in operator.static_operands:
            operands.append(Stacked(tensor, False))
            continue
        each = [array, np.flip(array), array] if position in varying else [array] * 3
        for step, value in zip(steps, each, strict=True):
            step[tensor] = value
        seen = np.stack(each) if position in varying else array
        operand = ksym.placeholder(seen.shape, tensor.dtype)
        operands.append(Stacked(operand, position in varying))
        whole[operand] = seen
    found = over_steps(node, operands, 3)
    if found is None:
        # Only what varies in all, or in the first of its operands alone, has to be computed.
        assert varying != {0} or len(free) > 1
        return
    assert found.varies
    expected = np.stack([evaluate_numpy(node.outputs, step)[0] for step in steps])
    (result,) = evaluate_numpy([found.tensor], whole)
    assert result.dtype == expected.dtype
    bound = {"rtol": 1e-3} if result.dtype == np.float16 else {"rtol": 1e-6, "atol": 1e-6}
    np.testing.assert_allclose(result, expected, **bound)
