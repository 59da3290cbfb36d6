"""Loops and branches: stories, and laws against NumPy loops and finite differences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ksym
from ksym.errors import ExecutionError, GradientError, KsymError
from ksym.testing import verify_gradient

MODES = ["native", "interpret"]
both_modes = pytest.mark.parametrize("mode", MODES)


def close(found, expected, rtol=1e-5):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-6)


def cell(m, elements, states, closed, rotate):
    """A body for NumPy and ksym alike: outputs and new states."""
    total = closed
    for element in elements:
        total = total + element * closed
    outputs = [m.tanh(total + s) for s in states] + [total * 2.0]
    if rotate:
        return outputs, [*states[1:], *states[:1]]
    following = [*states[1:], *states[:1]]
    return outputs, [m.sin(total * s) + n * 0.5 for s, n in zip(states, following, strict=True)]


def numpy_loop(sequences, states, closed, steps, reverse, rotate):
    order = range(steps)
    stacks = [np.zeros((steps, *closed.shape)) for _ in range(len(states) + 1)]
    for step in reversed(order) if reverse else order:
        outputs, states = cell(np, [s[step] for s in sequences], states, closed, rotate)
        for stack, output in zip(stacks, outputs, strict=True):
            stack[step] = output
    return [*stacks, *states]


def build(sequences, states, closed, steps, reverse, rotate):
    scanned = ksym.scan(
        lambda *values: cell(
            ksym, values[: len(sequences)], list(values[len(sequences) :]), closed, rotate
        ),
        sequences,
        states,
        steps=steps,
        reverse=reverse,
    )
    return [*scanned.outputs, *scanned.states]


@st.composite
def loops(draw, most=3):
    return {
        "sequences": draw(st.integers(0, 2)),
        "states": draw(st.integers(0, 3)),
        "reverse": draw(st.booleans()),
        "rotate": draw(st.booleans()),
        "shape": tuple(draw(st.lists(st.integers(1, 3), max_size=2))),
        "lengths": draw(st.lists(st.integers(0, most), min_size=1, max_size=3)),
        "seed": draw(st.integers(0, 1000)),
    }


@given(loops(), st.sampled_from(MODES))
def test_scan_is_a_loop_for_every_length(drawn, mode):
    rng = np.random.default_rng(drawn["seed"])
    shape, count = drawn["shape"], drawn["sequences"]
    xs = [ksym.placeholder((None, *shape), "float64") for _ in range(count)]
    states = [ksym.placeholder(shape, "float64") for _ in range(drawn["states"])]
    closed = ksym.placeholder(shape, "float64")
    lengths = drawn["lengths"] if count else drawn["lengths"][:1]
    options = {"reverse": drawn["reverse"], "rotate": drawn["rotate"]}
    tensors = build(xs, states, closed, steps=None if count else lengths[0], **options)
    f = ksym.function([*xs, *states, closed], tensors, mode=mode)
    for length in lengths:
        arrays = [rng.normal(size=(length, *shape)) for _ in xs]
        initial = [rng.normal(size=shape) for _ in states]
        w = rng.normal(size=shape)
        expected = numpy_loop(arrays, initial, w, length, **options)
        for a, b in zip(f(*arrays, *initial, w), expected, strict=True):
            assert a.shape == b.shape
            close(a, b)


@given(loops())
def test_scan_gradients_of_two_orders(drawn):
    rng = np.random.default_rng(drawn["seed"])
    shape, length, count = drawn["shape"], drawn["lengths"][0], drawn["sequences"]
    point = [rng.normal(size=(length, *shape)) for _ in range(count)]
    point += [rng.normal(size=shape) for _ in range(drawn["states"] + 1)]

    def graph(*tensors):
        *rest, closed = tensors
        return build(rest[:count], rest[count:], closed, length, drawn["reverse"], drawn["rotate"])

    verify_gradient(graph, point)


@given(st.integers(0, 4), st.integers(0, 1000))
def test_while_gradients_of_two_orders(steps, seed):
    rng = np.random.default_rng(seed)

    def graph(x, w):
        def body(i, s, other):
            return [i + 1, ksym.tanh(s * w) + other, other * x]

        _, s, other = ksym.while_loop(lambda i, s, other: i < steps, body, [0, x, x * w])
        return [s * x, other]

    verify_gradient(graph, [rng.normal(size=(2,)), rng.normal(size=(2,))])


@given(st.booleans(), st.integers(0, 1000))
def test_cond_gradients_of_two_orders(taken, seed):
    rng = np.random.default_rng(seed)

    def graph(x, y):
        z = ksym.exp(x)
        chosen = ksym.constant(taken)
        first, second = ksym.cond(
            ksym.placeholder((), "bool", default=taken),
            lambda: [z * x * y, ksym.tanh(z)],
            lambda: [ksym.sin(y), x],
        )
        return [first, second, ksym.cond(chosen, lambda: x * x, lambda: y)]

    verify_gradient(graph, [rng.normal(size=(3,)), rng.normal(size=(3,))])


@both_modes
def test_nested_scans(mode):
    x = ksym.placeholder((None, None))

    def row(r, s):
        total = ksym.scan(lambda e, t: (t * e, t + e * s), r, 0.0)
        return total.outputs, s + total.states

    found = ksym.scan(row, x, 1.0)
    f = ksym.function([x], [found.outputs, found.states], mode=mode)
    for shape in [(2, 3), (4, 1), (1, 2)]:
        value = np.random.normal(size=shape).astype("float32")
        s, expected = 1.0, np.zeros(shape)
        for i, r in enumerate(value):
            t = 0.0
            for j, e in enumerate(r):
                expected[i, j] = t * e
                t += e * s
            s += t
        outputs, state = f(value)
        close(outputs, expected, 1e-4)
        close(state, s, 1e-4)


def test_gradients_of_nested_loops():
    def graph(x, w):
        def row(r, s):
            inner = ksym.scan(lambda e, t: (t * e * w, ksym.tanh(t + e * s)), r, s)
            _, deep = ksym.while_loop(
                lambda i, t: i < 2, lambda i, t: [i + 1, t * w + s], [0, inner.states]
            )
            return inner.outputs, deep

        found = ksym.scan(row, x, ksym.sum(w) * 0.5)
        return [found.outputs, found.states]

    rng = np.random.default_rng(0)
    verify_gradient(graph, [rng.normal(size=(2, 3)), rng.normal(size=())])


@both_modes
def test_states_swap(mode):
    a, b = ksym.placeholder(()), ksym.placeholder(())
    states = ksym.scan(lambda x, y: ((), (y, x)), (), [a, b], steps=3).states
    looped = ksym.while_loop(lambda i, x, y: i < 3, lambda i, x, y: [i + 1, y, x], [0, a, b])
    f = ksym.function([a, b], [*states, *looped[1:]], mode=mode)
    assert [float(v) for v in f(1.0, 2.0)] == [2, 1, 2, 1]


@both_modes
def test_states_that_move_along_a_chain(mode):
    a = ksym.placeholder((2,))
    found = ksym.scan(lambda e, x, y, z: (z, (e, x, y)), a, [0.0, -1.0, -2.0])
    f = ksym.function([a], [found.outputs, *found.states], mode=mode)
    outputs, *states = f([5.0, 6.0])
    assert outputs.tolist() == [-2, -1]
    assert [float(s) for s in states] == [6, 5, 0]


@both_modes
def test_integer_and_boolean_states(mode):
    x = ksym.placeholder((None,), "int32")
    found = ksym.scan(
        lambda e, count, seen: (count, (count + e, ksym.logical_or(seen, e > 2))),
        x,
        [ksym.constant(0, "int32"), ksym.constant(False)],
    )
    f = ksym.function([x], [found.outputs, *found.states], mode=mode)
    outputs, count, seen = f([1, 2, 3])
    assert (outputs.tolist(), int(count), bool(seen)) == ([0, 1, 3], 6, True)
    assert outputs.dtype == count.dtype == np.int32
    assert not f([1])[2]


def test_gradients_pass_beside_integer_states():
    def graph(x):
        found = ksym.scan(
            lambda e, i, s: (s * ksym.cast(i, "float64"), (i + 1, s * e)), x, [1, ksym.sum(x)]
        )
        return [found.outputs, found.states[1]]

    verify_gradient(graph, [np.array([0.5, -1.5, 2.0])])


def test_constants_and_closures_over_variables():
    w, c = ksym.Variable([1.0, 2.0]), ksym.placeholder((2,))
    x = ksym.placeholder((None, 2))
    found = ksym.scan(lambda e, s, k: (s * k, s + e * w), x, ksym.zeros((2,)), c)
    loss = ksym.sum(found.outputs) + ksym.sum(found.states)
    f = ksym.function([x, c], [loss, ksym.gradients(loss, w)])
    value, k = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([0.5, -1.0])
    for weights in ([1.0, 2.0], [3.0, -1.0]):
        w.set_value(weights)
        loss, gradient = f(value, k)
        before = np.cumsum(np.vstack([np.zeros(2), value]), 0)
        close(loss, np.sum(before[:3] * weights * k) + np.sum(before[3] * weights))
        close(gradient, before[:3].sum(0) * k + before[3])


def test_what_the_body_computes_from_outside_only_is_computed_once():
    x, w = ksym.placeholder((None,)), ksym.placeholder(())
    f = ksym.function([x, w], ksym.map_fn(lambda e: e * ksym.exp(w), x))
    close(f([1.0, 2.0], 0.5), np.exp(0.5) * np.array([1, 2]))
    assert [n.operator.name for n in f.last_graph()].count("exp") == 1


@both_modes
def test_random_numbers_are_drawn_anew_at_each_step(mode):
    x = ksym.placeholder((None,))
    inside = ksym.map_fn(lambda e: e + ksym.random_uniform(()), x)
    outside = ksym.random_uniform(())
    f = ksym.function([x], [inside, ksym.map_fn(lambda e: e + outside, x)], mode=mode)
    drawn, same = f(np.zeros(20))
    assert len(set(drawn.tolist())) == 20
    assert len(set(same.tolist())) == 1
    assert not np.array_equal(drawn, f(np.zeros(20))[0])


@both_modes
def test_gradients_see_the_random_numbers_that_were_drawn(mode):
    x = ksym.placeholder((None, 2))

    def row(r):
        noisy = r * ksym.random_normal(ksym.shape_of(r))
        noisy = noisy * ksym.cast(ksym.random_integers((2,), 1, 4), "float32")
        noisy = noisy * ksym.random_gamma((2,), 3.0)
        inner = ksym.map_fn(lambda e: e * ksym.random_uniform(()), noisy)
        positive = ksym.sum(r) > 0.0
        return ksym.cond(
            positive, lambda: inner * ksym.random_uniform((1,)), lambda: ksym.dropout(inner, 0.5)
        )

    y = ksym.map_fn(row, x)
    f = ksym.function([x], [y, ksym.gradients(ksym.sum(y), x)], mode=mode)
    for length in (5, 3):
        value = np.random.normal(size=(length, 2))
        out, gradient = f(value)
        close(gradient, out / value, 1e-4)
        assert len(set(gradient.flat)) >= length


def test_gradients_that_would_draw_other_numbers_are_refused():
    x = ksym.placeholder((3,))
    y = ksym.while_loop(lambda s: ksym.sum(s) < 9.0, lambda s: s + ksym.random_uniform(()), x)
    assert ksym.function([x], y)(np.zeros(3)).sum() >= 9
    with pytest.raises(GradientError, match="draw other numbers"):
        ksym.gradients(ksym.sum(y), x)


def test_the_body_updates_a_variable():
    total, x = ksym.Variable(1.0), ksym.placeholder((None,))
    found = ksym.scan(lambda e: (total * e, (), [total.assign(total + e)]), x)
    f = ksym.function([x], [found.outputs], updates=found.updates)
    assert f([1.0, 2.0, 3.0])[0].tolist() == [1, 4, 12]
    assert float(total.get_value()) == 7
    assert f([1.0])[0].tolist() == [7]
    assert float(total.get_value()) == 8


@both_modes
def test_unknown_batch_and_length_change_from_call_to_call(mode):
    x, w = ksym.placeholder((None, None, 2)), ksym.Variable(np.eye(2), "float32")
    start = ksym.zeros_like(ksym.sum(x, 0))
    found = ksym.scan(lambda e, h: (h, ksym.tanh(e @ w + h)), x, start)
    loss = ksym.sum(found.states**2)
    f = ksym.function([x], [found.outputs, ksym.gradients(loss, w)], mode=mode)
    rng = np.random.default_rng(0)
    for time, batch in [(3, 2), (1, 4), (5, 1), (3, 2), (0, 2)]:
        value = rng.normal(size=(time, batch, 2))
        outputs, gradient = f(value)
        h, expected = np.zeros((batch, 2)), np.zeros((time, batch, 2))
        for step in range(time):
            expected[step] = h
            h = np.tanh(value[step] + h)
        close(outputs, expected, 1e-4)
        assert gradient.shape == (2, 2)
    assert f.cache_info()[:3] == (1, 4, 4)


def test_steps_come_from_a_shape():
    x = ksym.placeholder((None, 3))
    found = ksym.scan(lambda s: (s, s * 2.0), (), 1.0, steps=ksym.shape_of(x)[0] + 1)
    f = ksym.function([x], found.outputs)
    assert f(np.zeros((2, 3))).tolist() == [1, 2, 4]
    assert f(np.zeros((0, 3))).tolist() == [1]


def test_what_nobody_reads_is_left_out():
    x, bad = ksym.placeholder((None,)), ksym.placeholder((2, 2))
    found = ksym.scan(
        lambda e, s, unused: ((e + s, ksym.cholesky(bad * e)), (s + e, unused + ksym.sum(bad))),
        x,
        [0.0, 0.0],
    )
    f = ksym.function([x, bad], found.states[0])
    assert f([1.0, 2.0], -np.eye(2)) == 3


def test_a_state_that_is_not_used_keeps_its_gradient():
    x = ksym.Variable(2.0)
    found = ksym.scan(lambda e, s, kept: (e * s, (s + e, kept)), [ksym.ones((3,))], [0.0, x])
    assert ksym.evaluate(ksym.gradients(found.states[1], x)) == 1


def test_folds():
    x = ksym.placeholder((None,))
    left = ksym.foldl(lambda a, e: a * 0.5 + e, x, 1.0)
    right = ksym.foldr(lambda a, e: a * 0.5 + e, x, 1.0)
    pairs = ksym.foldl(lambda a, e, g: a + e * g, [x, x], 0.0)
    found = ksym.function([x], [left, right, pairs])([1.0, 2.0, 4.0])
    close(found, [5.375, 3.125, 21.0])


def test_map_over_several_sequences_with_several_results():
    x, y = ksym.placeholder((None,)), ksym.placeholder((None, 2))
    added, sizes = ksym.map_fn(lambda a, b: [a + b, a * 2.0], [x, y])
    added, sizes = ksym.function([x, y], [added, sizes])([1.0, 2.0], [[1.0, 2.0], [3.0, 4.0]])
    assert added.tolist() == [[2, 3], [5, 6]]
    assert sizes.tolist() == [2, 4]


def test_elements_index_a_variable():
    v = ksym.Variable(np.arange(6.0).reshape(3, 2))
    y = ksym.map_fn(lambda i: v[i] * 2.0, ksym.constant([2, 0, 2]))
    close(ksym.evaluate(y), [[8, 10], [0, 2], [8, 10]])
    close(ksym.evaluate(ksym.gradients(ksym.sum(y), v)), [[2, 2], [0, 0], [4, 4]])


@both_modes
def test_a_while_loop_ends_by_data(mode):
    n = ksym.placeholder((), "int64")
    steps, _ = ksym.while_loop(
        lambda count, m: m > 1,
        lambda count, m: [count + 1, ksym.where(ksym.equal(m % 2, 0), m // 2, 3 * m + 1)],
        [0, n],
    )
    f = ksym.function([n], steps, mode=mode)
    assert [int(f(v)) for v in (1, 6, 27)] == [0, 8, 111]


def test_newton_in_a_while_loop_has_a_gradient():
    x = ksym.placeholder((), "float64")
    root = ksym.while_loop(
        lambda r: ksym.abs(r * r - x) > 1e-12, lambda r: (r + x / r) / 2.0, x, max_steps=50
    )
    first = ksym.gradients(root, x)
    values = ksym.function([x], [root, first, ksym.gradients(first, x)])(2.0)
    close(values, [2**0.5, 0.5 * 2**-0.5, -0.25 * 2**-1.5])


@both_modes
def test_a_loop_that_never_ends_is_stopped(mode):
    x = ksym.placeholder(())
    looped = ksym.while_loop(lambda s: s > 0.0, lambda s: s + 1.0, x, max_steps=7)
    f = ksym.function([x], looped, mode=mode)
    with pytest.raises(ExecutionError, match="not ended after 7 steps") as caught:
        f(1.0)
    assert "while_loop" in str(caught.value)
    assert "test_api.py" in str(caught.value)
    assert f(-1.0) == -1
    exactly = ksym.while_loop(lambda s: s < 7.0, lambda s: s + 1.0, x, max_steps=7)
    assert ksym.function([x], exactly, mode=mode)(0.0) == 7


@both_modes
def test_the_branch_that_is_not_taken_does_not_run(mode):
    good, a = ksym.placeholder((), "bool"), ksym.placeholder((2, 2))
    y = ksym.cond(good, lambda: ksym.sum(ksym.cholesky(a)), lambda: ksym.sum(a) * 0.5)
    f = ksym.function([good, a], [y, ksym.gradients(y, a)], mode=mode)
    value, gradient = f(False, -np.eye(2))
    assert (float(value), gradient.tolist()) == (-1, [[0.5, 0.5], [0.5, 0.5]])
    assert f(True, np.eye(2))[0] == 2
    with pytest.raises(KsymError, match="cholesky"):
        f(True, -np.eye(2))


@both_modes
def test_branches_inside_a_loop(mode):
    x = ksym.placeholder((None,))

    def body(e, s):
        new = ksym.cond(e > 0.0, lambda: s + e, lambda: s * 0.5)
        return new, new

    y = ksym.scan(body, x, 4.0).outputs
    f = ksym.function([x], [y, ksym.gradients(ksym.sum(y), x)], mode=mode)
    outputs, gradient = f([1.0, -1.0, 3.0])
    assert outputs.tolist() == [5, 2.5, 5.5]
    assert gradient.tolist() == [2, 0, 1]


def test_an_unbounded_graph_of_loops_one_after_another():
    x = ksym.placeholder((None,))
    y = x
    for _ in range(30):
        y = ksym.scan(lambda e, s: (s + e * 0.5, s + 0.1), y, 0.0).outputs
    assert ksym.function([x], ksym.gradients(ksym.sum(y), x))([1.0, 2.0]) == pytest.approx(0.5**30)
