"""Updates as fused loops: they see the values before the call, and write where they belong."""

import numpy as np
import pytest

import ksym


def _updated(make, mode, shape=(300, 400)):
    """Run updates of three variables twice; return what the variables hold."""
    rng = np.random.default_rng(0)
    variables = [ksym.Variable(rng.random(shape).astype("float32")) for _ in range(3)]
    x = ksym.placeholder((), "float32")
    step = ksym.function([x], [], updates=make(x, *variables), mode=mode)
    step(0.5)
    step(0.25)
    return [variable.get_value() for variable in variables], step


CASES = {
    "chain": lambda x, a, b, c: [a.assign(ksym.sqrt(a * x + 1.0) / 2.0)],
    "swap": lambda x, a, b, c: [a.assign(b), b.assign(a)],
    "swapped in one loop": lambda x, a, b, c: [a.assign(a * 0.5 + b), b.assign(a - b * x)],
    "the old value is read last": lambda x, a, b, c: [a.assign(b + x), c.assign((b + x) * c + a)],
    "one result for two": lambda x, a, b, c: [a.assign(a + b), b.assign(a + b)],
    "two results in a chain": lambda x, a, b, c: [
        a.assign(a * 0.9 + 0.1 * b),
        b.assign(b - x * (a * 0.9 + 0.1 * b) / (ksym.square(c) + 1.0)),
        c.assign(c * x + ksym.square(a)),
    ],
    "momentum": lambda x, a, b, c: [
        a.assign(a * 0.9 + 0.1 * c),
        b.assign(b - x * (a * 0.9 + 0.1 * c) / (ksym.square(c) + 1.0)),
    ],
    "a mean of the others": lambda x, a, b, c: [
        c.assign(0.5 * c + 0.5 * ksym.mean(a) + a),
        a.assign(a * x),
    ],
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_updates_see_the_values_before_the_call(name):
    native, _ = _updated(CASES[name], "native")
    stepwise, _ = _updated(CASES[name], "interpret")
    for found, expected in zip(native, stepwise, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-6)


@pytest.mark.host_access
def test_of_an_optimizer_only_scalars_are_left_to_the_native_graph():
    _, step = _updated(CASES["momentum"], "native")
    left = [tensor for part in step.last_plan().parts for tensor in part.outputs]
    assert {tensor.shape for tensor in left} <= {()}
