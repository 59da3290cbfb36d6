"""Operators whose results have a size that depends on data, in the middle of graphs."""

import numpy as np
import pytest

import ksym
from ksym.errors import ShapeError

both_modes = pytest.mark.parametrize("mode", ["native", "interpret"])


@both_modes
def test_a_mask_in_the_middle_of_a_trained_graph(mode):
    rng = np.random.default_rng(0)
    x, y = ksym.placeholder((None, 3)), ksym.placeholder((None,))
    w = ksym.Variable(rng.normal(size=3), "float32")
    error = ksym.tanh(x @ w) - y
    far = ksym.boolean_mask(error, ksym.abs(error) > 0.2)
    loss = ksym.sum(far**2) / ksym.maximum(ksym.cast(ksym.shape_of(far)[0], "float32"), 1.0)
    gradient = ksym.gradients(loss, w)
    step = ksym.function(
        [x, y], [loss, gradient], updates=[w.assign_sub(0.1 * gradient)], mode=mode
    )
    for samples in (8, 8, 5, 8, 1):
        a, b = rng.normal(size=(samples, 3)), rng.normal(size=samples)
        before = w.get_value().astype("float64")
        h = np.tanh(a @ before)
        chosen = np.abs(h - b) > 0.2
        count = max(chosen.sum(), 1)
        value, found = step(a, b)
        np.testing.assert_allclose(value, ((h - b)[chosen] ** 2).sum() / count, rtol=1e-4)
        expected = (2 * (h - b) * chosen * (1 - h * h)) @ a / count
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(w.get_value(), before - 0.1 * found, rtol=1e-5)


@both_modes
def test_several_one_after_another_and_side_by_side(mode):
    x = ksym.placeholder((None,))
    positive = ksym.boolean_mask(x, x > 0.0)
    values, inverse, counts = ksym.unique(positive * 2.0, return_inverse=True, return_counts=True)
    often = ksym.boolean_mask(values, counts > 1)
    where = ksym.argwhere(x < 0.0)
    outputs = [positive, values, inverse, counts, often, where, ksym.sum(x)]
    f = ksym.function([x], [*outputs, ksym.gradients(ksym.sum(often**2), x)], mode=mode)
    for value in ([1.0, -1.0, 1.0, 3.0], [2.0, 2.0, 2.0, 2.0], [-1.0, -2.0, -3.0], []):
        v = np.array(value, "float32")
        kept = v[v > 0]
        distinct, back, times = np.unique(kept * 2, return_inverse=True, return_counts=True)
        expected = [kept, distinct, back, times, distinct[times > 1], np.argwhere(v < 0), v.sum()]
        *found, gradient = f(v)
        for a, b in zip(found, expected, strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b)
        first = np.zeros_like(v)
        for repeated in distinct[times > 1] / 2:
            first[np.flatnonzero(v == repeated)[0]] = 8 * repeated
        np.testing.assert_allclose(gradient, first)


def test_gradients_of_second_order_through_a_mask():
    x = ksym.placeholder((None,))
    first = ksym.gradients(ksym.sum(ksym.boolean_mask(x**3, x > 0.0)), x)
    f = ksym.function([x], ksym.gradients(ksym.sum(first), x))
    assert f([1.0, -2.0, 3.0]).tolist() == [6, 0, 18]
    assert f([-1.0]).tolist() == [0]


def test_what_is_kept_compiled_for_sizes_is_bounded():
    x = ksym.placeholder((40,))
    f = ksym.function([x], ksym.sum(ksym.boolean_mask(x, x > 0.0) * 2.0), specializations=4)
    for count in [*range(0, 40, 3), 3, 0]:
        assert f(np.where(np.arange(40) < count, 1.0, -1.0)) == 2 * count
    assert f.cache_info().kept == 1
    _, program = f._programs.last
    assert len(program._later) == 4


@both_modes
def test_inside_loops_and_branches(mode):
    x = ksym.placeholder((None, 4))

    def positive(r):
        return ksym.boolean_mask(r, r > 0.0)

    sums = ksym.map_fn(lambda r: ksym.sum(positive(r) ** 2), x)
    chosen = ksym.cond(ksym.sum(x) > 0.0, lambda: positive(x[0]), lambda: positive(-x[0]))
    outputs = [sums, chosen, ksym.gradients(ksym.sum(sums), x), ksym.gradients(ksym.sum(chosen), x)]
    f = ksym.function([x], outputs, mode=mode)
    rng = np.random.default_rng(0)
    for sign, length in [(1, 3), (-1, 3), (1, 1), (-1, 5)]:
        v = rng.normal(size=(length, 4))
        v *= sign * np.sign(v.sum())
        found = f(v)
        kept = v * (v > 0)
        np.testing.assert_allclose(found[0], (kept**2).sum(1), rtol=1e-5)
        np.testing.assert_allclose(found[1], (sign * v[0])[sign * v[0] > 0], rtol=1e-5)
        np.testing.assert_allclose(found[2], 2 * kept, rtol=1e-5)
        np.testing.assert_allclose(found[3][0], sign * (sign * v[0] > 0))


def test_a_loop_over_as_many_elements_as_a_mask_leaves():
    x = ksym.placeholder((None,))
    kept = ksym.boolean_mask(x, x > 0.0)
    total = ksym.scan(lambda e, s: (s * e, s + e), kept, 1.0)
    loss = ksym.sum(total.outputs) + total.states
    f = ksym.function([x], [total.outputs, ksym.gradients(loss, x)])
    outputs, gradient = f([1.0, -5.0, 2.0, 3.0])
    assert outputs.tolist() == [1, 4, 12]
    assert gradient.tolist() == [1 + 1 + 2 + 3, 0, 2 + 1 + 3, 1 + 3 + 1]
    assert f([-1.0])[0].shape == (0,)


def test_steps_of_different_sizes_cannot_be_stacked():
    x = ksym.placeholder((None, 4))
    f = ksym.function([x], ksym.map_fn(lambda r: ksym.boolean_mask(r, r > 0.0), x))
    with pytest.raises(ShapeError, match="depends on data") as caught:
        f(np.ones((2, 4)))
    assert "scan" in str(caught.value)
    assert "test_dynamic.py" in str(caught.value)


@both_modes
def test_a_while_loop_refuses_a_state_whose_size_turns_out_to_change(mode):
    x = ksym.placeholder((None,))
    found = ksym.while_loop(
        lambda s: ksym.sum(s) < 100.0, lambda s: ksym.boolean_mask(s, s > 3.0) * 2.0, [x]
    )
    f = ksym.function([x], found, mode=mode)
    with pytest.raises(ksym.errors.ShapeError, match="a state is"):
        f(np.arange(1.0, 5.0))
    np.testing.assert_array_equal(f([200.0, 1.0])[0], [200, 1])


N, AT = ksym.placeholder((), "int64", name="n"), ksym.placeholder((), "int32", name="i")
X = ksym.placeholder((None, 3), name="x")
ROWS = np.arange(30, dtype="float32").reshape(10, 3)

BY_DATA = {
    "up to n": (lambda x, n, i: x[:n], [(3, 0), (0, 0), (-2, 0), (20, 0)]),
    "from n": (lambda x, n, i: x[n:], [(3, 0), (0, 0), (-2, 0), (20, 0)]),
    "from i to n": (lambda x, n, i: x[i:n], [(3, 1), (7, 2), (6, 5), (2, 5), (-1, 2)]),
    "with a step": (lambda x, n, i: x[i:n:2], [(3, 1), (7, 2), (6, 5)]),
    "backwards": (lambda x, n, i: x[i:n:-2], [(3, 8), (1, 5), (5, 1)]),
    "a batch": (lambda x, n, i: x[i * 2 : (i + 1) * 2], [(0, 0), (0, 3), (0, 4)]),
    "a window": (lambda x, n, i: x[i : i + 4], [(0, 0), (0, 6), (0, -7)]),
    "a window before": (lambda x, n, i: x[i - 2 : i], [(0, 2), (0, 10)]),
    "every second of a window": (lambda x, n, i: x[i + 1 : i + 6 : 2], [(0, 0), (0, 4)]),
    "a window backwards": (lambda x, n, i: x[i + 4 : i : -2], [(0, 0), (0, 5)]),
    "a window of n": (lambda x, n, i: x[i : i + n], [(3, 3), (7, 2), (0, 4), (9, 5)]),
    "columns": (lambda x, n, i: x[:, i : i + 2], [(0, 0), (0, 1)]),
    "rows and columns": (lambda x, n, i: x[2 : n + 2, i : i + 2], [(1, 0), (4, 1), (0, 1)]),
    "a part of a part": (lambda x, n, i: x[n:][i : i + 2], [(1, 0), (4, 1)]),
}


@pytest.mark.parametrize("case", BY_DATA)
@pytest.mark.parametrize("options", [{}, {"mode": "interpret"}, {"flags": "fuse_loops=0,check=1"}])
def test_slices_with_bounds_that_a_call_gives(case, options):
    take, calls = BY_DATA[case]
    y = take(X, N, AT)
    first = ksym.gradients(ksym.sum(y**3), X)
    second = ksym.gradients(ksym.sum(first), X)
    f = ksym.function([X, N, AT], [y, first, second], **options)
    for n, i in calls:
        value, once, twice = f(ROWS, n, i)
        np.testing.assert_array_equal(value, take(ROWS, n, i))
        taken = np.zeros_like(ROWS)
        take(taken, n, i)[...] = 1
        np.testing.assert_allclose(once, 3 * taken * ROWS**2)
        np.testing.assert_allclose(twice, 6 * taken * ROWS)


@pytest.mark.parametrize(
    ("take", "shape"),
    [
        (lambda x, i: x[i * 4 : (i + 1) * 4], (4, 3)),
        (lambda x, i: x[4 * i : 4 + i * 4], (4, 3)),
        (lambda x, i: x[i - 2 : i], (2, 3)),
        (lambda x, i: x[i : i + 5 : 2], (3, 3)),
        (lambda x, i: x[i + 5 : i : -1], (5, 3)),
        (lambda x, i: x[ksym.cast(i, "int64") : 2 - (-i)], (2, 3)),
        (lambda x, i: x[:, i : i + 2], (None, 2)),
        (lambda x, i: x[i : i * 2], (None, 3)),
        (lambda x, i: x[i:i], (None, 3)),
        (lambda x, i: x[i:], (None, 3)),
    ],
)
def test_the_length_of_a_slice_is_static_where_its_bounds_are_a_constant_apart(take, shape):
    assert take(X, AT).shape == shape


@both_modes
def test_a_slice_of_static_length_that_does_not_fit_is_refused(mode):
    f = ksym.function([X, AT], ksym.sum(X[AT : AT + 4], axis=0), mode=mode)
    for start in (7, 10, -1, -3):
        with pytest.raises(ShapeError, match="takes 4") as caught:
            f(ROWS, start)
        assert "test_dynamic.py" in str(caught.value)
    np.testing.assert_array_equal(f(ROWS, 6), ROWS[6:].sum(0))
    # The remedy of the message:
    side = ksym.cast(ksym.shape_of(X)[0], "int32")
    g = ksym.function([X, AT], X[AT : ksym.minimum(AT + 4, side)], mode=mode)
    for start in (6, 7, 10):
        np.testing.assert_array_equal(g(ROWS, start), ROWS[start:])
    with pytest.raises(ShapeError, match="longer than an axis of 3"):
        f(ROWS[:3], 0)
    with pytest.raises(ShapeError, match="longer than an axis of 3"):
        X[:, AT : AT + 4]


def test_batches_by_their_number_are_compiled_once():
    data = ksym.Variable(ROWS)
    i = ksym.placeholder((), "int64")
    w = ksym.Variable(np.zeros(3), "float32")
    batch = data[i * 2 : (i + 1) * 2]
    loss = ksym.sum((batch @ w - 1.0) ** 2)
    step = ksym.function([i], loss, updates=[w.assign_sub(1e-4 * ksym.gradients(loss, w))])
    expected = np.zeros(3)
    for number in [*range(5), *range(5)]:
        part = ROWS[2 * number : 2 * number + 2]
        error = part @ expected - 1
        np.testing.assert_allclose(step(number), (error**2).sum(), rtol=1e-4)
        expected = expected - 2e-4 * error @ part
        np.testing.assert_allclose(w.get_value(), expected, rtol=1e-4)
    assert step.cache_info().kept == 1
    assert step.last_plan().rest is None


LENGTHS = {
    "arange": (lambda x, n: ksym.cast(ksym.arange(n), "float32"), lambda x, n: np.arange(n)),
    "arange from": (
        lambda x, n: x[0, 1] * ksym.cast(ksym.arange(1, n + 1, 2), "float32"),
        lambda x, n: x[0, 1] * np.arange(1, n + 1, 2),
    ),
    "tile": (lambda x, n: ksym.tile(x, [n, 1]), lambda x, n: np.tile(x, [n, 1])),
    "repeat": (lambda x, n: ksym.repeat(x, n, 1), lambda x, n: np.repeat(x, n, 1)),
    "eye": (lambda x, n: ksym.eye(n) * x[0, 1], lambda x, n: np.eye(n) * x[0, 1]),
    "one_hot": (
        lambda x, n: ksym.one_hot([0, 2], n) * x[0, 1],
        lambda x, n: np.eye(max(n, 3))[[0, 2]][:, :n] * x[0, 1],
    ),
    "zeros": (lambda x, n: ksym.zeros((n, 3)) + x[0], lambda x, n: np.zeros((n, 3)) + x[0]),
    "broadcast_to": (
        lambda x, n: ksym.broadcast_to(x[1], (n, 3)),
        lambda x, n: np.broadcast_to(x[1], (n, 3)),
    ),
    "a scan": (
        lambda x, n: ksym.scan(lambda s: (s, s + x[1]), states=x[0], steps=n).outputs,
        lambda x, n: x[0] + np.arange(n)[:, None] * x[1],
    ),
    "a scan backwards": (
        lambda x, n: ksym.scan(lambda s: (s, s + x[1]), states=x[0], steps=n, reverse=True).outputs,
        lambda x, n: x[0] + np.arange(n)[::-1, None] * x[1],
    ),
    "the state of a scan": (
        lambda x, n: ksym.scan(lambda s: ((), s * 0.5), states=x[1], steps=n).states,
        lambda x, n: x[1] * 0.5**n,
    ),
    "a scan of a part": (
        lambda x, n: ksym.scan(lambda e, s: (s + e, s + e), x[:n], ksym.zeros((3,))).outputs,
        lambda x, n: x[:n].cumsum(0),
    ),
    "a scan with checkpoints": (
        lambda x, n: (
            ksym.scan(lambda s: (s, s + x[1]), states=x[0], steps=n, checkpoint_every=2).outputs
        ),
        lambda x, n: x[0] + np.arange(n)[:, None] * x[1],
    ),
    "inside of a loop": (
        lambda x, n: ksym.map_fn(lambda e: ksym.sum(x[:n], 0) * e, x),
        lambda x, n: x[:n].sum(0) * x,
    ),
    "lengths of a loop's own": (
        lambda x, n: ksym.map_fn(lambda k: ksym.sum(x[:k], 0), ksym.arange(4)) + n,
        lambda x, n: np.array([x[:k].sum(0) for k in range(4)]) + n,
    ),
    "windows of a loop's own": (
        lambda x, n: ksym.map_fn(lambda k: x[k : k + 2], ksym.arange(4)),
        lambda x, n: np.array([x[k : k + 2] for k in range(4)]),
    ),
    "a branch": (
        lambda x, n: ksym.cond(n > 3, lambda: ksym.sum(x[:n], 0), lambda: x[n]),
        lambda x, n: x[:n].sum(0) if n > 3 else x[n],
    ),
    "a result computed from data": (
        lambda x, n: x[: ksym.cast(ksym.floor(ksym.cast(n, "float32") / 2.0), "int32")],
        lambda x, n: x[: n // 2],
    ),
}


@pytest.mark.parametrize("case", LENGTHS)
@pytest.mark.parametrize("options", [{}, {"mode": "interpret"}, {"flags": "fuse_loops=0,check=1"}])
def test_lengths_that_a_call_gives(case, options):
    build, meaning = LENGTHS[case]
    y = build(X, N)
    gradient = ksym.gradients(ksym.sum(y * y), X, disconnected="zero")
    f = ksym.function([X, N], [y, gradient], **options)
    small = (ROWS + 1) / 30
    for n in (3, 5, 0, 1, 3):
        value, slope = f(small, n)
        expected = meaning(small, n)
        assert value.shape == expected.shape
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        direction = np.cos(np.arange(30)).reshape(10, 3).astype("float32")
        ahead, behind = (
            float((np.asarray(f(small + h * direction, n)[0], "float64") ** 2).sum())
            for h in (0.01, -0.01)
        )
        np.testing.assert_allclose(
            (slope * direction).sum(), (ahead - behind) / 0.02, rtol=2e-2, atol=2e-2
        )


def test_a_number_of_steps_that_is_negative_or_larger_than_a_sequence_is_refused():
    y = ksym.scan(lambda e: (e * 2.0, ()), X, steps=N).outputs
    f = ksym.function([X, N], y)
    np.testing.assert_array_equal(f(ROWS, 10), ROWS * 2)
    with pytest.raises(ShapeError, match="scan"):
        f(ROWS, 11)
    g = ksym.function([N], ksym.scan(lambda s: (s, s + 1.0), states=0.0, steps=N).states)
    with pytest.raises(ShapeError, match="there cannot be -1 steps"):
        g(-1)
    assert g(4) == 4.0


def test_a_variable_as_a_length_and_its_update():
    n = ksym.Variable(2, "int64")
    f = ksym.function([X], X[:n], updates=[n.assign_add(1)])
    assert [len(f(ROWS)) for _ in range(4)] == [2, 3, 4, 5]
    assert n.get_value() == 6
