"""Loops that keep few of their states: the same values and gradients, in less memory."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ksym
from ksym.errors import GraphError
from ksym.testing import verify_gradient

POINT = [(7, 2, 3), (2, 4), (3, 4), (4, 4)]


def graph(every, reverse):
    def build(x, h, w, u):
        def body(e, s, total):
            new = ksym.tanh(e @ w + s @ u)
            return new * s, (new, total + ksym.sum(e))

        found = ksym.scan(
            body, x, [h, ksym.zeros((), x.dtype)], reverse=reverse, checkpoint_every=every
        )
        return [found.outputs, *found.states]

    return build


@given(st.integers(1, 9), st.booleans(), st.lists(st.integers(0, 7), min_size=1, max_size=3))
def test_values_and_gradients_are_those_of_the_plain_loop(every, reverse, lengths):
    inputs = [ksym.placeholder((None, 2, 3), "float64")]
    inputs += [ksym.placeholder(shape, "float64") for shape in POINT[1:]]

    def compiled(every):
        tensors = graph(every, reverse)(*inputs)
        loss = sum(ksym.sum(ksym.sin(t)) for t in tensors)
        return ksym.function(inputs, [*tensors, *ksym.gradients(loss, inputs)])

    plain, sparing = compiled(None), compiled(every)
    rng = np.random.default_rng(every)
    for length in lengths:
        point = [rng.normal(size=shape) for shape in [(length, 2, 3), *POINT[1:]]]
        for a, b in zip(plain(*point), sparing(*point), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@settings(max_examples=5)
@given(st.integers(1, 4), st.booleans())
def test_gradients_of_two_orders(every, reverse):
    rng = np.random.default_rng(0)
    verify_gradient(graph(every, reverse), [rng.normal(size=shape) for shape in POINT])


def test_variables_and_random_numbers():
    total, x = ksym.Variable(1.0), ksym.placeholder((None,))

    def body(e):
        return e * ksym.random_uniform(()), (), [total.assign(total + e)]

    found = ksym.scan(body, x, checkpoint_every=2)
    y = found.outputs
    f = ksym.function([x], [y, ksym.gradients(ksym.sum(y), x)], updates=found.updates)
    value = np.arange(1.0, 6.0)
    outputs, gradient = f(value)
    np.testing.assert_allclose(gradient, outputs / value, rtol=1e-5)
    assert len(set(gradient)) == 5
    assert float(total.get_value()) == 16


@pytest.mark.parametrize("every", [0, -1, 1.5])
def test_what_is_no_number_of_steps(every):
    with pytest.raises(GraphError, match="checkpoint_every"):
        ksym.scan(lambda e: (e, ()), ksym.placeholder((3,)), checkpoint_every=every)


PEAK = """
import pathlib, re
import numpy as np
import ksym

x, u = ksym.placeholder((None, 1, 1)), ksym.placeholder((64, 64))

def compiled(every):
    body = lambda e, s: ((), ksym.tanh(s @ u + e) * 0.5)
    end = ksym.scan(body, x, ksym.zeros((64, 64)), checkpoint_every=every).states
    return ksym.function([x, u], [ksym.sum(end), ksym.gradients(ksym.sum(end), u)])

def peak():  # of this program; what getrusage says counts its parent's too
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1]) / 1024

value, weights = np.ones((2000, 1, 1)), np.eye(64) / 2
for every in (45, None):
    f = compiled(every)
    f(value[:4], weights)
    before = peak()
    f(value, weights)
    print(peak() - before)
"""


def test_memory_of_two_thousand_steps():
    run = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    sparing, plain = map(float, run.stdout.split())
    # A state is 16 KiB: 2,000 of them are 31 MiB, and 45 for the blocks and for one of them 1.4.
    assert plain > 31
    assert sparing < plain / 4
