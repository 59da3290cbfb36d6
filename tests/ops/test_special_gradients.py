"""NaN, infinities and gradients that are infinite, in every mode; TensorFlow is the reference."""

import numpy as np
import pytest
from modes import MODES, value_and_gradient

import ksym

nan, inf = np.nan, np.inf
FLOATS = ("float16", "float32", "float64")

in_every_mode = pytest.mark.parametrize("options", MODES.values(), ids=MODES)
of_every_float = pytest.mark.parametrize("dtype", FLOATS)


def assert_equals(found, expected, dtype):
    bound = {"float16": 2e-3, "float32": 1e-5, "float64": 1e-12}[dtype]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, np.asarray(b, dtype), rtol=bound, atol=bound)


# --- gradients that are infinite ------------------------------------------------------------------

AT = [-1, 0, 4, -inf]
ROOTS = {  # of which the root's gradient is infinite at 0, and what arrives at x
    "maximum": (lambda x: ksym.maximum(x, 0.0), [0, inf, 0.25, 0]),
    "maximum, exchanged": (lambda x: ksym.maximum(0.0, x), [0, 0, 0.25, 0]),
    "maximum of tensors": (lambda x: ksym.maximum(x, ksym.zeros_like(x)), [0, inf, 0.25, 0]),
    "fmax": (lambda x: ksym.fmax(x, 0.0), [0, inf, 0.25, 0]),
    "minimum": (lambda x: 0.0 - ksym.minimum(-x, 0.0), [0, inf, 0.25, 0]),
    "fmin": (lambda x: 0.0 - ksym.fmin(-x, 0.0), [0, inf, 0.25, 0]),
    "clip": (lambda x: ksym.clip(x, 0.0, 9.0), [0, inf, 0.25, 0]),
    "relu": (ksym.relu, [0, 0, 0.25, 0]),
    "relu6": (ksym.relu6, [0, 0, 0.25, 0]),
    "hard_tanh": (lambda x: ksym.hard_tanh(x - 4.0) + 1.0, [0, 0, 0.5, 0]),
    "where": (lambda x: ksym.where(x > 0.0, x, 0.0), [0, 0, 0.25, 0]),
}


@in_every_mode
@of_every_float
@pytest.mark.parametrize("name", ROOTS)
def test_gradients_are_selected_not_multiplied_by_a_mask(name, dtype, options):
    build, slope = ROOTS[name]
    found = value_and_gradient(lambda x: ksym.sqrt(build(x)), AT, dtype, options)[1]
    assert_equals([found], [slope], dtype)


CHOICES = {  # which element an infinite gradient arrives at
    "max": (lambda x: ksym.max(x), [-1, 0, -3], [0, inf, 0]),
    "min": (lambda x: 0.0 - ksym.min(x), [1, 0, 3], [0, -inf, 0]),
    "max along an axis": (lambda x: ksym.max(x, 1), [[-1, 0], [4, 1]], [[0, inf], [0.25, 0]]),
    "cummax": (lambda x: ksym.cummax(x), [0, -1, -2, 4], [inf, 0, 0, 0.25]),
    "cummin": (lambda x: 0.0 - ksym.cummin(x), [0, 1, 2, -4], [-inf, 0, 0, -0.25]),
    "sort": (lambda x: ksym.sort(x), [4, 0, 1], [0.25, inf, 0.5]),
    "top_k": (lambda x: ksym.top_k(x, 2)[0], [4, 0, -1], [0.25, inf, 0]),
    "max_pool": (lambda x: ksym.max_pool(x, 2), [[[0, -1, 4, 2]]], [[[inf, 0, 0.25, 0]]]),
    "global_max_pool": (ksym.global_max_pool, [[[0, -1]]], [[[inf, 0]]]),
}


@in_every_mode
@of_every_float
@pytest.mark.parametrize("name", CHOICES)
def test_an_infinite_gradient_arrives_at_what_was_chosen_only(name, dtype, options):
    build, x, slope = CHOICES[name]
    found = value_and_gradient(lambda x: ksym.sqrt(build(x)), x, dtype, options)[1]
    assert_equals([found], [slope], dtype)


@in_every_mode
def test_the_second_gradient_of_a_pooling_selects_too(options):
    x = ksym.placeholder((1, 1, 4))
    seed = ksym.placeholder((1, 1, 2))
    (first,) = ksym.gradients([ksym.max_pool(x, 2)], [x], output_gradients=[seed])
    direction = ksym.placeholder((1, 1, 4))
    second = ksym.gradients(first, seed, output_gradients=direction)
    f = ksym.function([x, seed, direction], second, **options)
    assert f([[[1, 2, 4, 3]]], [[[1, 1]]], [[[inf, 5, 7, nan]]]).tolist() == [[[5, 7]]]


@in_every_mode
def test_the_power_of_a_base_that_is_not_positive_has_no_gradient_by_the_exponent(options):
    y = ksym.placeholder((3,))
    slope = ksym.gradients(ksym.sum(ksym.power(ksym.constant([0.0, 0.0, -1.0]), y)), y)
    assert ksym.function([y], slope, **options)([2.0, -1.0, 2.0]).tolist() == [0, 0, 0]


@in_every_mode
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners"])
def test_the_nearest_element_is_taken_not_weighed(coordinates, options):
    x = ksym.placeholder((1, 1, 3))
    y = ksym.resize(x, (5,), method="nearest", coordinates=coordinates)
    found = ksym.function([x], y, **options)([[[1.0, inf, 2.0]]])
    assert not np.isnan(found).any()
    assert found[0, 0, 0] == 1.0


# --- NaN ------------------------------------------------------------------------------------------

ACTIVATIONS = {  # at NaN, -1 and 2: values and gradients
    "relu": ([nan, 0, 2], [0, 0, 1]),
    "relu6": ([nan, 0, 2], [0, 0, 1]),
    "leaky_relu": ([nan, -0.2, 2], [0.2, 0.2, 1]),
    "elu": ([nan, np.expm1(-1), 2], [1, np.exp(-1), 1]),
    "selu": (
        [nan, -1.1113307378125625, 2.101401974710961],
        [1.0507009873554805, 0.646768603034814, 1.0507009873554805],
    ),
    "softplus": ([nan, np.log1p(np.exp(-1)), np.log1p(np.exp(2))], None),
    "softsign": ([nan, -0.5, 2 / 3], [nan, 0.25, 1 / 9]),
    "sigmoid": ([nan, 1 / (1 + np.exp(1)), 1 / (1 + np.exp(-2))], None),
    "tanh": ([nan, np.tanh(-1), np.tanh(2)], None),
    "hard_sigmoid": ([nan, 0.3, 0.9], [0, 0.2, 0.2]),
    "abs": ([nan, 1, 2], [nan, -1, 1]),
    "sign": ([nan, -1, 1], [0, 0, 0]),
    "softmax": ([nan, nan, nan], [nan, nan, nan]),
    "log_softmax": ([nan, nan, nan], [nan, nan, nan]),
    "logsumexp": (nan, [nan, nan, nan]),
    "max": (nan, [nan, nan, nan]),
    "min": (nan, [nan, nan, nan]),
}


@in_every_mode
@of_every_float
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_stays_nan(name, dtype, options):
    value, slope = ACTIVATIONS[name]
    found = value_and_gradient(getattr(ksym, name), [nan, -1, 2], dtype, options)
    expected = [value, slope]
    if slope is None:
        assert np.isnan(found[1][0])
        found, expected = found[:1], [value]
    assert_equals(found, expected, dtype)


@in_every_mode
@of_every_float
@pytest.mark.parametrize(
    ("build", "value", "slope"),
    [
        (lambda x: ksym.maximum(x, 0.0), [nan, 0, 2], [0, 0, 1]),
        (lambda x: ksym.maximum(0.0, x), [nan, 0, 2], [1, 0, 1]),
        (lambda x: ksym.minimum(x, 0.0), [nan, -1, 0], [0, 1, 0]),
        (lambda x: ksym.minimum(0.0, x), [nan, -1, 0], [1, 1, 0]),
        (lambda x: ksym.clip(x, -1.0, 1.0), [nan, -1, 1], [0, 1, 0]),
    ],
    ids=["maximum", "maximum, exchanged", "minimum", "minimum, exchanged", "clip"],
)
def test_the_gradient_of_a_bound_at_nan(build, value, slope, dtype, options):
    assert_equals(value_and_gradient(build, [nan, -1, 2], dtype, options), [value, slope], dtype)


@in_every_mode
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_one_nan_among_many_classes_makes_all_of_them_nan(name, axis, options):
    x = np.zeros((3, 40), "float32")
    x[1, 17], x[2, 33] = nan, -inf
    operand = ksym.placeholder(x.shape)
    found = ksym.function([operand], getattr(ksym, name)(operand, axis), **options)(x)
    expected = np.zeros(x.shape, bool)
    expected[(slice(None), 17) if axis == 0 else 1] = True
    np.testing.assert_array_equal(np.isnan(found), expected)


@in_every_mode
@pytest.mark.parametrize("pool", [None, "average_pool", "max_pool"])
@pytest.mark.parametrize("filters", [3, 16])
def test_relu_between_convolutions_keeps_nan(pool, filters, options, rng):
    x = ksym.placeholder((2, 3, 9, 9))
    kernels = [rng.normal(size=s) for s in ((filters, 3, 3, 3), (filters, filters, 3, 3))]
    first = ksym.relu(ksym.convolution(x, ksym.constant(kernels[0].astype("float32"))))
    if pool is not None:
        first = getattr(ksym, pool)(first, 2, 1)
    second = ksym.relu(ksym.convolution(first, ksym.constant(kernels[1].astype("float32"))))
    values = rng.normal(size=(2, 3, 9, 9))
    values[0, 1] = nan  # all windows of the first sample
    values[1, 2, 0, 0] = -inf
    found = ksym.function([x], [first, second], **options)(values)
    if pool == "max_pool":  # passes over NaN, as TensorFlow's
        assert np.isfinite(found[0][0]).all()
        return
    for result in found:
        assert np.isnan(result[0]).all()
        assert (result[1] >= 0).sum() > 0
    assert not np.isnan(found[0][1]).any()


@in_every_mode
def test_a_recurrent_layer_with_relu_keeps_nan(options):
    x, h = ksym.placeholder((4, 2, 1)), ksym.zeros((2, 3))
    kernel, recurrent = ksym.ones((1, 3)), ksym.ones((3, 3))
    y = ksym.simple_rnn(x, h, kernel, recurrent, activation="relu")[0]
    values = np.ones((4, 2, 1))
    values[2, 0] = nan
    found = np.isnan(ksym.function([x], y, **options)(values)).all(-1)
    assert found.tolist() == [[False, False], [False, False], [True, False], [True, False]]
