"""Special values, wrapping and dtypes: what NumPy gives is what ksym gives, bit for bit of kind."""

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest

import ksym
from ksym import dtypes
from ksym.errors import DTypeError

SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0]
INTEGERS = [0, 1, -1, 3, -5, 7, -128, 127]
FLOATS = ("float64", "float32", "float16")
WHOLE = ("int8", "uint8", "int32", "int64")

UNARY = [
    "abs", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctanh", "cbrt", "ceil", "cosh",
    "exp", "exp2", "expm1", "floor", "isfinite", "isinf", "isnan", "log", "log10", "log1p", "log2",
    "negative", "positive", "reciprocal", "sign", "sinh", "sqrt", "square", "tanh", "trunc",
    "degrees", "radians", "nan_to_num",
]  # fmt: skip
BINARY = [
    "add", "arctan2", "equal", "floor_divide", "fmax", "fmin", "fmod", "greater", "greater_equal",
    "heaviside", "hypot", "isclose", "less", "less_equal", "logaddexp", "logaddexp2", "maximum",
    "minimum", "mod", "multiply", "not_equal", "power", "subtract", "true_divide",
]  # fmt: skip
WHOLE_BINARY = [
    "add", "bitwise_and", "bitwise_or", "bitwise_xor", "equal", "floor_divide", "fmod", "less",
    "maximum", "minimum", "mod", "multiply", "subtract",
]  # fmt: skip


def compute(name, *arrays):
    tensors = [ksym.placeholder(a.shape, a.dtype) for a in arrays]
    return ksym.function(tensors, getattr(ksym, name)(*tensors))(*arrays)


def meant(name, *arrays):
    with np.errstate(all="ignore"):
        return np.asarray(getattr(np, name)(*arrays))


def pairs(values):
    return [np.array(side) for side in zip(*itertools.product(values, repeat=2), strict=True)]


def whole(dtype):
    limits = np.iinfo(dtype)
    numbers = {n for n in INTEGERS if limits.min <= n <= limits.max}
    if limits.bits == 64:
        numbers.add(2**62 + 1)
    return np.array(sorted(numbers | {limits.min, limits.max}), dtype)


def assert_same(found, expected, dtype):
    bound = {"float64": 1e-12, "float32": 2e-6, "float16": 2e-3}.get(dtype, 0)
    np.testing.assert_allclose(found, expected, rtol=bound, atol=bound)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_special_values_of_one_operand(name, dtype):
    x = np.array(SPECIAL, dtype)
    assert_same(compute(name, x), meant(name, x), dtype)
    assert_same(compute(name, x[8]), meant(name, x[8]), dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", BINARY)
def test_special_values_of_two_operands(name, dtype):
    x, y = (side.astype(dtype) for side in pairs(SPECIAL))
    assert_same(compute(name, x, y), meant(name, x, y), dtype)


@pytest.mark.parametrize("dtype", WHOLE)
@pytest.mark.parametrize("name", WHOLE_BINARY)
def test_integers_wrap_and_divide_by_zero(name, dtype):
    x, y = (side.astype(dtype) for side in pairs(whole(dtype)))
    np.testing.assert_array_equal(compute(name, x, y), meant(name, x, y))


@pytest.mark.parametrize("dtype", WHOLE)
@pytest.mark.parametrize("name", ["left_shift", "right_shift"])
def test_shifts_by_any_number_of_places(name, dtype):
    x = whole(dtype)
    places = np.arange(0, 72, 5).astype(dtype)
    x, y = (a.ravel() for a in np.meshgrid(x, places))
    np.testing.assert_array_equal(compute(name, x, y), meant(name, x, y))


@pytest.mark.parametrize("dtype", WHOLE)
def test_powers_of_integers_wrap(dtype):
    x, y = (a.ravel() for a in np.meshgrid(whole(dtype), np.array([0, 1, 2, 5, 40, 63], dtype)))
    np.testing.assert_array_equal(compute("power", x, y), meant("power", x, y))


@pytest.mark.parametrize("mode", ["native", "interpret"])
@pytest.mark.parametrize("dtype", WHOLE)
def test_products_of_matrices_of_integers_wrap(dtype, mode, rng):
    limits = np.iinfo(dtype)
    a, b = (
        rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        for shape in ((2, 3, 4), (4, 3))
    )
    x, y = (ksym.placeholder(array.shape, dtype) for array in (a, b))
    outputs = {
        "matmul": ksym.matmul(x, y),
        "dot": ksym.dot(x, y[:, 0]),
        "tensordot": ksym.tensordot(x, y, ((2, 1), (0, 1))),
        "einsum": ksym.einsum("bij,jk,jk->ki", x, y, y),
        "power": ksym.matrix_power(x[:, :, :3], 3),
    }
    found = ksym.function([x, y], list(outputs.values()), mode=mode)(a, b)
    expected = [
        np.matmul(a, b),
        np.dot(a, b[:, 0]),
        np.tensordot(a, b, ((2, 1), (0, 1))),
        np.einsum("bij,jk,jk->ki", a, b, b),
        np.linalg.matrix_power(a[:, :, :3], 3),
    ]
    for name, result, meant in zip(outputs, found, expected, strict=True):
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, meant, err_msg=name)


def test_negative_powers_of_integers():
    x = ksym.placeholder((3,), "int32")
    with pytest.raises(DTypeError, match="negative powers"):
        _ = x ** (-1)
    found = compute("power", np.array([1, -1, 2], "int32"), np.array([-3, -3, -3], "int32"))
    np.testing.assert_array_equal(found, [1, -1, 0])


def test_halves_are_rounded_to_even():
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 3.5, np.inf, np.nan])
    np.testing.assert_array_equal(compute("round", x), np.rint(x))


def test_signs_of_zero():
    x = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf])
    np.testing.assert_array_equal(compute("signbit", x), np.signbit(x))
    x, y = pairs(x)
    found, expected = compute("copysign", x, y), np.copysign(x, y)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))
    np.testing.assert_array_equal(found, expected)


def test_python_floats_are_not_rounded_on_their_way_to_float64():
    x = ksym.placeholder((), "float64")
    found = ksym.function([x], [x * 0.1, x + ksym.constant(0.1, "float64")])(1.0)
    assert [float(value) for value in found] == [0.1, 1.1]


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (3,)])
def test_arithmetic_of_booleans(shape):
    a = np.resize(np.array([True, False, True]), shape)
    b = np.resize(np.array([True, True, False]), shape)
    x, y = ksym.placeholder(shape, "bool"), ksym.placeholder(shape, "bool")
    with pytest.raises(DTypeError, match="subtract"):
        _ = x - y
    with pytest.raises(DTypeError, match="no sign"):
        _ = -x
    results = [x + y, x * y, x / y, x & y, x | y, x ^ y, ~x, x + True, x << y, x % y, x**y]
    with np.errstate(all="ignore"):
        expected = [a + b, a * b, a / b, a & b, a | b, a ^ b, ~a, a + True, a << b, a % b, a**b]
    for found, wanted in zip(ksym.function([x, y], results)(a, b), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == wanted.dtype


def test_operators_on_bits():
    a, b = np.array([6, -7, 0], "int32"), np.array([3, 2, 5], "int32")
    x, y = ksym.placeholder((3,), "int32"), ksym.placeholder((3,), "int32")
    results = [x & y, x | y, x ^ y, ~x, x << y, x >> y, 12 & x, 1 << y, 100 >> y, +x]
    expected = [a & b, a | b, a ^ b, ~a, a << b, a >> b, 12 & a, 1 << b, 100 >> b, a]
    for found, wanted in zip(ksym.function([x, y], results)(a, b), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    with pytest.raises(DTypeError, match="no bits"):
        _ = x & ksym.placeholder((3,))


@pytest.mark.parametrize(
    ("dtype", "number", "result"),
    [
        ("float16", 2, "float16"), ("float16", 0.1, "float16"), ("float32", True, "float32"),
        ("int8", 3, "int8"), ("int8", 0.5, "float64"), ("uint8", True, "uint8"),
        ("bool", 2, "int64"), ("bool", 0.5, "float64"), ("float32", np.float64(0.1), "float32"),
        ("int32", np.array([1.5, 2.5]), "float64"), ("int64", np.array([1], "int8"), "int64"),
    ],
    ids=str,
)  # fmt: skip
def test_constants_give_way_to_tensors(dtype, number, result):
    assert (ksym.placeholder((2,), dtype) + number).dtype == result


def test_the_promotion_table_of_the_docs():
    page = (Path(__file__).parents[2] / "docs" / "semantics.md").read_text()
    rows = re.findall(r"^\| (\w*) \|(.*)\|$", page.split("## ")[1], re.MULTILINE)
    cells = {row: [cell.strip() for cell in rest.split("|")] for row, rest in rows if row}
    assert tuple(cells) == dtypes.SUPPORTED
    for row, found in cells.items():
        assert found == [dtypes.promote(row, column) for column in dtypes.SUPPORTED]


def test_softplus_is_nowhere_negative_and_keeps_nan():
    x = np.concatenate([np.linspace(-120, 10, 4001), [np.nan, np.inf, -np.inf]])
    for dtype in ("float16", "float32", "float64"):
        found = ksym.evaluate(ksym.softplus(ksym.Variable(x.astype(dtype))))
        assert (found[:-3] >= 0).all()
        np.testing.assert_array_equal(found[-3:], [np.nan, np.inf, 0])


@pytest.mark.parametrize("repeats", [(2, 2, 2, 2), (1, 2, 1, 2), (3, 1, 2), (2, 1, 2, 1, 2)])
@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
def test_tiles_of_many_axes(shape, repeats):
    x = np.random.default_rng(0).normal(size=shape)
    found = ksym.evaluate(ksym.tile(ksym.Variable(x), repeats))
    np.testing.assert_array_equal(found, np.tile(x, repeats))


@pytest.mark.parametrize(
    ("dtype", "end", "bound"), [("float64", 26.0, 1e-13), ("float32", 9.0, 1e-6)]
)
def test_what_erfc_leaves_of_one_is_exact_relative_to_its_size(dtype, end, bound):
    points = np.linspace(-3.0, end, 300).astype(dtype)
    x = ksym.placeholder((None,), dtype)
    y = ksym.erfc(x)
    evaluate = ksym.function([x], [y, ksym.gradients(y, x)])
    values, slopes = evaluate(points)
    exact = np.array([math.erfc(p) for p in points.tolist()])
    np.testing.assert_allclose(values, exact, rtol=bound)
    slope = -2.0 / math.sqrt(math.pi) * np.exp(-(points.astype("float64") ** 2))
    np.testing.assert_allclose(slopes, slope, rtol=100 * bound)
    np.testing.assert_array_equal(evaluate([np.inf, -np.inf, np.nan])[0], [0.0, 2.0, np.nan])
