"""What the property tests cannot see of quantiles, running extremes, norms and sinc."""

import numpy as np
import pytest

import ksym


def gradient_of(build, value):
    x = ksym.placeholder(value.shape, "float64")
    (g,) = ksym.gradients(build(x), [x])
    return ksym.function([x], g)(value)


def test_sinc_has_all_derivatives_at_zero():
    x = ksym.placeholder((), "float64")
    derivatives = [ksym.sinc(x)]
    for _ in range(4):
        derivatives.append(ksym.gradients(derivatives[-1], [x])[0])
    found = ksym.function([x], derivatives)(0.0)
    expected = [1.0, 0.0, -(np.pi**2) / 3, 0.0, np.pi**4 / 5]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_both_formulas_of_sinc_agree_where_they_meet():
    border = 1.0 / np.pi
    around = np.array([border * (1 - 1e-9), border * (1 + 1e-9)])
    for build in (ksym.sinc, lambda x: ksym.gradients(ksym.sinc(x), [x])[0]):
        inside, outside = gradient_of(build, around)
        assert abs(inside - outside) < 1e-7


def test_sinc_has_no_gradient_that_is_nan_far_away():
    assert np.isfinite(gradient_of(ksym.sinc, np.array([0.0, 1e200, -1e30, 3.0]))).all()


def test_the_gradient_of_a_running_maximum_goes_to_its_first_place():
    x = np.array([1.0, 3.0, 3.0, 2.0, 4.0])
    found = gradient_of(lambda x: ksym.cummax(x) * np.array([1.0, 2.0, 4.0, 8.0, 16.0]), x)
    np.testing.assert_array_equal(found, [1.0, 14.0, 0.0, 0.0, 16.0])
    found = gradient_of(lambda x: ksym.cummin(x) * np.array([1.0, 2.0, 4.0, 8.0, 16.0]), -x)
    np.testing.assert_array_equal(found, [1.0, 14.0, 0.0, 0.0, 16.0])


def test_running_extremes_pass_nan_on_and_take_infinities():
    x = np.array([-np.inf, 1.0, np.nan, 2.0])
    for build, expected in ((ksym.cummax, np.maximum), (ksym.cummin, np.minimum)):
        np.testing.assert_array_equal(ksym.evaluate(build(x)), expected.accumulate(x))


def test_quantiles_of_nan_are_nan():
    x = np.array([[1.0, np.nan, 3.0], [1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(ksym.evaluate(ksym.median(x, axis=1)), [np.nan, 2.0])
    np.testing.assert_array_equal(ksym.evaluate(ksym.nanmax(x * np.nan, axis=1)), [np.nan] * 2)


@pytest.mark.parametrize("q", [-0.1, 1.5, np.nan, [[0.5]]])
def test_quantiles_are_at_numbers_from_0_to_1(q):
    with pytest.raises(ksym.ShapeError, match="from 0 to 1"):
        ksym.quantile(np.arange(3.0), q)


@pytest.mark.parametrize("q", [0.5, ()])
@pytest.mark.parametrize("shape", [(0, 2), (None, None)])
def test_quantiles_of_nothing_are_refused(shape, q):
    x = ksym.placeholder(shape)
    with pytest.raises(ksym.ShapeError, match=r"^quantile\b.*(without|no) elements"):
        ksym.function([x], ksym.quantile(x, q, axis=0))(np.zeros((0, 2), "float32"))


def test_a_single_group_is_the_whole_sample(rng):
    x = rng.standard_normal((2, 3, 4))
    gamma, beta = rng.standard_normal((2, 3))
    groups = ksym.evaluate(ksym.group_norm(x, gamma, beta, 1))
    plain = ksym.evaluate(ksym.layer_norm(x, np.ones((3, 4)), np.zeros((3, 4)), (1, 2)))
    np.testing.assert_allclose(groups, plain * gamma[:, None] + beta[:, None], rtol=1e-9)
    single = ksym.evaluate(ksym.group_norm(x, gamma, beta, 3))
    np.testing.assert_allclose(ksym.evaluate(ksym.instance_norm(x, gamma, beta)), single, rtol=1e-9)


@pytest.mark.parametrize("rank", [4, 5])
def test_kron_of_many_axes(rank, rng):
    a, b = (rng.standard_normal((2, 3, 1, 2, 2)[:rank]) for _ in range(2))
    np.testing.assert_allclose(ksym.evaluate(ksym.kron(a, b)), np.kron(a, b), rtol=1e-12)
