"""Functions of Keras's module numpy that work on each element."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import numpy as np
from keras.src.backend.common.dtypes import result_type

import ksym
from keras_ksym.src import dtypes
from keras_ksym.src.operation import Operand, Operands, named_operation, operation
from keras_ksym.src.tensor import Tensor, as_array, floating, has_tensors, made, promoted, tensor

__all__ = [
    *("abs", "absolute", "add", "angle", "arccos", "arccosh", "arcsin", "arcsinh", "arctan"),
    *("arctan2", "arctanh", "bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_not"),
    *("bitwise_or", "bitwise_right_shift", "bitwise_xor", "cbrt", "ceil", "clip", "conj"),
    *("conjugate", "copy", "cos", "cosh", "deg2rad", "divide", "divide_no_nan", "equal", "exp"),
    *("exp2", "expm1", "fabs", "floor", "floor_divide", "fmax", "fmin", "fmod", "gcd", "greater"),
    *("greater_equal", "heaviside", "hypot", "i0", "imag", "isclose", "isfinite", "isinf"),
    *("isnan", "isneginf", "isposinf", "isreal", "lcm", "ldexp", "left_shift", "less"),
    *("less_equal", "log", "log10", "log1p", "log2", "logaddexp", "logaddexp2", "logical_and"),
    *("logical_not", "logical_or", "logical_xor", "maximum", "minimum", "mod", "multiply"),
    *("nan_to_num", "negative", "nextafter", "not_equal", "power", "rad2deg", "real"),
    *("reciprocal", "right_shift", "round", "select", "sign", "signbit", "sin", "sinc", "sinh"),
    *("sqrt", "square", "subtract", "tan", "tanh", "true_divide", "trunc", "view", "where"),
]

Graph = ksym.Tensor


def _of_floats(name: str, compute: Callable[[Graph], Graph]) -> Callable[..., Any]:
    """Return a function of one tensor that is computed in a float dtype."""

    def body(x: Operand) -> Tensor:
        dtype, graph = floating(x)
        return made(compute(graph), dtype)

    return named_operation(name, f"Return {name} of each element.", body)


def _of_any(
    name: str, compute: Callable[[Graph], Graph], of_bool: str = "bool"
) -> Callable[..., Any]:
    """Return a function of one tensor that keeps the dtype, booleans becoming `of_bool`."""

    def body(x: Operand) -> Tensor:
        dtype = of_bool if x.dtype == "bool" else x.dtype
        return made(compute(x.graph_in(dtype)), dtype)

    return named_operation(name, f"Return {name} of each element, in its dtype.", body)


def _test(name: str, compute: Callable[[Graph], Graph]) -> Callable[..., Any]:
    """Return a function of one tensor whose result is boolean."""

    def body(x: Operand) -> Tensor:
        return Tensor(compute(x.graph), "bool")

    return named_operation(name, f"Return {name} of each element, as booleans.", body)


def _of_two(
    name: str,
    compute: Callable[[Graph, Graph], Graph],
    with_float: bool = False,
    of_bool: str = "bool",
) -> Callable[..., Any]:
    """Return a function of two tensors, computed in their common dtype."""

    def body(x1: Operand, x2: Operand) -> Tensor:
        dtype, (a, b) = promoted(x1, x2, with_float=with_float)
        if dtype == "bool" and of_bool != "bool":
            dtype = of_bool
            a, b = x1.graph_in(dtype), x2.graph_in(dtype)
        return made(compute(a, b), dtype)

    return named_operation(
        name, f"Return {name} of the elements of two tensors, which broadcast.", body
    )


def _comparison(name: str, compute: Callable[[Graph, Graph], Graph]) -> Callable[..., Any]:
    """Return a function of two tensors that compares them in their common dtype."""

    def body(x1: Operand, x2: Operand) -> Tensor:
        _, (a, b) = promoted(x1, x2)
        return Tensor(compute(a, b), "bool")

    return named_operation(
        name, f"Return {name} of the elements of two tensors, which broadcast.", body
    )


def _logical(name: str, compute: Callable[[Graph, Graph], Graph]) -> Callable[..., Any]:
    """Return a function of two tensors, each element of which is true unless it is zero."""

    def body(x1: Operand, x2: Operand) -> Tensor:
        return Tensor(compute(x1.graph_in("bool"), x2.graph_in("bool")), "bool")

    return named_operation(
        name, f"Return {name} of the elements of two tensors, which broadcast.", body
    )


# --- one tensor ----------------------------------------------------------------------------------

arccos = _of_floats("arccos", ksym.arccos)
arccosh = _of_floats("arccosh", ksym.arccosh)
arcsin = _of_floats("arcsin", ksym.arcsin)
arcsinh = _of_floats("arcsinh", ksym.arcsinh)
arctan = _of_floats("arctan", ksym.arctan)
arctanh = _of_floats("arctanh", ksym.arctanh)
cbrt = _of_floats("cbrt", ksym.cbrt)
ceil = _of_floats("ceil", ksym.ceil)
cos = _of_floats("cos", ksym.cos)
cosh = _of_floats("cosh", ksym.cosh)
deg2rad = _of_floats("deg2rad", ksym.radians)
exp = _of_floats("exp", ksym.exp)
exp2 = _of_floats("exp2", ksym.exp2)
expm1 = _of_floats("expm1", ksym.expm1)
fabs = _of_floats("fabs", ksym.abs)
floor = _of_floats("floor", ksym.floor)
log = _of_floats("log", ksym.log)
log10 = _of_floats("log10", ksym.log10)
log1p = _of_floats("log1p", ksym.log1p)
log2 = _of_floats("log2", ksym.log2)
rad2deg = _of_floats("rad2deg", ksym.degrees)
reciprocal = _of_floats("reciprocal", ksym.reciprocal)
sin = _of_floats("sin", ksym.sin)
sinc = _of_floats("sinc", ksym.sinc)
sinh = _of_floats("sinh", ksym.sinh)
sqrt = _of_floats("sqrt", ksym.sqrt)
tan = _of_floats("tan", ksym.tan)
tanh = _of_floats("tanh", ksym.tanh)

absolute = abs = _of_any("absolute", lambda x: x if x.dtype == "bool" else ksym.abs(x))
negative = _of_any("negative", ksym.negative)
square = _of_any("square", ksym.square, of_bool="int32")
sign = _of_any("sign", ksym.sign, of_bool="int32")
copy = _of_any("copy", ksym.copy)
conj = conjugate = real = copy
bitwise_not = bitwise_invert = _of_any(
    "bitwise_not", lambda x: ksym.logical_not(x) if x.dtype == "bool" else ksym.bitwise_not(x)
)
trunc = _of_any("trunc", lambda x: ksym.trunc(x) if dtypes.is_float(x.dtype) else x)

isfinite = _test("isfinite", ksym.isfinite)
isinf = _test("isinf", ksym.isinf)
isnan = _test("isnan", ksym.isnan)
isneginf = _test("isneginf", ksym.isneginf)
isposinf = _test("isposinf", ksym.isposinf)
isreal = _test("isreal", lambda x: ksym.cast(ksym.ones_like(x), "bool"))
signbit = _test("signbit", ksym.signbit)


@operation
def logical_not(x: Operand) -> Tensor:
    """Return where the elements are zero."""
    return Tensor(ksym.logical_not(x.graph_in("bool")), "bool")


@operation
def angle(x: Operand) -> Tensor:
    """Return the angle of real numbers as complex ones: pi of negative numbers, else zero."""
    dtype, graph = floating(x)
    return made(
        ksym.where(graph < 0, np.pi, ksym.where(ksym.isnan(graph), graph, 0.0 * graph)), dtype
    )


@operation
def imag(x: Operand) -> Tensor:
    """Return the imaginary part of real numbers, which is zero."""
    return Tensor(ksym.zeros_like(x.graph), x.dtype)


@operation
def i0(x: Operand) -> Tensor:
    """Return the modified Bessel function of the first kind and order zero."""
    dtype, graph = floating(x)
    size = ksym.abs(graph)
    # Abramowitz and Stegun's polynomials, 9.8.1 and 9.8.2.
    inner = ksym.square(ksym.minimum(size, 3.75) / 3.75)
    outer = 3.75 / ksym.maximum(size, 3.75)
    small = _polynomial(
        inner, (1.0, 3.5156229, 3.0899424, 1.2067492, 0.2659732, 0.0360768, 0.0045813)
    )
    large = _polynomial(
        outer,
        (
            *(0.39894228, 0.01328592, 0.00225319, -0.00157565, 0.00916281),
            *(-0.02057706, 0.02635537, -0.01647633, 0.00392377),
        ),
    )
    far = ksym.maximum(size, 3.75)
    return made(ksym.where(size < 3.75, small, large * ksym.exp(far) / ksym.sqrt(far)), dtype)


def _polynomial(x: Graph, coefficients: tuple[float, ...]) -> Graph:
    """Return a polynomial by Horner's rule, the constant term first."""
    result: Any = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        result = result * x + coefficient
    return result


@operation
def round(x: Operand, decimals: int = 0) -> Tensor:
    """Round to a number of decimals, halves to the even neighbour."""
    if dtypes.is_float(x.dtype):
        return made(ksym.round(x.graph, decimals), x.dtype)
    if decimals >= 0 or x.dtype == "bool":
        return Tensor(x.graph, x.dtype)
    factor = 10.0**-decimals
    scaled = ksym.round(x.graph_in("float64") / factor) * factor
    return made(scaled, x.dtype)


@operation
def nan_to_num(x: Operand, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> Tensor:
    """Replace NaN and infinities by numbers; infinities by the largest of the dtype."""
    if not dtypes.is_float(x.dtype):
        return Tensor(x.graph, x.dtype)
    if x.dtype == "bfloat16":
        largest = float(np.float32(3.3895314e38))
        posinf = largest if posinf is None else posinf
        neginf = -largest if neginf is None else neginf
    return made(ksym.nan_to_num(x.graph, nan=nan, posinf=posinf, neginf=neginf), x.dtype)


@operation
def _symbolic_view(x: Operand, dtype: str) -> Tensor:
    for name in (x.dtype, dtype):
        if dtypes.stored(name) != name:
            raise TypeError(
                f"view of a symbolic tensor as {dtype}: ksym stores {name} in another dtype, whose "
                "bits are others. To do: view values, before the function is traced."
            )
    return Tensor(ksym.bitcast(x.graph, dtype), dtype)


def view(x: Any, dtype: Any = None) -> Any:
    """Return the same bits as numbers of another dtype."""
    if has_tensors(x):
        return _symbolic_view(x, dtypes.as_dtype(dtype or tensor(x).dtype))
    array = as_array(x)
    name = dtypes.as_dtype(dtype or array.dtype)
    dtypes.stored(name)  # refuses what ksym does not have
    return array.view(dtypes.numpy_dtype(name))


# --- two tensors ---------------------------------------------------------------------------------


def _plus(a: Graph, b: Graph) -> Graph:
    return ksym.logical_or(a, b) if a.dtype == "bool" else ksym.add(a, b)


def _times(a: Graph, b: Graph) -> Graph:
    return ksym.logical_and(a, b) if a.dtype == "bool" else ksym.multiply(a, b)


add = _of_two("add", _plus)
subtract = _of_two("subtract", ksym.subtract)
multiply = _of_two("multiply", _times)
true_divide = divide = _of_two("true_divide", ksym.true_divide, with_float=True)
maximum = _of_two("maximum", ksym.maximum)
minimum = _of_two("minimum", ksym.minimum)
fmax = _of_two("fmax", ksym.fmax)
fmin = _of_two("fmin", ksym.fmin)
mod = _of_two("mod", ksym.mod, of_bool="int32")
fmod = _of_two("fmod", ksym.fmod, of_bool="int32")
floor_divide = _of_two("floor_divide", ksym.floor_divide, of_bool="int32")
power = _of_two("power", ksym.power, of_bool="int32")
arctan2 = _of_two("arctan2", ksym.arctan2, with_float=True)
hypot = _of_two("hypot", ksym.hypot, with_float=True)
heaviside = _of_two("heaviside", ksym.heaviside, with_float=True)
logaddexp = _of_two("logaddexp", ksym.logaddexp, with_float=True)
logaddexp2 = _of_two("logaddexp2", ksym.logaddexp2, with_float=True)
gcd = _of_two("gcd", ksym.gcd)
lcm = _of_two("lcm", ksym.lcm)

equal = _comparison("equal", ksym.equal)
not_equal = _comparison("not_equal", ksym.not_equal)
less = _comparison("less", ksym.less)
less_equal = _comparison("less_equal", ksym.less_equal)
greater = _comparison("greater", ksym.greater)
greater_equal = _comparison("greater_equal", ksym.greater_equal)

logical_and = _logical("logical_and", ksym.logical_and)
logical_or = _logical("logical_or", ksym.logical_or)
logical_xor = _logical("logical_xor", ksym.logical_xor)


def _of_bits(
    name: str, compute: Callable[[Graph, Graph], Graph], of_bools: Callable[[Graph, Graph], Graph]
) -> Callable[..., Any]:
    def body(x: Operand, y: Operand) -> Tensor:
        dtype, (a, b) = promoted(x, y)
        return made(of_bools(a, b) if dtype == "bool" else compute(a, b), dtype)

    return named_operation(
        name, f"Return {name} of the elements of two tensors, which broadcast.", body
    )


bitwise_and = _of_bits("bitwise_and", ksym.bitwise_and, ksym.logical_and)
bitwise_or = _of_bits("bitwise_or", ksym.bitwise_or, ksym.logical_or)
bitwise_xor = _of_bits("bitwise_xor", ksym.bitwise_xor, ksym.logical_xor)


def _shift(name: str, compute: Callable[[Graph, Graph], Graph]) -> Callable[..., Any]:
    def body(x: Operand, y: Operand) -> Tensor:
        dtype, (a, b) = promoted(x, y)
        if dtype == "bool":
            dtype = "int32"
            a, b = x.graph_in(dtype), y.graph_in(dtype)
        return made(compute(a, b), dtype)

    return named_operation(
        name, f"Return {name} of the elements of two tensors, which broadcast.", body
    )


bitwise_left_shift = left_shift = _shift("left_shift", ksym.left_shift)
bitwise_right_shift = right_shift = _shift("right_shift", ksym.right_shift)


@operation
def divide_no_nan(x1: Operand, x2: Operand) -> Tensor:
    """Return x1 / x2, and zero where x2 is zero."""
    dtype, (a, b) = promoted(x1, x2, with_float=True)
    zero = ksym.equal(b, 0)
    return made(ksym.where(zero, 0.0, a / ksym.where(zero, 1.0, b)), dtype)


@operation
def ldexp(x1: Operand, x2: Operand) -> Tensor:
    """Return x1 * 2**x2."""
    dtype = result_type(x1.kind, x2.kind, float)
    if dtypes.is_float(x2.dtype):
        raise ValueError(f"ldexp exponent must be an integer type. Received: x2 dtype={x2.dtype}")
    return made(x1.graph_in(dtype) * ksym.exp2(x2.graph_in(dtype)), dtype)


@operation
def nextafter(x1: Operand, x2: Operand) -> Tensor:
    """Return the number next to x1 in the direction of x2."""
    dtype, (a, b) = promoted(x1, x2, with_float=True)
    return made(ksym.nextafter(a, b), dtype)


@operation
def isclose(
    x1: Operand, x2: Operand, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Return where two tensors are equal within tolerances."""
    _, (a, b) = promoted(x1, x2, with_float=True)
    return Tensor(ksym.isclose(a, b, rtol, atol, equal_nan), "bool")


@operation
def clip(x: Operand, x_min: Operand, x_max: Operand) -> Tensor:
    """Limit the elements to a range."""
    kinds = [v.kind for v in (x, x_min, x_max) if v is not None]
    dtype = result_type(*kinds)
    if dtype == "bool":
        dtype = "int32"
    graph = x.graph_in(dtype)
    if x_min is not None:
        graph = ksym.maximum(graph, x_min.graph_in(dtype))
    if x_max is not None:
        graph = ksym.minimum(graph, x_max.graph_in(dtype))
    return made(graph, dtype)


@operation
def where(condition: Operand, x1: Operand = None, x2: Operand = None) -> Any:
    """Choose elements of x1 where a condition holds, else of x2; without them, its positions."""
    if x1 is None and x2 is None:
        from keras_ksym.src.ops.choosing import nonzero

        return nonzero(condition)
    if x1 is None or x2 is None:
        raise ValueError("`x1` and `x2` both should be `None` or both should be non-None.")
    dtype, (a, b) = promoted(x1, x2)
    return Tensor(ksym.where(condition.graph_in("bool"), a, b), dtype)


@operation
def select(condlist: Operands, choicelist: Operands, default: Operand = 0) -> Tensor:
    """Choose elements by the first condition that holds."""
    default = default if isinstance(default, Tensor) else Tensor(None, "int32", int, default)
    dtype, graphs = promoted(*choicelist, default)
    result = graphs[-1]
    for condition, choice in reversed(builtins.list(zip(condlist, graphs[:-1], strict=True))):
        result = ksym.where(condition.graph_in("bool"), choice, result)
    return Tensor(result, dtype)
