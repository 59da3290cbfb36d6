"""The work of a first call grows as the graph does: the calls of Python functions are counted."""

import sys

import numpy as np
import pytest

import ksym
from ksym.graph import topological_order

SIDE = 4


def _variables(count):
    return [ksym.Variable(np.eye(SIDE, dtype="float32") * 0.5) for _ in range(count)]


def _shared_weight(x, length):
    (w,) = _variables(1)
    y = x
    for _ in range(length):
        y = ksym.tanh(y @ w)
    return [y, ksym.gradients(ksym.sum(y), w)], []


def _scaled(x, length):
    y = x
    for _ in range(length):
        y = y * 1.0001 + ksym.sin(y) * 0.0001
    return [y], []


def _trained(x, length):
    weights, y = _variables(length), x
    for w in weights:
        y = ksym.tanh(y * w + x)
    steps = ksym.gradients(ksym.sum(y), weights)
    return [y], [w.assign(w - 0.1 * step) for w, step in zip(weights, steps, strict=True)]


def _rotated(x, length):
    weights = _variables(length)
    following = [*weights[1:], weights[0]]
    return [x], [w.assign(v * 0.5 + x) for w, v in zip(weights, following, strict=True)]


def _written_out(x, length):
    y = x
    for _ in range(length):
        y = ksym.log_softmax(ksym.cumsum(ksym.softmax(y), axis=1))
    return [y], []


def _views(x, length):
    y, kept = x, []
    for number in range(length):
        y = ksym.transpose(y) if number % 3 else y[::-1]
        kept.append(ksym.tanh(y))
    return [ksym.concatenate(kept, 0)], []


def _loop(step):
    def outputs(x, length):
        (w,) = _variables(1)
        sequence = ksym.stack([x, x * 2.0])
        last = ksym.foldl(
            lambda state, element: step(state, element, w, length),
            sequence,
            ksym.zeros((SIDE, SIDE)),
        )
        return [last, ksym.gradients(ksym.sum(last), x)], []

    return outputs


def _state_chain(state, element, w, length):
    state = state + element
    for _ in range(length):
        state = ksym.tanh(state @ w)
    return state


def _element_chain(state, element, w, length):
    ahead = element
    for _ in range(length):
        ahead = ksym.tanh(ahead) * 0.9
    return state * 0.5 + ahead + element


GRAPHS = {
    "a weight that all share": _shared_weight,
    "constants that all share": _scaled,
    "updates of weights in a chain": _trained,
    "updates that read each other": _rotated,
    "operators that are written out": _written_out,
    "views of views": _views,
    "a loop with a chain from its state": _loop(_state_chain),
    "a loop with a chain from an element": _loop(_element_chain),
}

STEPS = {
    "tanh": lambda draw, y, other: ksym.tanh(y),
    "scaled": lambda draw, y, other: y * float(draw.random()),
    "product": lambda draw, y, other: y @ other * 0.1,
    "sum": lambda draw, y, other: y + other,
    "reduced": lambda draw, y, other: y - ksym.max(y, axis=1, keepdims=True),
    "softmax": lambda draw, y, other: ksym.softmax(y),
    "transposed": lambda draw, y, other: ksym.transpose(y),
    "joined": lambda draw, y, other: ksym.concatenate([y[:2], other[2:] * 0.5], 0),
    "chosen": lambda draw, y, other: ksym.where(y > 0.1, y, -other),
    "sorted": lambda draw, y, other: ksym.sort(y, axis=1),
    "taken": lambda draw, y, other: ksym.take(y, ksym.constant(np.array([1, 0, 3, 2])), axis=0),
}


def _drawn(seed):
    def outputs(x, length):
        draw = np.random.default_rng(seed)
        names = draw.choice(sorted(STEPS), 4, replace=False)
        weights = _variables(3 if seed % 2 else length // 10)
        live = [x]
        for _ in range(length):
            other = (*weights, *live)[draw.integers(len(weights) + len(live))]
            live = [*live[-2:], STEPS[draw.choice(names)](draw, live[-1], other)]
        grown = ksym.gradients(ksym.sum(live[-1]), weights, disconnected="zero")
        if seed % 3:
            return [live[-1], *grown], []
        updates = [w.assign(w - 0.1 * g) for w, g in zip(weights, grown, strict=True)]
        return [live[-1]], updates

    return outputs


GRAPHS.update({f"drawn {seed}": _drawn(seed) for seed in range(6)})


def _measured(make, length):
    """Return the calls from the making of a graph to its first result, and its number of nodes."""
    count = 0

    def counted(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        x = ksym.placeholder((SIDE, SIDE))
        outputs, updates = make(x, length)
        ksym.function([x], outputs, updates)(np.full((SIDE, SIDE), 0.1))
    finally:
        sys.setprofile(before)
    return count, len(topological_order([*outputs, *(update.value for update in updates)]))


@pytest.mark.parametrize("name", GRAPHS)
def test_a_first_call_grows_with_the_graph(name):
    _measured(GRAPHS[name], 10)
    (calls, nodes), (more_calls, more_nodes) = (_measured(GRAPHS[name], n) for n in (50, 200))
    # The nodes of bodies are not counted, and a drawn graph may not need all that was drawn.
    assert more_calls / calls < 1.3 * max(4.0, more_nodes / nodes)
