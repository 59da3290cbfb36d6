"""Loops whose step is a standard recurrent cell: found, and equal to what they were."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ksym
from ksym.graph import topological_order
from ksym.loops.recognition import kept_as_loops
from ksym.testing import verify_gradient

KERNELS = {"simple_rnn", "lstm", "gru"}
STEPS, BATCH, FEATURES, UNITS = 4, 3, 2, 5


def operators(tensors):
    """The names of the loops and kernels that tensors are computed by."""
    names = {node.operator.name for node in topological_order(tensors)}
    return names & (KERNELS | {"scan"})


def draw(*shapes, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def sizes(gates, states, biases):
    """The shapes of input, states, kernel, recurrent kernel and biases."""
    columns = gates * UNITS
    weights = [(FEATURES, columns), (UNITS, columns), *[(columns,)] * biases]
    return [(STEPS, BATCH, FEATURES), *[(BATCH, UNITS)] * states, *weights]


def simple(activation):
    def layer(x, h, w, u, b, **options):
        def step(x, h):
            h = activation(x @ w + b + h @ u)
            return h, h

        return ksym.scan(step, x, h, **options)

    return layer


def lstm(sums):
    """A layer whose sums of gates are written as sums does."""

    def layer(x, h, c, w, u, b, **options):
        def step(x, h, c):
            i, f, g, o = sums(x, h, w, u, b)
            c = ksym.sigmoid(f) * c + ksym.sigmoid(i) * ksym.tanh(g)
            h = ksym.sigmoid(o) * ksym.tanh(c)
            return h, (h, c)

        return ksym.scan(step, x, [h, c], **options)

    return layer


def separate(x, h, w, u, b):
    parts = zip(*(ksym.split(t, 4, -1) for t in (w, u, b)), strict=True)
    return [(h @ u + b) + x @ w for w, u, b in parts]


def in_another_order(x, h, w, u, b):
    z = h @ u + (x @ w + b)
    return [z[:, UNITS * i : UNITS * (i + 1)] for i in (2, 0, 3, 1)]


def with_a_forget_bias(x, h, w, u, b):
    i, f, g, o = ksym.split(ksym.concatenate([x, h], 1) @ ksym.concatenate([w, u], 0) + b, 4, 1)
    return i, f + 1.0, g, o


LSTM_SUMS = {
    "fused": lambda x, h, w, u, b: ksym.split(x @ w + h @ u + b, 4, 1),
    "separate": separate,
    "in another order": in_another_order,
    "joined, with a forget bias": with_a_forget_bias,
    "by einsum": lambda x, h, w, u, b: ksym.split(
        ksym.einsum("ni,ij->nj", x, w) + ksym.einsum("nh,jh->nj", h, ksym.transpose(u)) + b, 4, 1
    ),
    "transposed": lambda x, h, w, u, b: ksym.split(
        ksym.matmul(x, ksym.transpose(w), transpose_b=True) + h @ u + ksym.reshape(b, (1, -1)), 4, 1
    ),
    "without bias": lambda x, h, w, u, b: ksym.split(x @ w + h @ u, 4, 1),
    "some with a bias": lambda x, h, w, u, b: [
        p + b[:UNITS] if i % 2 else p for i, p in enumerate(ksym.split(x @ w + h @ u, 4, 1))
    ],
    "scaled input": lambda x, h, w, u, b: ksym.split((0.5 * x) @ w + h @ u + b, 4, 1),
}


def gru(mixed, order="zrn"):
    def layer(x, h, w, u, b, d, **options):
        def step(x, h):
            a = dict(zip(order, ksym.split(x @ w + b, 3, 1), strict=True))
            s = dict(zip(order, ksym.split(h @ u + d, 3, 1), strict=True))
            z, r = ksym.sigmoid(a["z"] + s["z"]), ksym.sigmoid(s["r"] + a["r"])
            h = mixed(z, h, ksym.tanh(r * s["n"] + a["n"]))
            return h, h

        return ksym.scan(step, x, h, **options)

    return layer


GRU_MIXTURES = {
    "keeps": lambda z, h, new: z * h + (1 - z) * new,
    "keeps, exchanged": lambda z, h, new: new * (1.0 - z) + h * z,
    "keeps, by the difference": lambda z, h, new: new + z * (h - new),
    "lets in": lambda z, h, new: (1 - z) * h + z * new,
    "lets in, by the difference": lambda z, h, new: h + z * (new - h),
}

LAYERS = {
    "tanh": ("simple_rnn", simple(ksym.tanh), sizes(1, 1, 1)),
    "relu": ("simple_rnn", simple(ksym.relu), sizes(1, 1, 1)),
    **{f"lstm {k}": ("lstm", lstm(sums), sizes(4, 2, 1)) for k, sums in LSTM_SUMS.items()},
    **{f"gru {k}": ("gru", gru(mixed), sizes(3, 1, 2)) for k, mixed in GRU_MIXTURES.items()},
    "gru rzn": ("gru", gru(GRU_MIXTURES["keeps"], "rzn"), sizes(3, 1, 2)),
}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layer", LAYERS)
def test_a_cell_is_found_and_computes_what_the_loop_did(layer, dtype, reverse):
    name, build, shapes = LAYERS[layer]
    values = draw(*shapes, dtype=dtype)
    inputs = [ksym.placeholder((None, None, FEATURES), dtype)]
    inputs += [ksym.placeholder((None, UNITS), dtype) for s in shapes[1:] if s == (BATCH, UNITS)]
    inputs += [ksym.placeholder(shape, dtype) for shape in shapes[len(inputs) :]]
    results = []
    for as_loop in (False, True):
        if as_loop:
            with kept_as_loops():
                scanned = build(*inputs, reverse=reverse)
        else:
            scanned = build(*inputs, reverse=reverse)
        states = scanned.states if isinstance(scanned.states, list) else [scanned.states]
        outputs = [scanned.outputs, *states]
        assert operators(outputs) == {"scan" if as_loop else name}
        loss = sum(ksym.sum(ksym.sin(t)) for t in outputs)
        outputs += ksym.gradients(loss, inputs, disconnected="zero")
        results.append(ksym.function(inputs, outputs)(*values))
    bound = 1e-5 if dtype == "float32" else 1e-12
    for kernel, loop in zip(*results, strict=True):
        np.testing.assert_allclose(kernel, loop, rtol=bound, atol=bound)


@pytest.mark.parametrize("layer", ["tanh", "lstm fused", "gru lets in"])
def test_gradients_of_two_orders(layer):
    _, build, shapes = LAYERS[layer]
    verify_gradient(lambda *operands: build(*operands).outputs, draw(*shapes))


def test_random_numbers_drawn_before_the_loop_are_a_factor_of_the_input():
    x, h, w, u, b = (ksym.placeholder(s) for s in sizes(1, 1, 1))
    mask = ksym.random_bernoulli((BATCH, FEATURES), 0.5)
    outputs = ksym.scan(lambda x, h: (ksym.tanh((x * mask) @ w + h @ u + b),) * 2, x, h).outputs
    assert operators([outputs]) == {"simple_rnn"}
    values = draw(*sizes(1, 1, 1), dtype="float32")
    found, kept = ksym.function([x, h, w, u, b], [outputs, mask])(*values)
    expected = ksym.simple_rnn(x * mask, h, w, u, b)[0]
    expected = ksym.function([x, h, w, u, b, mask], expected)(*values, kept)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", [None, 1])
@pytest.mark.parametrize("samples", [None, 3])
def test_one_sample_for_several_states(batch, samples):
    """As a step broadcasts it."""
    x, h = ksym.placeholder((None, batch, 3)), ksym.placeholder((samples, 3))

    def layer():
        outputs = ksym.scan(lambda x, h: (ksym.tanh(x @ U + h @ U),) * 2, x, h).outputs
        return [outputs, *ksym.gradients(outputs, [x, h])]

    found = layer()
    with kept_as_loops():
        expected = layer()
    assert operators(found) == {"simple_rnn"}
    values = draw((4, 1, 3), (3, 3))
    for a, b in zip(*(ksym.function([x, h], t)(*values) for t in (found, expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_states_that_only_repeat_the_output(steps, static):
    """One that nothing reads keeps its initial value if there are no steps."""
    x = ksym.placeholder((steps if static else None, 2, 3))
    h, other = ksym.placeholder((2, 3)), ksym.placeholder((2, 3))
    scanned = ksym.scan(lambda x, h, o: ((), (ksym.tanh(x @ U + h @ U),) * 2), x, [h, other])
    assert operators(scanned.states) == {"simple_rnn"}
    f = ksym.function([x, h, other], scanned.states)
    last, copied = f(*draw((steps, 2, 3), (2, 3), (2, 3)))
    expected = last if steps else draw((steps, 2, 3), (2, 3), (2, 3))[2]
    np.testing.assert_allclose(copied, expected, rtol=1e-6)


U = np.random.default_rng(1).normal(size=(3, 3))


def almost(step, states=1):
    """A loop over (time, 2, 3) of states (2, 3)."""
    h = [ksym.placeholder((2, 3)) for _ in range(states)]
    return ksym.scan(step, ksym.placeholder((None, 2, 3)), h)


def gated(activation=ksym.tanh, gate=ksym.sigmoid, output=None):
    """A step of an LSTM without kernels of its own for the gates, in parts that can be changed."""

    def step(x, h, c):
        a = [x @ U + h @ (U * k) for k in range(1, 5)]
        new = gate(a[1]) * c + gate(a[0]) * activation(a[2])
        h = gate(a[3]) * activation(new)
        return (h if output is None else output(h, new)), (h, new)

    return step


def forgets_to_reset(x, h):
    z, r = ksym.sigmoid(x @ U + h @ U), ksym.sigmoid(x @ U + h @ U)
    return (), z * h + (1 - z) * ksym.tanh(x @ U + (r * h) @ U)


NOT_CELLS = {
    "another activation": lambda: almost(lambda x, h: ((), ksym.sin(x @ U + h @ U))),
    "no activation": lambda: almost(lambda x, h: ((), x @ U + h @ U)),
    "no state": lambda: almost(lambda x, h: ((), ksym.tanh(x @ U))),
    "no input": lambda: almost(lambda x, h: ((), ksym.tanh(h @ U))),
    "input not multiplied": lambda: almost(lambda x, h: ((), ksym.tanh(x + h @ U))),
    "the state twice": lambda: almost(lambda x, h: ((), ksym.tanh(x @ U + h @ U + h @ U))),
    "state scaled": lambda: almost(lambda x, h: ((), ksym.tanh(x @ U + (0.5 * h) @ U))),
    "residual": lambda: almost(lambda x, h: ((), h + ksym.tanh(x @ U + h @ U))),
    "a bias for each sample": lambda: almost(
        lambda x, h: ((), ksym.tanh(x @ U + h @ U + np.ones((2, 3))))
    ),
    "another output": lambda: almost(lambda x, h: (2 * h, ksym.tanh(x @ U + h @ U))),
    "the state before": lambda: almost(lambda x, h: (h, ksym.tanh(x @ U + h @ U))),
    "the input": lambda: almost(lambda x, h: (x, ksym.tanh(x @ U + h @ U))),
    "two cells": lambda: almost(
        lambda x, h, g: ((), (ksym.tanh(x @ U + h @ U), ksym.tanh(h @ U + g @ U))), 2
    ),
    "another state that is used": lambda: almost(
        lambda x, h, n: ((), (ksym.tanh(x @ U + h @ U), n + h)), 2
    ),
    "exchanged states": lambda: almost(lambda x, h, g: ((), (g, ksym.tanh(x @ U + h @ U))), 2),
    "another gate": lambda: almost(gated(gate=ksym.hard_sigmoid), 2),
    "another activation of an lstm": lambda: almost(gated(activation=ksym.softsign), 2),
    "the memory as output": lambda: almost(gated(output=lambda h, c: c), 2),
    "both as outputs": lambda: almost(gated(output=lambda h, c: [h, c]), 2),
    "reset before the product": lambda: almost(forgets_to_reset),
    "given steps": lambda: ksym.scan(
        lambda x, h: ((), ksym.tanh(x @ U + h @ U)),
        ksym.placeholder((None, 2, 3)),
        ksym.placeholder((2, 3)),
        steps=4,
    ),
    "numbers drawn at each step": lambda: almost(
        lambda x, h: ((), ksym.tanh((x * ksym.random_bernoulli((2, 3), 0.5)) @ U + h @ U))
    ),
    "stacked samples": lambda: ksym.scan(
        lambda x, h: ((), ksym.tanh(x @ U + h @ U)),
        ksym.placeholder((None, 1, 2, 3)),
        ksym.placeholder((1, 2, 3)),
    ),
    "integers": lambda: ksym.scan(
        lambda x, h: ((), x + h), ksym.placeholder((None, 2, 3), "int32"), np.ones((2, 3), "int32")
    ),
}


@pytest.mark.parametrize("case", NOT_CELLS)
def test_what_only_looks_like_a_cell_stays_a_loop(case):
    scanned = NOT_CELLS[case]()
    states = scanned.states if isinstance(scanned.states, list) else [scanned.states]
    assert operators(states) == {"scan"}


def test_the_cell_of_the_cases_above_is_one_before_it_is_changed():
    assert operators(almost(gated(), 2).states) == {"lstm"}


def test_a_state_of_another_shape_is_refused_as_by_a_loop():
    with pytest.raises(ksym.ShapeError, match="scan"):
        ksym.scan(
            lambda x, h: ((), ksym.tanh(x @ U + h @ U)),
            ksym.placeholder((None, 2, 3)),
            ksym.placeholder((1, 3)),
        )
    x, h = ksym.placeholder((None, None, 3)), ksym.placeholder((1, 3))
    last = ksym.scan(lambda x, h: ((), ksym.tanh(x @ U + h @ U)), x, h).states
    with pytest.raises(ksym.ShapeError, match="made at"):
        ksym.function([x, h], last)(*draw((4, 2, 3), (1, 3)))


class Chance:
    """Draws how a step is written."""

    def __init__(self, data):
        self._data = data

    def pick(self, *options):
        return self._data.draw(st.sampled_from(options))

    def mostly(self, right, *others):
        return self.pick(*[right] * 12, *others)

    def sum(self, terms):
        """Add up terms in any order, in any grouping."""
        terms = list(self._data.draw(st.permutations(terms)))
        while len(terms) > 1:
            at = self._data.draw(st.integers(0, len(terms) - 2))
            terms[at : at + 2] = [terms[at] + terms[at + 1]]
        return terms[0]

    def product(self, a, b):
        return self.pick(a * b, b * a)


def sums_of_gates(chance, x, h, w, u, b):
    """The sums of an LSTM's gates, written in some way."""
    if chance.pick(True, False):
        return ksym.split(chance.sum([x @ w, h @ u, b]), 4, 1)
    parts = zip(*(ksym.split(t, 4, -1) for t in (w, u, b)), strict=True)
    return [chance.sum([x @ w, h @ u, b]) for w, u, b in parts]


def results(step, inputs, values):
    x, h, c, *_ = inputs
    scanned = ksym.scan(step, x, [h, c])
    outputs = [scanned.outputs, *scanned.states]
    return operators(outputs), ksym.function(inputs, outputs)(*values)


@given(data=st.data())
def test_an_lstm_is_found_however_it_is_written(data):
    chance, values = Chance(data), draw(*sizes(4, 2, 1))
    inputs = [ksym.placeholder(v.shape, "float64") for v in values]

    def step(x, h, c):
        i, f, g, o = sums_of_gates(chance, x, h, *inputs[3:])
        kept = chance.product(ksym.sigmoid(f), c)
        c = chance.sum([kept, chance.product(ksym.sigmoid(i), ksym.tanh(g))])
        h = chance.product(ksym.tanh(c), ksym.sigmoid(o))
        return h, (h, c)

    names, found = results(step, inputs, values)
    assert names == {"lstm"}
    expected = ksym.function(inputs, ksym.lstm(*inputs))(*values)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@given(data=st.data())
def test_with_a_change_here_and_there_it_is_still_what_it_was(data):
    """Found or not: the numbers are those of the loop."""
    chance, values = Chance(data), draw(*sizes(4, 2, 1))
    inputs = [ksym.placeholder(v.shape, "float64") for v in values]
    kinds = [chance.mostly(ksym.sigmoid, ksym.tanh, ksym.hard_sigmoid) for _ in range(3)]
    kinds += [chance.mostly(ksym.tanh, ksym.sigmoid, lambda t: t) for _ in range(2)]
    order = [chance.mostly(gate, *range(4)) for gate in range(4)]
    old, inside, shown, carried, kept = (chance.mostly(0, 1, 2) for _ in range(5))
    factor = chance.mostly(1.0, 0.5)

    def step(x, h, c):
        i, f, g, o = (ksym.split(x @ inputs[3] + h @ inputs[4] + inputs[5], 4, 1)[k] for k in order)
        new_c = kinds[0](f) * [c, h, c * factor][old] + kinds[1](i) * kinds[3](g)
        new_h = kinds[2](o) * kinds[4]([new_c, c, new_c + h][inside])
        states = [new_h, new_c, h][carried], [new_c, new_h, c][kept]
        return [new_h, new_c, x @ inputs[3][:, :UNITS]][shown], states

    _, found = results(step, inputs, values)
    with kept_as_loops():
        names, expected = results(step, inputs, values)
    assert names == {"scan"}
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
