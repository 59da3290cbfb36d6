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
