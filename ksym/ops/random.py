"""Streams of random numbers, and the operators that draw from them, anew at every call.

Each random node draws from a `RandomStream` of its own, on the host, by NumPy's generators: so the
same seed gives the same numbers bit for bit whatever the device, the number of threads and the
order in which a graph runs, and on CPU this is faster than MXNet's samplers.  In a compiled graph
the numbers arrive as inputs.

What is drawn here is of a standard form; `ksym.ops.distributions` makes the distributions that
users ask for of it.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, shapes
from ksym.errors import DTypeError, GraphError, ShapeError
from ksym.graph import FrozenArray, Node, Spec, Tensor, topological_order
from ksym.ops.registry import (
    Draw,
    Emitter,
    Operator,
    Sample,
    known_dimensions,
    shape_operand,
)

# --- streams -------------------------------------------------------------------------------------


class RandomStream:
    """A sequence of random numbers that goes on from one call to the next.

    It can be pickled, and its state taken and given back, so that a run can be resumed where it
    stopped.

    Args:
        seed: Equal seeds give equal sequences; without one the next from `seed` is taken.

    Raises:
        GraphError: The seed is negative.

    >>> stream = RandomStream(1)
    >>> state = stream.get_state()
    >>> first = stream.draw("uniform", (3,), "float32")
    >>> stream.set_state(state)
    >>> bool((stream.draw("uniform", (3,), "float32") == first).all())
    True
    """

    def __init__(self, seed: int | None = None):
        value = _next_seed() if seed is None else int(seed)
        if value < 0:
            raise GraphError(f"a seed is not negative, unlike {value}")
        self._generator = np.random.Generator(np.random.SFC64(value))
        self._lock = threading.Lock()

    def draw(
        self, kind: str, shape: Sequence[int], dtype: str, **parameters: FrozenArray
    ) -> np.ndarray:
        """Return an array of random numbers.

        Args:
            kind: One of `DISTRIBUTIONS`.
            shape: The shape.
            dtype: The dtype.
            parameters: What else that distribution takes.
        """
        values = [parameter.array for parameter in parameters.values()]
        with self._lock:
            return DISTRIBUTIONS[kind](self._generator, tuple(shape), dtype, *values)

    def get_state(self) -> dict[str, Any]:
        """Return where the sequence has got to; changes nothing."""
        with self._lock:
            return copy.deepcopy(dict(self._generator.bit_generator.state))

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from where `get_state` was called.

        Raises:
            GraphError: It is not the state of a stream.
        """
        with self._lock:
            try:
                self._generator.bit_generator.state = copy.deepcopy(state)
            except (KeyError, TypeError, ValueError):
                raise GraphError("this is not the state of a random stream") from None

    def __getstate__(self) -> dict[str, Any]:
        return self.get_state()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(0)  # type: ignore[misc]
        self.set_state(state)


_seeds = np.random.SeedSequence()
_spawned = 0
_seeds_lock = threading.Lock()


def seed(value: int | None) -> None:
    """Seed the random streams that are created from now on without a seed of their own.

    With the same value, the same program creates streams with the same numbers.
    """
    global _seeds, _spawned
    with _seeds_lock:
        _seeds, _spawned = np.random.SeedSequence(value), 0


def _next_seed() -> int:
    global _spawned
    with _seeds_lock:
        _spawned += 1
        key = np.random.SeedSequence(_seeds.entropy, spawn_key=(_spawned,))
    return int(key.generate_state(1, np.uint64)[0])


def random_streams(outputs: Iterable[Tensor]) -> list[RandomStream]:
    """Return the streams that tensors draw from, each once, in the order of the graph.

    The same program finds them in the same order, so their states can be kept beside the values of
    its variables, and a run be resumed.
    """
    found = [node.attributes.get("stream") for node in topological_order(outputs)]
    return list(dict.fromkeys(stream for stream in found if isinstance(stream, RandomStream)))


def as_stream(stream: RandomStream | int | None) -> RandomStream:
    """Return a stream; a number is the seed of a new one."""
    return stream if isinstance(stream, RandomStream) else RandomStream(stream)


# --- what is drawn -------------------------------------------------------------------------------


def _native(dtype: str) -> Any:
    """The dtype NumPy draws in: float16 is rounded from float32."""
    return np.float64 if dtype == "float64" else np.float32


def _uniform(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    if dtype == "float16":
        # Rounding would give 1; these are exact, as are NumPy's 24 and 53 bits for wider floats.
        return (generator.integers(0, 2**11, shape) / 2**11).astype(dtype)
    return generator.random(shape, _native(dtype))


def _normal(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return generator.standard_normal(shape, _native(dtype)).astype(dtype, copy=False)


def _truncated(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    result = generator.standard_normal(shape, _native(dtype))
    while True:
        outside = np.abs(result) > 2.0
        count = int(outside.sum())
        if not count:
            return np.asarray(result).astype(dtype, copy=False)
        result = np.where(outside, 0.0, result).astype(_native(dtype))
        result[outside] = generator.standard_normal(count, _native(dtype))


def _exponential(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return generator.standard_exponential(shape, _native(dtype)).astype(dtype, copy=False)


def _laplace(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.asarray(generator.laplace(size=shape)).astype(dtype)


def _gumbel(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.asarray(generator.gumbel(size=shape)).astype(dtype)


def _gamma(
    generator: np.random.Generator, shape: tuple[int, ...], dtype: str, alpha: np.ndarray
) -> np.ndarray:
    return np.asarray(generator.standard_gamma(alpha, shape)).astype(dtype)


def _integers(
    generator: np.random.Generator,
    shape: tuple[int, ...],
    dtype: str,
    low: np.ndarray,
    last: np.ndarray,
) -> np.ndarray:
    return np.asarray(generator.integers(low, last, shape, endpoint=True)).astype(dtype)


def _permutation(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return generator.permutation(shape[0]).astype(dtype)


DISTRIBUTIONS: dict[str, Callable[..., np.ndarray]] = {
    "uniform": _uniform,
    "normal": _normal,
    "truncated_normal": _truncated,
    "exponential": _exponential,
    "laplace": _laplace,
    "gumbel": _gumbel,
    "gamma": _gamma,
    "integers": _integers,
    "permutation": _permutation,
}
"""How each kind of random number is drawn: ``(generator, shape, dtype, *parameters)``."""


# --- operators -----------------------------------------------------------------------------------


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
        DTypeError: It is another.
    """
    name = dtypes.canonical(dtype)
    if not dtypes.is_float(name):
        raise DTypeError(f"random numbers are floats, not {name}", remedy="cast the result")
    return name


class Drawn(Operator):
    """An operator whose results the host draws.

    Args:
        kind: What is drawn, of `DISTRIBUTIONS`.
        doc: The docstring.
        name: The name.
    """

    pure = False
    static_operands = (0,)

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
    "uniform", _STANDARD_DOC.format("Random numbers from 0 up to, not including, 1.")
)
standard_normal = Drawn(
    "normal", _STANDARD_DOC.format("Random normal numbers of mean 0 and deviation 1.")
)
standard_truncated_normal = Drawn(
    "truncated_normal",
    _STANDARD_DOC.format("Random normal numbers, drawn again where they are beyond two."),
)
standard_exponential = Drawn(
    "exponential", _STANDARD_DOC.format("Random numbers of density exp(-x), for positive x.")
)
standard_laplace = Drawn(
    "laplace", _STANDARD_DOC.format("Random numbers of density exp(-|x|) / 2.")
)
standard_gumbel = Drawn(
    "gumbel", _STANDARD_DOC.format("Random numbers of density exp(-x - exp(-x)).")
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
        dtypes.storable(alpha)  # refuses what is not numeric
        values = np.asarray(alpha, "float64")
        if not (values > 0).all():
            raise GraphError("the shape parameter alpha of a gamma distribution is positive")
        operands, attributes = super().prepare(shape, dtype, stream)
        return operands, {**attributes, "alpha": FrozenArray(values)}

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
    doc="""Random numbers of density x^(alpha-1) exp(-x) / Gamma(alpha), for positive x.

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

    def sample(self, draw: Draw) -> Sample:
        return Sample(
            np.array(draw.shape(min_side=0), "int64"),
            attributes={"low": draw.integer(-3, 3), "high": 5, "stream": 1},
        )


random_integers = _RandomIntegers(
    "integers",
    name="random_integers",
    doc="""Random integers from low up to, not including, high, all equally likely.

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


class _RandomPermutation(Drawn):
    def prepare(  # type: ignore[override]
        self, count: Any, stream: RandomStream | int | None = None
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [size_operand(count)], {"dtype": "int64", "stream": as_stream(stream)}

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
    doc="""The numbers from 0 up to, not including, count in random order, as int64.

    Args:
        count: How many: an int or a scalar tensor computed from shapes.
        stream: As for `random_uniform`.

    Raises:
        ShapeError: count is negative.
    """,
)


# --- checks shared with the distributions ---------------------------------------------------------


def whole_number(value: Any, name: str) -> int:
    """Return an int that decides how a graph is built.

    Raises:
        DTypeError: It is not one.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise DTypeError(f"{name} is {value!r}, not an int", remedy="it is known when building")
    return int(value)


def within(parameter: shapes.Shape, shape: shapes.Shape, name: str) -> shapes.Shape:
    """Return what is known of a shape that a parameter has to broadcast to.

    Raises:
        ShapeError: It does not.
    """
    try:
        fits = shapes.compatible(shapes.broadcast(parameter, shape), shape)
    except ShapeError:
        fits = False
    if not fits:
        raise ShapeError(f"{name} of shape {parameter} does not broadcast to the shape {shape}")
    return shape
