"""Sums of many float16: they are added up in float32, and rounded once."""

import numpy as np
import pytest
from modes import MODES, value_and_gradient

import ksym

in_every_mode = pytest.mark.parametrize("options", MODES.values(), ids=MODES)
CLASSES = 10_000
FIRST = np.eye(1, CLASSES, dtype="float16")

OF_EQUALS = {  # of that many equal elements: an element of the value, one of the gradient
    "softmax": (ksym.softmax, 1e-4, 0.0),
    "logsumexp": (ksym.logsumexp, np.log(CLASSES), 1e-4),
    "sparse_softmax_cross_entropy": (
        lambda x: ksym.sparse_softmax_cross_entropy(ksym.constant(np.array([0])), x),
        np.log(CLASSES),
        1e-4,
    ),
    "softmax_cross_entropy": (
        lambda x: ksym.softmax_cross_entropy(ksym.constant(FIRST), x),
        np.log(CLASSES),
        1e-4,
    ),
    "sum": (ksym.sum, 0.0, 1.0),
    "mean": (lambda x: ksym.mean(x + 60_000.0), 60_000.0, 1e-4),
    "nanmean": (lambda x: ksym.nanmean(x + 60_000.0), 60_000.0, 1e-4),
    "sum of ones": (lambda x: ksym.sum(x + 1.0), CLASSES, 1.0),
    "cumsum": (lambda x: ksym.cumsum(x + 1.0, 1), CLASSES, 1.0),
    "average_pool": (
        lambda x: ksym.average_pool(ksym.reshape(x + 60_000.0, (1, 1, -1)), CLASSES),
        60_000.0,
        1e-4,
    ),
    "norm": (lambda x: ksym.norm(x + 300.0), 300.0 * np.sqrt(CLASSES), 0.01),
    "matmul": (lambda x: (x + 1.0) @ ksym.ones((CLASSES, 1), "float16"), CLASSES, 1.0),
}


@in_every_mode
@pytest.mark.parametrize("name", OF_EQUALS)
def test_many_equal_elements(name, options):
    build, value, slope = OF_EQUALS[name]
    found = value_and_gradient(build, np.zeros((1, CLASSES)), "float16", options)
    assert [a.dtype for a in found] == ["float16", "float16"]
    assert found[0].flat[-1] == pytest.approx(value, rel=2e-3, abs=1e-6)
    assert found[1].flat[-1] == pytest.approx(slope, rel=2e-3, abs=1e-6)


@in_every_mode
def test_a_softmax_adds_up_to_one_and_its_logarithm_has_a_gradient(options):
    x = np.zeros((1, CLASSES))
    assert value_and_gradient(ksym.softmax, x, "float16", options)[0].sum(
        dtype="float32"
    ) == pytest.approx(1.0, abs=1e-3)
    value, slope = value_and_gradient(lambda x: ksym.log_softmax(x)[:, :1], x, "float16", options)
    assert value == pytest.approx(-np.log(CLASSES), rel=1e-3)
    assert slope[0, 0] == pytest.approx(1.0)
    assert slope[0, 1] == pytest.approx(-1e-4, rel=2e-3)


@in_every_mode
@pytest.mark.parametrize("name", ["var", "std", "moments", "nanvar"])
def test_squares_that_float16_does_not_hold(name, options):
    x = np.array([1000.0, -1000.0, 1000.5, -1000.5], "float16")
    operand = ksym.placeholder(x.shape, "float16")
    y = getattr(ksym, name)(operand * 0.25) if name != "std" else ksym.std(operand)
    y = y if isinstance(y, tuple) else (y,)
    found = ksym.function([operand], y, **options)(x)
    wide = x.astype("float64")
    meant = {"std": [wide.std()], "moments": [0.0, (wide / 4).var()]}.get(name, [(wide / 4).var()])
    np.testing.assert_allclose(found, meant, rtol=1e-3)


@in_every_mode
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_normalisation_of_large_numbers_and_its_gradient(name, options):
    x = np.array([[1000.0, -1000.0, 3000.0, 500.0]])
    vectors = [np.ones(4, "float16"), np.zeros(4, "float16")][: 2 if name == "layer_norm" else 1]
    by_dtype = [
        value_and_gradient(
            lambda x, dtype=dtype: (
                getattr(ksym, name)(x, *(v.astype(dtype) for v in vectors)) * np.arange(4.0)
            ),
            x,
            dtype,
            options,
        )
        for dtype in ("float16", "float64")
    ]
    for a, b in zip(*by_dtype, strict=True):
        np.testing.assert_allclose(a, b, rtol=3e-3, atol=2e-4)


def test_nothing_is_printed(capfd):
    x = ksym.placeholder((2, 3), "float16")
    for options in MODES.values():
        outputs = [ksym.softmax(x), ksym.log_softmax(x), ksym.norm(x), ksym.mean(x)]
        ksym.function([x], outputs, **options)(np.ones((2, 3)))
    assert capfd.readouterr() == ("", "")
