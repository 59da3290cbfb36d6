"""Arithmetic, methods and protocols of arrays, for symbolic tensors.

Whatever Python's syntax, NumPy's functions and the methods of arrays ask of a tensor is answered by
the operator of that name.  What a tensor cannot answer before it is computed (a number, a length,
a change in place) is refused with what to write instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ksym.errors import SymbolicError
from ksym.origin import current_origin, warn
from ksym.shapes import UNKNOWN, Shape

if TYPE_CHECKING:
    from ksym.operator.declaration import Operator

OPERATORS: dict[str, Operator] = {}
"""Every declared operator by name; an `Operator` enters itself when it is declared."""

NUMPY: dict[Callable[..., Any], Callable[..., Any]] = {}
"""For functions of NumPy's those of ksym that mean the same; `ksym.protocol` fills it."""

EVALUATORS: list[Callable[..., Any]] = []
"""The function that computes a tensor; `ksym.function` enters its `evaluate`."""

_NUMBERS = (int, float, np.generic, np.ndarray)

_EVALUATE = "use ksym's operators on it, or ksym.evaluate(tensor) for its value"


def _operator_method(name: str, reflected: bool = False) -> Callable[..., Any]:
    def method(self: Any, other: Any) -> Any:
        apply = OPERATORS[name]
        return apply(other, self) if reflected else apply(self, other)

    return method


def _array_method(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return OPERATORS[name](self, *args, **kwargs)

    method.__name__ = name
    method.__doc__ = f"Apply `ksym.{name}` to the tensor."
    return method


class ArrayLike:
    """The base of `Tensor`: what it has in common with an array."""

    shape: Shape
    dtype: str
    value: np.ndarray | None

    def _refused(self, problem: str, remedy: str) -> Exception:
        return SymbolicError(f"{self!r} {problem}", remedy=remedy).located(origin=current_origin())

    def eval(self, feeds: Mapping[Any, Any] | None = None) -> Any:
        """Return the value of the tensor, computed for given values of placeholders.

        Each call compiles it anew: for many calls, make a `ksym.function`.

        Args:
            feeds: A value for each placeholder that it depends on.

        Raises:
            GraphError: It depends on a placeholder that is not given.
            InputError: A value has a shape that does not fit.

        >>> import ksym
        >>> x = ksym.placeholder((None,))
        >>> ksym.sum(x * 2.0).eval({x: [1, 2]}).tolist()
        6.0
        """
        (evaluate,) = EVALUATORS
        return evaluate(self, feeds)

    # --- comparing --------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        if isinstance(other, _NUMBERS):
            warn(
                f"{self!r} is compared by == or != with {other!r}: tensors are compared by "
                "identity, so it is never equal",
                "use ksym.equal(x, y) or ksym.not_equal(x, y) to compare elements",
            )
        return self is other

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise self._refused(
            "is symbolic: it has no truth value while the graph is built",
            "use ksym.where to choose between values, or `is None` to test for presence",
        )

    def __contains__(self, item: object) -> bool:
        raise self._refused(
            "is symbolic: what it contains is not known while the graph is built",
            "use ksym.any(ksym.equal(x, item))",
        )

    # --- what has to be known ---------------------------------------------------------------------

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise self._refused("is symbolic: it has no value while the graph is built", _EVALUATE)

    def _number(self, what: str) -> Any:
        """Return the value of a scalar that is known while the graph is built."""
        if self.value is not None and self.value.size == 1 and self.value.item() is not UNKNOWN:
            return self.value.item()
        raise self._refused(
            f"is symbolic: it cannot be made {what} while the graph is built",
            "use ksym's operators: ksym.cast for another dtype, ksym.arange for a range, "
            "ksym.scan(steps=n) for a loop; ksym.evaluate(tensor) for its value",
        )

    def __int__(self) -> int:
        return int(self._number("an int"))

    def __float__(self) -> float:
        return float(self._number("a float"))

    def __complex__(self) -> complex:
        return complex(self._number("a complex number"))

    def __index__(self) -> int:
        if not self.dtype.startswith(("int", "uint")):
            raise self._refused("is no integer: it cannot be an index", "cast it to an integer")
        return int(self._number("an index of Python's"))

    def __len__(self) -> int:
        if not self.shape or self.shape[0] is None:
            raise self._refused(
                "has no length that is known while the graph is built",
                "use ksym.shape_of(x)[0], which is a tensor",
            )
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        if not self.shape or self.shape[0] is None:
            raise self._refused(
                "cannot be iterated over: the length of its first axis is not known",
                "iterate over a tensor whose first dimension is static, or use ksym.scan",
            )
        return (self[i] for i in range(self.shape[0]))

    def __setitem__(self, key: Any, value: Any) -> None:
        raise self._refused(
            "cannot be changed: tensors are immutable",
            "write x = ksym.index_update(x, key, value), or ksym.index_add(x, key, value)",
        )

    def __delitem__(self, key: Any) -> None:
        raise self._refused(
            "cannot be changed: tensors are immutable", "take the parts that are to stay: x[key]"
        )

    # --- NumPy's functions ------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", None)
        # `array += tensor` asks for the array to be filled, and takes what is returned.
        if out is not None and (len(out) != 1 or out[0] is not inputs[0]):
            raise self._refused(
                f"cannot be written into the array that is given to numpy.{ufunc.__name__} as out",
                "leave out `out`: the result is a tensor",
            )
        if method != "__call__":
            raise self._refused(
                f"is not taken by numpy.{ufunc.__name__}.{method}",
                "use ksym's reductions: ksym.sum, ksym.prod, ksym.cumsum, ...",
            )
        return self._apply(ufunc, inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return self._apply(function, args, kwargs)

    def _apply(self, function: Any, args: Any, kwargs: Any) -> Any:
        ours = NUMPY.get(function)
        if ours is None:
            raise self._refused(
                f"is symbolic: numpy.{function.__name__} does not take it, and ksym has no "
                "function that means the same",
                "look for another one in docs/operators.md, or use ksym.evaluate(tensor) for its "
                "value",
            )
        return ours(*args, **kwargs)

    # --- attributes and methods of arrays ---------------------------------------------------------

    if not TYPE_CHECKING:  # an attribute that is not there stays an error of types

        def __getattr__(self, name: str) -> Any:
            message = f"{type(self).__name__!r} object has no attribute {name!r}"
            if not name.startswith("_"):
                operator = OPERATORS.get(name)
                if operator is not None and not operator.internal:
                    message += f": use ksym.{name}(x)"
                elif hasattr(np.ndarray, name):
                    message += f": it is symbolic, and has no memory; {_EVALUATE}"
            raise AttributeError(message)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def T(self) -> Any:  # noqa: N802 - NumPy's name
        """The tensor with its axes in reverse order."""
        return OPERATORS["transpose"](self)

    def astype(self, dtype: Any) -> Any:
        """Apply `ksym.cast` to the tensor."""
        return OPERATORS["cast"](self, dtype)

    def reshape(self, *shape: Any) -> Any:
        """Apply `ksym.reshape`; sizes may be given one by one."""
        return OPERATORS["reshape"](self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Any:
        """Apply `ksym.transpose`; axes may be given one by one."""
        return OPERATORS["transpose"](self, *([axes] if len(axes) > 1 else axes))

    def clip(self, min: Any = None, max: Any = None) -> Any:  # noqa: A002 - NumPy's names
        """Apply `ksym.clip` to the tensor."""
        return OPERATORS["clip"](self, min, max)

    all = _array_method("all")
    any = _array_method("any")
    argmax = _array_method("argmax")
    argmin = _array_method("argmin")
    argsort = _array_method("argsort")
    copy = _array_method("copy")
    cumprod = _array_method("cumprod")
    cumsum = _array_method("cumsum")
    diagonal = _array_method("diagonal")
    dot = _array_method("dot")
    flatten = _array_method("ravel")
    max = _array_method("max")
    mean = _array_method("mean")
    min = _array_method("min")
    prod = _array_method("prod")
    ptp = _array_method("ptp")
    ravel = _array_method("ravel")
    repeat = _array_method("repeat")
    round = _array_method("round")
    searchsorted = _array_method("searchsorted")
    squeeze = _array_method("squeeze")
    std = _array_method("std")
    sum = _array_method("sum")
    swapaxes = _array_method("swapaxes")
    take = _array_method("take")
    trace = _array_method("trace")
    var = _array_method("var")

    # --- Python's operators -----------------------------------------------------------------------

    def __neg__(self) -> Any:
        return OPERATORS["negative"](self)

    def __abs__(self) -> Any:
        return OPERATORS["abs"](self)

    def __invert__(self) -> Any:
        return OPERATORS["bitwise_not"](self)

    def __pos__(self) -> Any:
        return OPERATORS["positive"](self)

    def __round__(self, ndigits: int = 0) -> Any:
        return OPERATORS["round"](self, ndigits)

    def __divmod__(self, other: Any) -> tuple[Any, Any]:
        return OPERATORS["floor_divide"](self, other), OPERATORS["mod"](self, other)

    def __rdivmod__(self, other: Any) -> tuple[Any, Any]:
        return OPERATORS["floor_divide"](other, self), OPERATORS["mod"](other, self)

    __getitem__ = _operator_method("index")
    __add__ = _operator_method("add")
    __radd__ = _operator_method("add", reflected=True)
    __sub__ = _operator_method("subtract")
    __rsub__ = _operator_method("subtract", reflected=True)
    __mul__ = _operator_method("multiply")
    __rmul__ = _operator_method("multiply", reflected=True)
    __truediv__ = _operator_method("true_divide")
    __rtruediv__ = _operator_method("true_divide", reflected=True)
    __floordiv__ = _operator_method("floor_divide")
    __rfloordiv__ = _operator_method("floor_divide", reflected=True)
    __mod__ = _operator_method("mod")
    __rmod__ = _operator_method("mod", reflected=True)
    __pow__ = _operator_method("power")
    __rpow__ = _operator_method("power", reflected=True)
    __matmul__ = _operator_method("matmul")
    __rmatmul__ = _operator_method("matmul", reflected=True)
    __lt__ = _operator_method("less")
    __le__ = _operator_method("less_equal")
    __gt__ = _operator_method("greater")
    __ge__ = _operator_method("greater_equal")
    __and__ = _operator_method("bitwise_and")
    __rand__ = _operator_method("bitwise_and", reflected=True)
    __or__ = _operator_method("bitwise_or")
    __ror__ = _operator_method("bitwise_or", reflected=True)
    __xor__ = _operator_method("bitwise_xor")
    __rxor__ = _operator_method("bitwise_xor", reflected=True)
    __lshift__ = _operator_method("left_shift")
    __rlshift__ = _operator_method("left_shift", reflected=True)
    __rshift__ = _operator_method("right_shift")
    __rrshift__ = _operator_method("right_shift", reflected=True)
