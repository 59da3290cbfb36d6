"""Each pass does something on its sample, and on any graph changes neither values nor specs."""

import numpy as np
import pytest
from drawing import HypothesisDraw, grow
from hypothesis import given
from hypothesis import strategies as st

import ksym
from ksym.compiler import PIPELINE
from ksym.compiler.passes.declaration import graph_pass
from ksym.compiler.specialize import specialize
from ksym.graph import same, topological_order
from ksym.testing import assert_same_graph

PASSES = list(dict.fromkeys(PIPELINE))
every_pass = pytest.mark.parametrize("pass_", PASSES, ids=lambda each: each.name)
OVER_GRAPHS = [each for each in PASSES if each.stage == "graph"]
ROUNDING = {"float32": 1e-5, "float64": 1e-12}
"""How much results may differ, relative to the largest, where a pass says that they may."""


def leaves(outputs, kind):
    found = [node.outputs[0] for node in topological_order(outputs) if not node.inputs]
    return [t for t in found if t.node.operator.name == kind]


def agree(pass_, found, expected):
    for a, b in zip(found, expected, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        if pass_.rounding:
            largest = np.max(np.abs(expected[0]), initial=1.0)
            np.testing.assert_allclose(a, b, rtol=0, atol=ROUNDING[str(b.dtype)] * largest)
        else:
            np.testing.assert_array_equal(a, b)


def interpreted(outputs, inputs, values):
    return ksym.function(inputs, outputs, mode="interpret")(*values)


@every_pass
def test_a_pass_fires_on_its_sample(pass_):
    assert pass_.fires(pass_.sample())
    assert pass_.__doc__


@pytest.mark.parametrize("pass_", OVER_GRAPHS, ids=lambda each: each.name)
def test_a_pass_is_idempotent_and_keeps_values(pass_, rng):
    outputs = pass_.sample()
    inputs = leaves(outputs, "placeholder")
    values = [rng.normal(size=t.shape).astype(t.dtype) for t in inputs]
    once = pass_(outputs)
    assert [t.spec for t in once] == [t.spec for t in outputs]
    expected = interpreted(outputs, inputs, values)
    agree(pass_, interpreted(once, inputs, values), expected)
    assert_same_graph(pass_(once), once)


@every_pass
def test_a_call_is_the_same_without_the_pass(pass_, rng):
    """What is run, native code and loops, with the pass and without it."""
    outputs = pass_.sample()
    inputs = leaves(outputs, "placeholder")
    variables = leaves(outputs, "variable")
    values = [rng.normal(size=t.shape).astype(t.dtype) for t in inputs]
    before = [v.get_value() for v in variables]
    found = []
    for flags in ({}, {pass_.name: False}) if pass_.optional else ({}, {}):
        updates = list(zip(variables, outputs, strict=True)) if variables else []
        call = ksym.function(inputs, [] if updates else outputs, updates=updates, flags=flags)
        for variable, value in zip(variables, before, strict=True):
            variable.set_value(value)
        found.append([*call(*values), *(v.get_value() for v in variables)])
    assert found[0]
    agree(pass_, *found)


@given(data=st.data())
def test_passes_are_idempotent_and_keep_values_on_any_graph(data):
    n = data.draw(st.integers(1, 4))
    x, w = ksym.placeholder((n, n), "float64"), ksym.placeholder((n, n), "float64")
    outputs = grow(data, x, w)
    outputs += ksym.gradients(ksym.sum(outputs[-1]), [x, w], disconnected="zero")
    values = [HypothesisDraw(data).array((n, n), apart=1e-3) for _ in range(2)]
    outputs = specialize(outputs, {})
    expected = interpreted(outputs, [x, w], values)
    for pass_ in OVER_GRAPHS:
        result = pass_(outputs)
        assert [t.spec for t in result] == [t.spec for t in outputs]
        assert_same_graph(pass_(result), result)
        if not same(result, outputs):
            agree(pass_, interpreted(result, [x, w], values), expected)


def test_what_does_nothing_fails():
    idle = graph_pass(sample=PASSES[0].sample)(list)
    with pytest.raises(AssertionError):
        test_a_pass_fires_on_its_sample(idle)
