"""Every declared operator against NumPy, against itself node by node, and its gradients.

The samples come from the declarations; one without a sample fails here.
"""

import numpy as np
import pytest
from coverage_table import record
from drawing import HypothesisDraw, build, meaning, spoil
from hypothesis import given
from hypothesis import strategies as st

import ksym
from ksym.errors import KsymError
from ksym.graph import OPERATORS
from ksym.ops.leaves import Leaf
from ksym.testing import evaluate_numpy, verify_gradient

# There is nothing to compute for leaves.
NAMES = sorted(name for name, operator in OPERATORS.items() if not isinstance(operator, Leaf))

# The largest error allowed, relative to the largest element.
BOUNDS = {"float64": 1e-9, "float32": 2e-5, "float16": 1e-2}


def draw_case(name, data, smooth=False):
    return OPERATORS[name].sample(HypothesisDraw(data, smooth))


def check(name):
    """The operators a check is about: all but those that say why it cannot be."""
    return [n for n in NAMES if name not in OPERATORS[n].unproven]


def assert_close(found, expected, factor=1.0):
    assert found.shape == expected.shape
    if found.dtype.kind != "f":
        np.testing.assert_array_equal(found, expected)
        return
    bound = BOUNDS[found.dtype.name] * factor
    with np.errstate(over="ignore"):
        expected = expected.astype(found.dtype).astype("float64")
    finite = np.abs(expected[np.isfinite(expected)])
    scale = max(1.0, finite.max(initial=0.0))
    np.testing.assert_allclose(found, expected, rtol=bound, atol=bound * scale)


@pytest.mark.parametrize("name", check("values"))
@given(data=st.data())
def test_values(name, data):
    operator = OPERATORS[name]
    sample = draw_case(name, data)
    inputs, values, outputs = build(name, sample)
    native = ksym.function(inputs, outputs)(*values)
    for found, output in zip(native, outputs, strict=True):
        assert found.dtype.name == output.dtype
        assert ksym.shapes.compatible(found.shape, output.shape)
    record(name, "values")
    if not operator.pure:
        return
    stepwise = ksym.function(inputs, outputs, mode="interpret")(*values)
    meant = meaning(operator, sample)
    if meant is None:
        meant = evaluate_numpy(outputs, dict(zip(inputs, values, strict=True)))
    for found, step, expected in zip(native, stepwise, meant, strict=True):
        assert_close(found, step)
        assert_close(found, np.asarray(expected), operator.conditioning.factor)


@pytest.mark.parametrize("name", check("gradients"))
@given(data=st.data())
def test_gradients_of_first_and_second_order(name, data):
    sample = draw_case(name, data, smooth=True)
    operator = OPERATORS[name]

    def apply(*tensors):
        chosen = dict(zip(sample.differentiate, tensors, strict=True))
        operands = [chosen.get(i, array) for i, array in enumerate(sample.operands)]
        return operator.apply(*operands, **sample.attributes)

    if sample.differentiate:
        second = "second order" not in operator.unproven
        verify_gradient(
            apply,
            [sample.operands[i] for i in sample.differentiate],
            order=2 if second else 1,
            tolerance=1e-6 * operator.conditioning.factor,
        )
        record(name, "gradients")
        if second:
            record(name, "second order")


# Those whose gradients are kernels of MXNet.
REPEATED = {name for operator in OPERATORS.values() for name in operator.repeats}


@pytest.mark.parametrize("name", sorted(REPEATED & set(check("gradients"))))
@given(data=st.data())
def test_gradients_by_some_operands_are_those_by_all(name, data):
    """A native gradient kernel may leave out work for what is not asked for, but not more."""
    sample = draw_case(name, data, smooth=True)
    inputs, values, outputs = build(name, sample)
    # Static operands are no inputs.
    static = OPERATORS[name].static_operands
    places = [i for i in range(len(sample.operands)) if i not in static]
    wrt = [inputs[places.index(i)] for i in sample.differentiate]
    asked = data.draw(st.lists(st.sampled_from(wrt), min_size=1, unique=True))
    floats = [ksym.cast(t, "float64") for t in outputs if ksym.dtypes.is_float(t.dtype)]
    loss = sum(ksym.sum(t * 1.5) for t in floats)
    whole = ksym.gradients(loss, wrt, disconnected="zero")
    some = ksym.gradients(loss, asked, disconnected="zero")
    expected = dict(zip(wrt, ksym.function(inputs, whole)(*values), strict=True))
    found = ksym.function(inputs, some)(*values)
    for tensor, gradient in zip(asked, found, strict=True):
        assert_close(gradient, expected[tensor], OPERATORS[name].conditioning.factor)


@pytest.mark.parametrize("name", check("values"))
@given(data=st.data())
def test_unknown_dimensions_are_settled_by_the_call(name, data):
    sample = draw_case(name, data)
    inputs, values, outputs = build(name, sample)
    hidden, _, vague = build(name, sample, hide=lambda side: data.draw(st.booleans()))
    for sharp, blurred in zip(outputs, vague, strict=True):
        assert sharp.rank == blurred.rank
        assert ksym.shapes.compatible(sharp.shape, blurred.shape)
    record(name, "unknown dimensions")
    if not OPERATORS[name].pure:
        return
    found = ksym.function(hidden, vague)(*values)
    expected = ksym.function(inputs, outputs)(*values)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", check("mistakes"))
@given(data=st.data())
def test_mistakes_are_refused_or_have_a_meaning(name, data):
    """Whatever is wrong with a call: a clear error, or what NumPy makes of it; nothing else."""
    operator = OPERATORS[name]
    draw = HypothesisDraw(data)
    sample, changed = spoil(draw, operator.sample(draw))
    vague = data.draw(st.booleans())
    record(name, "mistakes")
    try:
        inputs, values, outputs = build(name, sample, hide=lambda side: vague)
        found = ksym.function(inputs, outputs)(*values)
    except KsymError as error:
        text = str(error)
        called = text.startswith((f"{name}: ", f"{name} ("))
        assert called, f"{changed}: the operator is not named in: {text}"
        assert "made at" in text, f"{changed}: the place is not named in: {text}"
        return
    if not operator.pure:
        return
    meant = meaning(operator, sample)
    if meant is None:
        meant = evaluate_numpy(outputs, dict(zip(inputs, values, strict=True)))
    for result, expected in zip(found, meant, strict=True):
        assert result.shape == np.shape(expected), changed
        assert_close(result, np.asarray(expected), operator.conditioning.factor)


@pytest.mark.parametrize("name", NAMES)
def test_a_declaration_says_what_it_is(name):
    operator = OPERATORS[name]
    assert operator.__doc__
    assert operator.__signature__.parameters
    assert repr(operator) == f"<operator {name}>"
    assert (operator.conditioning.factor == 1.0) == (not operator.conditioning.reason)
    for left_out, reason in operator.unproven.items():
        assert left_out in ("values", "gradients", "second order", "mistakes")
        assert len(reason.split()) > 3, "a reason is a sentence"
