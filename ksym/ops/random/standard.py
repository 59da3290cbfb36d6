"""Operators that draw random numbers at every call.

Each random node draws from a `RandomStream` of its own, on the host.  In a compiled graph the
numbers arrive as inputs.

The numbers have standard distributions; `ksym.ops.random.distributions` composes the
distributions with parameters of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, shapes
from ksym.errors import DTypeError, GraphError, ShapeError
from ksym.graph import FrozenArray, Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter
from ksym.operator.operands import known_dimensions, shape_operand
from ksym.operator.sampling import Draw, Sample
from ksym.ops.random.streams import RandomStream, as_stream

__all__ = ["random_integers", "random_permutation"]


def size_operand(shape: Any) -> Tensor:
    """Return the shape of a random tensor as an int64 vector.

    Raises:
        DTypeError: It is not made of integers.
        ShapeError: It is not a vector, or an entry is negative.
    """
    if isinstance(shape, np.ndarray | np.generic):
        if shape.dtype.kind not in "iu":
            raise DTypeError(f"a shape is made of integers, not of {shape.dtype}")
        if shape.ndim > 1:
            raise ShapeError(f"a shape is a vector, not an array of shape {shape.shape}")
        shape = shape.reshape(-1).tolist()
    operand = shape_operand(shape)
    if any(side is not None and side < 0 for side in known_dimensions(operand)):
        raise ShapeError(f"a shape has no negative entries, unlike {operand.value}")
    return operand


def float_dtype(dtype: Any) -> str:
    """Return the name of a dtype of random numbers that are floats.

    Raises:
        DTypeError: It is not a float dtype.
    """
    name = dtypes.canonical(dtype)
    if not dtypes.is_float(name):
        raise DTypeError(f"random numbers are floats, not {name}", remedy="cast the result")
    return name


class Drawn(Operator):
    """An operator whose results are drawn on the host.

    Args:
        kind: The distribution, a key of `DISTRIBUTIONS`.
        doc: The docstring.
        name: The name.

    Attributes:
        independent: Whether each element is drawn on its own, so that an array with one axis more
            at the front is as good as many arrays.
    """

    internal = "a part of the distributions, which scale it"
    pure = False
    static_operands = (0,)
    independent = True

    def __init__(self, kind: str, doc: str, name: str | None = None):
        self.kind = kind
        super().__init__(name or f"standard_{kind}", doc)

    def prepare(
        self,
        shape: Any,
        dtype: Any = dtypes.DEFAULT_FLOAT,
        stream: RandomStream | int | None = None,
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [size_operand(shape)], {"dtype": float_dtype(dtype), "stream": as_stream(stream)}

    def infer(self, shape: Tensor, dtype: str, **attributes: Any) -> Spec:
        return Spec(tuple(known_dimensions(shape)), dtype)

    def numpy(self, shape: Any, dtype: str, stream: RandomStream, **parameters: Any) -> np.ndarray:
        return stream.draw(self.kind, tuple(int(d) for d in shape), dtype, **parameters)

    def lower(self, emit: Emitter, node: Node, shape: Any) -> Any:
        return emit.draw(node)

    def sample(self, draw: Draw) -> Sample:
        return Sample(np.array(draw.shape(min_side=0), "int64"), attributes={"stream": 1})


_STANDARD_DOC = """{}

    Args:
        shape: The shape: ints, scalar tensors, a mix, or a vector.
        dtype: A float dtype.
        stream: A `RandomStream` to draw from, or the seed of a new one; without it one that `seed`
            decides.
    """
standard_uniform = Drawn(
    "uniform", _STANDARD_DOC.format("Draw random numbers from 0 up to, not including, 1.")
)
standard_normal = Drawn(
    "normal", _STANDARD_DOC.format("Draw normal numbers of mean 0 and deviation 1.")
)
standard_truncated_normal = Drawn(
    "truncated_normal",
    _STANDARD_DOC.format("Draw normal numbers, again where they are beyond two."),
)
standard_exponential = Drawn(
    "exponential", _STANDARD_DOC.format("Draw random numbers of density exp(-x), for positive x.")
)
standard_laplace = Drawn(
    "laplace", _STANDARD_DOC.format("Draw random numbers of density exp(-|x|) / 2.")
)
standard_gumbel = Drawn(
    "gumbel", _STANDARD_DOC.format("Draw random numbers of density exp(-x - exp(-x)).")
)


class _StandardGamma(Drawn):
    def prepare(  # type: ignore[override]
        self,
        shape: Any,
        alpha: Any,
        dtype: Any = dtypes.DEFAULT_FLOAT,
        stream: RandomStream | int | None = None,
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        if isinstance(alpha, Tensor):
            raise DTypeError(
                f"alpha is the symbolic {alpha!r}, a number or an array is needed",
                remedy="random_gamma takes tensors",
            )
        dtypes.storable(alpha)  # raises an error if it is not numeric
        values = np.asarray(alpha, "float64")
        if not (values > 0).all():
            raise GraphError("the shape parameter alpha of a gamma distribution is positive")
        operands, attributes = super().prepare(shape, dtype, stream)
        return operands, {**attributes, "alpha": FrozenArray(values)}

    def arguments(
        self, operands: Sequence[Tensor], attributes: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        return operands, {**attributes, "alpha": attributes["alpha"].array}

    def infer(self, shape: Tensor, dtype: str, **attributes: Any) -> Spec:
        sides = tuple(known_dimensions(shape))
        return Spec(within(attributes["alpha"].array.shape, sides, "alpha"), dtype)

    def sample(self, draw: Draw) -> Sample:
        return Sample(
            np.array(draw.shape(min_side=0), "int64"),
            attributes={"alpha": draw.choose((0.5, 3.0)), "stream": 1},
        )


standard_gamma = _StandardGamma(
    "gamma",
    doc="""Draw random numbers of density x^(alpha-1) exp(-x) / Gamma(alpha), for positive x.

    Args:
        shape: The shape: ints, scalar tensors, a mix, or a vector.
        alpha: The shape parameter: a positive number or an array that broadcasts to shape; not a
            tensor, see `random_gamma`.
        dtype: A float dtype.
        stream: As for `standard_uniform`.

    Raises:
        GraphError: alpha is not positive.
        ShapeError: alpha does not broadcast to shape.
    """,
)


class _RandomIntegers(Drawn):
    internal = ""

    def prepare(  # type: ignore[override]
        self,
        shape: Any,
        low: int,
        high: int,
        dtype: Any = "int64",
        stream: RandomStream | int | None = None,
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        dtype = dtypes.canonical(dtype)
        if dtype not in dtypes.INTEGERS:
            raise DTypeError(f"random integers are not of dtype {dtype}", remedy="cast the result")
        bounds = [whole_number(low, "low"), whole_number(high, "high")]
        limits = np.iinfo(dtype)
        if not limits.min <= bounds[0] < bounds[1] <= limits.max + 1:
            raise GraphError(f"there is no {dtype} from {low} up to, not including, {high}")
        return [size_operand(shape)], {
            "dtype": dtype,
            "stream": as_stream(stream),
            "low": FrozenArray(np.asarray(bounds[0], "int64")),
            # The last one, because high itself may be beyond int64.
            "last": FrozenArray(np.asarray(bounds[1] - 1, "int64")),
        }

    def arguments(
        self, operands: Sequence[Tensor], attributes: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        low, last = (int(attributes[name].array) for name in ("low", "last"))
        kept = {name: attributes[name] for name in ("dtype", "stream")}
        return operands, {"low": low, "high": last + 1, **kept}

    def sample(self, draw: Draw) -> Sample:
        return Sample(
            np.array(draw.shape(min_side=0), "int64"),
            attributes={"low": draw.integer(-3, 3), "high": 5, "stream": 1},
        )


random_integers = _RandomIntegers(
    "integers",
    name="random_integers",
    doc="""Draw random integers from low up to, not including, high, all equally likely.

    Args:
        shape: The shape: ints, scalar tensors, a mix, or a vector.
        low: The smallest, an int.
        high: One more than the largest, an int.
        dtype: An integer dtype.
        stream: As for `random_uniform`.

    Raises:
        GraphError: There are no integers from low to high in the dtype.
        DTypeError: The dtype is not an integer dtype, or a bound is not an int.
    """,
)


class _RandomMask(_RandomIntegers):
    internal = "a part of `dropout` where the host draws for a device"

    def prepare(  # type: ignore[override]
        self, shape: Any, low: int, high: int, bound: int, stream: RandomStream | int | None = None
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        operands, attributes = super().prepare(shape, low, high, "int32", stream)
        bound = whole_number(bound, "bound")
        return operands, {
            **attributes,
            "dtype": "bool",
            "bound": FrozenArray(np.asarray(bound, "int64")),
        }

    def arguments(
        self, operands: Sequence[Tensor], attributes: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        operands, given = super().arguments(operands, attributes)
        bound = int(attributes["bound"].array)
        return operands, {**{n: given[n] for n in ("low", "high", "stream")}, "bound": bound}

    def sample(self, draw: Draw) -> Sample:
        sample = super().sample(draw)
        return Sample(*sample.operands, attributes={**sample.attributes, "bound": 2})


random_mask = _RandomMask(
    "mask",
    name="random_mask",
    doc="""Draw booleans: whether an int32 as `random_integers` draws it is at least a bound.

    A boolean takes a byte, where the integer takes four on the way to a device.

    Args:
        shape: The shape: ints, scalar tensors, a mix, or a vector.
        low: The smallest integer.
        high: One more than the largest integer.
        bound: The bound.
        stream: As for `random_uniform`.

    Raises:
        GraphError: There are no integers from low to high in int32.
        DTypeError: A bound is not an int.
    """,
)


class _RandomPermutation(Drawn):
    internal = ""
    independent = False

    def prepare(  # type: ignore[override]
        self, count: Any, stream: RandomStream | int | None = None
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [size_operand(count)], {"dtype": "int64", "stream": as_stream(stream)}

    def arguments(
        self, operands: Sequence[Tensor], attributes: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        return operands, {"stream": attributes["stream"]}

    def infer(self, shape: Tensor, dtype: str, **attributes: Any) -> Spec:
        sides = known_dimensions(shape)
        if len(sides) != 1:
            raise ShapeError(f"a permutation is of one number of things, not of {len(sides)}")
        return Spec(tuple(sides), dtype)

    def sample(self, draw: Draw) -> Sample:
        return Sample(np.array([draw.integer(0, 4)], "int64"), attributes={"stream": 1})


random_permutation = _RandomPermutation(
    "permutation",
    name="random_permutation",
    doc="""Draw the numbers from 0 up to, not including, count in random order, as int64.

    Args:
        count: How many: an int or a scalar tensor computed from shapes.
        stream: As for `random_uniform`.

    Raises:
        ShapeError: count is negative.
    """,
)


# --- checks shared with the distributions ---------------------------------------------------------


def whole_number(value: Any, name: str) -> int:
    """Return a number that decides how a graph is built as an int.

    Raises:
        DTypeError: It is not an integer.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise DTypeError(f"{name} is {value!r}, not an int", remedy="it is known when building")
    return int(value)


def within(parameter: shapes.Shape, shape: shapes.Shape, name: str) -> shapes.Shape:
    """Return the known part of a shape that a parameter has to broadcast to.

    Raises:
        ShapeError: The parameter does not.
    """
    try:
        fits = shapes.compatible(shapes.broadcast(parameter, shape), shape)
    except ShapeError:
        fits = False
    if not fits:
        raise ShapeError(f"{name} of shape {parameter} does not broadcast to the shape {shape}")
    return shape
