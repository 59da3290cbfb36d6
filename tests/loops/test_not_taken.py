"""What does not run is not checked: branches that are not taken, loops that take no step."""

import numpy as np
import pytest

import ksym
from ksym.errors import ShapeError

X = ksym.placeholder((None, 3), name="x")
GIVEN = ksym.placeholder((), "bool", name="given")
STATIC = ksym.placeholder((), "bool", name="static", static=True)
SOME = ksym.shape_of(X)[0] > 0
NONE, ONES = np.zeros((0, 3), "float32"), np.arange(1, 7, dtype="float32").reshape(2, 3)

modes = pytest.mark.parametrize(
    "options", [{}, {"mode": "interpret"}, {"flags": "fuse_loops=0,check=1"}]
)

# What is computed where x has rows; its value, and its gradient.
PARTS = {
    "a row": (lambda: X[0], lambda x: x[0], [[1, 1, 1], [0, 0, 0]]),
    "a row by a number": (
        lambda: ksym.take(X, ksym.shape_of(X)[0] - 1, 0),
        lambda x: x[-1],
        [[0, 0, 0], [1, 1, 1]],
    ),
    "a maximum": (lambda: ksym.max(X, axis=0), lambda x: x.max(0), [[0, 0, 0], [1, 1, 1]]),
    "a shape": (lambda: ksym.reshape(X, (2, 3))[1], lambda x: x[1], [[0, 0, 0], [1, 1, 1]]),
    "a window": (
        lambda: ksym.max_pool(ksym.reshape(X, (1, 1, -1)), 4)[0, 0] * ksym.ones((3,)),
        lambda x: np.full(3, x[1, 0]),
        [[0, 0, 0], [3, 0, 0]],
    ),
    "a branch": (
        lambda: ksym.cond(ksym.sum(X[0]) > 0.0, lambda: X[0], lambda: X[1]),
        lambda x: x[0],
        [[1, 1, 1], [0, 0, 0]],
    ),
}


@modes
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("known", ["by shapes", "by a static input", "at the call"])
def test_a_branch_that_is_not_taken(part, known, options):
    build, value, slope = PARTS[part]
    condition = {"by shapes": SOME, "by a static input": STATIC, "at the call": GIVEN}[known]
    y = ksym.cond(condition, build, lambda: ksym.zeros((3,)))
    f = ksym.function([X, GIVEN, STATIC], [y, ksym.gradients(ksym.sum(y), X)], **options)
    found, gradient = f(NONE, False, False)
    assert found.tolist() == [0, 0, 0]
    assert gradient.shape == (0, 3)
    found, gradient = f(ONES, True, True)
    np.testing.assert_array_equal(found, value(ONES))
    np.testing.assert_array_equal(gradient, slope)


@modes
def test_a_branch_that_is_taken_raises_its_error(options):
    y = ksym.cond(GIVEN, lambda: X[0], lambda: ksym.zeros((3,)))
    f = ksym.function([X, GIVEN], y, **options)
    for _ in range(2):
        with pytest.raises(ShapeError, match="index") as caught:
            f(NONE, True)
        assert "test_not_taken.py" in str(caught.value)
    assert f(NONE, False).tolist() == [0, 0, 0]
    assert f(ONES, True).tolist() == [1, 2, 3]


def test_an_output_that_needs_what_is_refused_raises_its_error():
    first = X[0]
    y = ksym.cond(SOME, lambda: first, lambda: ksym.zeros((3,)))
    assert ksym.function([X], y)(NONE).tolist() == [0, 0, 0]
    other = ksym.placeholder((3,))
    by_other = ksym.gradients(ksym.sum(first * other), other)
    for inputs, outputs in (([X], [y, first]), ([X, other], [y, by_other])):
        with pytest.raises(ShapeError, match="axis 0 has size 0"):
            ksym.function(inputs, outputs)(NONE, *[np.ones(3)] * (len(inputs) - 1))


def test_a_gradient_by_a_tensor_without_elements_has_none():
    for loss in (ksym.sum(X[0] ** 2), ksym.sum(ksym.max(X, axis=0))):
        assert ksym.function([X], ksym.gradients(loss, X))(NONE).shape == (0, 3)


@modes
def test_a_guarded_mask(options):
    kept = ksym.boolean_mask(X, X[:, 0] > 2.0)
    inside = ksym.cond(SOME, lambda: ksym.boolean_mask(X, X[:, 0] > 2.0), lambda: X)
    behind = ksym.cond(ksym.shape_of(kept)[0] > 0, lambda: kept[0], lambda: ksym.zeros((3,)))
    loss = ksym.sum(inside**2) + ksym.sum(behind**2)
    f = ksym.function([X], [inside, behind, ksym.gradients(loss, X)], **options)
    for x in (NONE, ONES, ONES * 0, ONES * 3):
        found, first, gradient = f(x)
        rows = x[x[:, 0] > 2]
        np.testing.assert_array_equal(found, rows)
        np.testing.assert_array_equal(first, rows[0] if len(rows) else np.zeros(3))
        expected = 2 * x * (x[:, :1] > 2)
        if len(rows):
            expected[np.flatnonzero(x[:, 0] > 2)[0]] *= 2
        np.testing.assert_array_equal(gradient, expected)


@modes
@pytest.mark.parametrize("always", [True, False])
def test_a_branch_of_a_constant_condition_with_a_size_of_its_own(always, options):
    y = ksym.cond(
        ksym.constant(always), lambda: ksym.boolean_mask(X, X[:, 0] > 2.0), lambda: X[0:1]
    )
    f = ksym.function([X], [y, ksym.gradients(ksym.sum(y**2), X)], **options)
    found, gradient = f(ONES * 3)
    np.testing.assert_array_equal(found, ONES * 3 if always else ONES[:1] * 3)
    np.testing.assert_array_equal(gradient, 6 * ONES * ([[1], [1]] if always else [[1], [0]]))


@modes
def test_loops_that_take_no_step(options):
    n = ksym.placeholder((), "int64")
    over = ksym.scan(lambda e: (e + X[0], ()), X).outputs
    many = ksym.scan(lambda s: (s, s + X[0]), states=ksym.ones((3,)), steps=n)
    until = ksym.while_loop(
        lambda i, s: i < ksym.shape_of(X)[0], lambda i, s: (i + 1, s + X[0]), (0, ksym.ones((3,)))
    )[1]
    slope = ksym.gradients(ksym.sum(over**2), X)
    f = ksym.function([X, n], [over, many.outputs, many.states, until, slope], **options)
    outputs, stacked, state, last, gradient = f(NONE, 0)
    assert outputs.shape == stacked.shape == gradient.shape == (0, 3)
    assert state.tolist() == last.tolist() == [1, 1, 1]
    outputs, stacked, state, last, gradient = f(ONES, 2)
    np.testing.assert_array_equal(outputs, ONES + ONES[0])
    np.testing.assert_array_equal(stacked, [[1, 1, 1], 1 + ONES[0]])
    np.testing.assert_array_equal(state, 1 + 2 * ONES[0])
    np.testing.assert_array_equal(last, state)
    np.testing.assert_array_equal(
        gradient, 2 * (ONES + ONES[0]) + [2 * (ONES + ONES[0]).sum(0), [0, 0, 0]]
    )
    with pytest.raises(ShapeError, match="axis 0 has size 0"):
        f(NONE, 1)


# Of all rows, and made outside of what does not run; without rows there is none.
WHOLES = {
    "a maximum": lambda x: ksym.max(x, axis=0),
    "of everything": lambda x: ksym.min(x),
    "a product": lambda x: ksym.prod(x, axis=0) * x[-1],
    "a median": lambda x: ksym.median(x, axis=0),
    "logsumexp": lambda x: ksym.logsumexp(x, axis=0),
    "a number": lambda x: ksym.sum(ksym.max(x, axis=0) * x[0]),
    "the largest of a row": lambda x: ksym.top_k(ksym.transpose(x), 1)[0][:, 0],
    "a root": lambda x: ksym.sqrt(ksym.maximum(ksym.max(x, axis=0), 0.0)),
}


@modes
@pytest.mark.parametrize("whole", WHOLES)
def test_the_gradient_by_way_of_a_tensor_from_outside(whole, options):
    n = ksym.placeholder((), "int64")
    y = WHOLES[whole](X)
    one = ksym.ones((3,))
    rows = ksym.map_fn(lambda row: row * y, X)
    steps = ksym.scan(lambda s: (s, s * y), states=one, steps=n).states
    until = ksym.while_loop(
        lambda i, s: i < ksym.shape_of(X)[0], lambda i, s: (i + 1, s * y), (0, one)
    )[1]
    taken = ksym.cond(SOME, lambda: y * X[0], lambda: ksym.zeros((3,)))
    found = [rows, steps, taken, until]
    slopes = [ksym.gradients(ksym.sum(t), X) for t in found]
    f = ksym.function([X, n], [*found, *slopes], **options)
    assert [r.shape for r in f(NONE, 0)] == [(0, 3), (3,), (3,), (3,), *[(0, 3)] * 4]
    direct = [X * y, y * y * one, y * X[0], y * y * one]
    slopes = [ksym.gradients(ksym.sum(t), X) for t in direct]
    expected = ksym.function([X], [*direct, *slopes])(ONES)
    for result, value in zip(f(ONES, 2), expected, strict=True):
        np.testing.assert_allclose(result, value, rtol=1e-5)
