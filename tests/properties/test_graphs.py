"""Random graphs of mixed operators: compiled, node by node, and by NumPy they give the same."""

import costed
import numpy as np
import pytest
from drawing import HypothesisDraw, grow
from hypothesis import given
from hypothesis import strategies as st

import ksym
from ksym.compiler.costs import DEFAULT, Costs
from ksym.testing import evaluate_numpy, verify_gradient

ALL_IN_KERNELS = Costs(kernel=-1e9, native_graph=-1e9, unoptimised_elements=0)
"""What divides native graphs stays native as a rule; here whatever can be in a kernel is in one.

And its code is optimised, as that of large arrays is.
"""


def agreeing(test):
    """A property that holds however much is fused."""
    costs = pytest.mark.parametrize("costs", [DEFAULT, ALL_IN_KERNELS], ids=["default", "kernels"])
    return costs(given(data=st.data())(test))


@agreeing
def test_compiled_stepwise_and_numpy_agree(costs, data):
    n = data.draw(st.integers(1, 4))
    x, w = ksym.placeholder((n, n), "float64"), ksym.placeholder((n, n), "float64")
    outputs = grow(data, x, w)
    values = [HypothesisDraw(data).array((n, n), apart=1e-3) for _ in range(2)]
    outputs = outputs + ksym.gradients(ksym.sum(outputs[-1]), [x, w], disconnected="zero")
    native = costed.function(costs, [x, w], outputs)(*values)
    stepwise = ksym.function([x, w], outputs, mode="interpret")(*values)
    meant = evaluate_numpy(outputs, dict(zip([x, w], values, strict=True)))
    for found, step, expected in zip(native, stepwise, meant, strict=True):
        np.testing.assert_allclose(found, step, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


@given(data=st.data())
def test_gradients_of_grown_graphs(data):
    n = data.draw(st.integers(1, 3))
    point = [HypothesisDraw(data).array((n, n), apart=0.05) for _ in range(2)]
    shape = [data.draw(st.integers(0, 2**16))]

    def build(x, w):
        # The same graph however often it is built, smooth so that differences can be taken.
        rng = np.random.default_rng(shape[0])
        smooth = [ksym.tanh, ksym.sin, ksym.sigmoid, lambda a: ksym.softmax(a, 0), ksym.transpose]
        joined = [lambda a, b: a * b, lambda a, b: a @ b, lambda a, b: a + 2.0 * b]
        grown = [x, w]
        for _ in range(6):
            a, b = (grown[rng.integers(len(grown))] for _ in range(2))
            grown.append(joined[rng.integers(3)](smooth[rng.integers(5)](a), b))
        return grown[-1] * 0.1

    verify_gradient(build, point)


@agreeing
def test_updates_are_the_same_in_both_modes(costs, data):
    n = data.draw(st.integers(1, 3))
    start = HypothesisDraw(data).array((n, n))
    value = HypothesisDraw(data).array((n, n))
    after = []
    for mode in ("native", "interpret"):
        x, w, v = ksym.placeholder((n, n), "float64"), ksym.Variable(start), ksym.Variable(start)
        loss = ksym.sum(ksym.tanh(x @ w) * v)
        updates = [w.assign(v - loss), v.assign_sub(ksym.gradients(loss, v))]
        step = costed.function(costs, [x], loss, updates, mode)
        after.append([step(value), step(value), w.get_value(), v.get_value()])
    for a, b in zip(*after, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
