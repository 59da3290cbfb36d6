import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ksym
from ksym.errors import GradientError, ShapeError
from ksym.testing import verify_gradient


def curve(x, w):
    """A function of (n,) and (n, 2) with values of shape (2,)."""
    return ksym.tanh(x @ w) * ksym.sum(x) + ksym.square(w[0])


@st.composite
def points(draw):
    n = draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shapes = [(n,), (n, 2)]
    x, w = (ksym.Variable(rng.normal(size=s)) for s in shapes)
    dx, dw = (rng.normal(size=s) for s in shapes)
    return x, w, dx, dw, rng.normal(size=2)


@given(points())
def test_products_jacobians_and_differences_agree(point):
    x, w, dx, dw, u = point
    y = curve(x, w)
    by_x, by_w = ksym.jacobian(y, x), ksym.jacobian(y, w)
    assert by_w.shape == (2, *w.shape)
    pushed = ksym.jvp(y, [x, w], [ksym.constant(dx), ksym.constant(dw)])
    pulled = ksym.vjp(y, [x, w], ksym.constant(u))
    jx, jw, jv, (ux, uw) = (
        *ksym.function([], [by_x, by_w, pushed])(),
        ksym.function([], pulled)(),
    )
    expected = jx @ dx + np.tensordot(jw, dw, 2)
    np.testing.assert_allclose(jv, expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(ux, u @ jx, rtol=1e-9, atol=1e-11)
    # Adjointness: <u, J v> = <J^T u, v>.
    assert u @ jv == pytest.approx(ux @ dx + (uw * dw).sum(), rel=1e-9, abs=1e-11)
    t = 1e-5
    f = ksym.function([x, w], y)
    a, b = x.get_value(), w.get_value()
    difference = (f(a + t * dx, b + t * dw) - f(a - t * dx, b - t * dw)) / (2 * t)
    np.testing.assert_allclose(jv, difference, rtol=1e-5, atol=1e-6)


@given(points())
def test_the_hessian_is_symmetric_and_gives_the_products(point):
    _, w, _, dw, _ = point
    loss = ksym.sum(curve(point[0], w))
    h = ksym.hessian(loss, w)
    product = ksym.hessian_vector_product(loss, w, ksym.constant(dw))
    forward = ksym.jvp(ksym.gradients(loss, w), w, ksym.constant(dw))
    full, hv, rv = ksym.function([], [h, product, forward])()
    n = dw.size
    np.testing.assert_allclose(full.reshape(n, n), full.reshape(n, n).T, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(hv, np.tensordot(full, dw, 2), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(hv, rv, rtol=1e-9, atol=1e-11)


def test_derivatives_have_derivatives(rng):
    v = rng.normal(size=3)
    build = lambda x: ksym.jvp(ksym.sin(x) * x, x, ksym.constant(v))  # noqa: E731
    verify_gradient(build, [rng.normal(size=3)])
    verify_gradient(lambda x: ksym.jacobian(ksym.exp(x[:2]), x), [rng.normal(size=3)])


def test_several_outputs_and_unknown_sizes():
    x = ksym.placeholder((None,), "float64")
    v = ksym.placeholder((None,), "float64")
    a, b = ksym.jvp([x * x, ksym.sum(x)], x, v)
    one, two = ksym.function([x, v], [a, b])([1.0, 2.0], [1.0, 10.0])
    assert one.tolist() == [2, 40]
    assert two == 11


def test_theanos_names_take_its_arguments():
    x = ksym.Variable(np.array([1.0, 2.0]))
    v = ksym.constant(np.array([3.0, 4.0]))
    assert ksym.evaluate(ksym.Rop(x * x, x, v)).tolist() == [6, 16]
    assert ksym.evaluate(ksym.Lop(x * x, x, v)).tolist() == [6, 16]


def test_what_does_not_depend_has_the_derivative_zero():
    x, y = ksym.Variable([1.0, 2.0]), ksym.Variable([1.0, 2.0, 3.0])
    assert not ksym.evaluate(ksym.jacobian(y, x)).any()
    assert ksym.evaluate(ksym.jvp(y, x, ksym.constant([1.0, 1.0]))).tolist() == [0, 0, 0]
    assert ksym.jacobian(y[:0], x).shape == (0, 2)


def test_what_has_no_meaning_is_refused():
    x = ksym.placeholder((None,))
    with pytest.raises(ShapeError, match="number is not known"):
        ksym.jacobian(x * x, x)
    with pytest.raises(ShapeError, match="of a scalar"):
        ksym.hessian(x, x)
    with pytest.raises(GradientError, match="only floats"):
        ksym.jacobian(ksym.Variable([1]), ksym.Variable([1.0]))
    with pytest.raises(GradientError, match="does not match"):
        ksym.vjp(x * x, x, ksym.constant(1.0))


@pytest.mark.parametrize("cut", ["argmax", "greater", "cast"])
def test_a_cut_is_named(cut):
    x = ksym.Variable([1.0, 2.0])
    build = {
        "argmax": lambda: ksym.argmax(x),
        "greater": lambda: x > 1.5,
        "cast": lambda: ksym.cast(x, "int32"),
    }[cut]
    loss = ksym.sum(ksym.cast(build(), "float32"))
    with pytest.raises(GradientError, match=f"cut at {cut}"):
        ksym.gradients(loss, x)
    assert f"cut at {cut}" in ksym.explain_gradient(loss, x)


# --- does verify_gradient see what is wrong? ---------------------------------------


def slightly_wrong(scale, share):
    """A function whose gradient is off by a share of it."""
    return lambda x: scale * (x * x * x + share * (x * x - ksym.stop_gradient(x * x)))


def wrong_second(scale):
    """A function whose first gradient is right and whose second is half of what it should be."""
    return lambda x: scale * (2.0 * ksym.stop_gradient(x) * x - ksym.stop_gradient(x * x))


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_wrong_gradients_are_seen_at_any_scale(scale):
    point = [np.array([0.7, 1.3, 0.9])]
    verify_gradient(slightly_wrong(scale, 0.0), point)
    with pytest.raises(GradientError, match=r"order 1 by operand 0.*difference quotient"):
        verify_gradient(slightly_wrong(scale, 1e-4), point, order=1)
    with pytest.raises(GradientError, match="order 2"):
        verify_gradient(wrong_second(scale), point)


def test_the_operand_with_the_wrong_gradient_is_named():
    with pytest.raises(GradientError, match=r"operand 1"):
        verify_gradient(lambda x, y: x * x + 1e-8 * ksym.stop_gradient(y) * y, [np.ones(2)] * 2)


def test_a_small_gradient_beside_a_large_value_is_not_lost_in_rounding():
    verify_gradient(lambda x: 1e8 + ksym.sin(x), [np.array([0.3])])
