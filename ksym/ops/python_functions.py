"""Operators that are Python functions of the user's, on NumPy's arrays."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, shapes
from ksym.errors import (
    ArgumentError,
    DTypeError,
    ExecutionError,
    GradientError,
    GraphError,
    ShapeError,
)
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.operands import as_tensor
from ksym.operator.sampling import Draw, Sample
from ksym.origin import function_name

__all__ = ["as_op"]

Results = Spec | Sequence[Spec] | Callable[..., Any]
"""What a function returns: one result, several, or a function of the operands' specs that says."""


class PythonFunction:
    """The user's function in a node, with what it returns.  It is pickled by its name.

    Attributes:
        function: The function, called with arrays.
        public: The function of tensors that users call, which has its name.
    """

    def __init__(self, function: Callable[..., Any], results: Results):
        self.function = function
        self._results = results
        self.public: Any = None

    def __repr__(self) -> str:
        return f"<function {self.name}>"

    @property
    def name(self) -> str:
        """The name of the function for messages."""
        return function_name(self.function)

    def results(self, operands: Sequence[Spec]) -> Spec | tuple[Spec, ...]:
        """Return the shape and dtype of each result, of operands of known or unknown shapes.

        Raises:
            ArgumentError: What the user says of the results is none.
        """
        found: Any = self._results
        if callable(found):
            try:
                found = found(*operands)
            except Exception as error:
                raise ArgumentError(
                    f"the description of the results of {self.name} fails for {len(operands)} "
                    f"operand(s): {type(error).__name__}: {error}",
                    remedy="it is called with the ksym.Spec of each operand, and returns the "
                    "ksym.Spec of the result, as lambda x: x does",
                ) from error
        if isinstance(found, Spec):
            return _canonical(found)
        if isinstance(found, list | tuple) and found and all(isinstance(s, Spec) for s in found):
            return tuple(map(_canonical, found))
        raise ArgumentError(
            f"the results of {self.name} are described by {found!r}",
            remedy='give a ksym.Spec(shape, dtype), such as ksym.Spec((None, 3), "float32"); a '
            "tuple of these for several results; or a function from the operands' to these, such "
            "as lambda x: x",
        )

    def __copy__(self) -> PythonFunction:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> PythonFunction:
        return self

    def __reduce__(self) -> tuple[Callable[[Any], PythonFunction], tuple[Any]]:
        try:
            pickle.dumps(self.public)
        except Exception as error:  # noqa: BLE001 - pickle raises what the object raises
            raise GraphError(
                f"the function {self.name} cannot be pickled: {error}",
                remedy="write @ksym.as_op(...) above its def at the top level of a module",
            ) from None
        return _function_in, (self.public,)


def _canonical(spec: Spec) -> Spec:
    return Spec(shapes.normalize(spec.shape), dtypes.canonical(spec.dtype))


def _function_in(public: Any) -> PythonFunction:
    found: PythonFunction = public.python_function
    return found


class CallPython(Operator):
    """Return what a Python function makes of arrays; see `as_op`."""

    internal = "a part of `as_op`, which takes functions"
    runs = "host"

    def prepare(
        self, *operands: Any, function: PythonFunction
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [as_tensor(operand) for operand in operands], {"function": function}

    def infer(self, *operands: Tensor, function: PythonFunction) -> Spec | tuple[Spec, ...]:
        return function.results([operand.spec for operand in operands])

    def known(self, *operands: Tensor, function: PythonFunction) -> np.ndarray | None:
        return None  # it is called when it is computed, not while the graph is built

    def numpy(self, *arrays: Any, function: PythonFunction) -> Any:
        arrays = tuple(map(_read_only, arrays))
        expected = function.results([Spec(a.shape, dtypes.name_of(a)) for a in arrays])
        try:
            found = function.function(*arrays)
        except Exception as error:
            raise ExecutionError(
                f"the function {function.name} fails: {type(error).__name__}: {error}",
                remedy="see the error above this one; the arrays that it is given are read-only: "
                "copy what it changes",
            ) from error
        if isinstance(expected, Spec):
            return _checked(found, expected, f"what {function.name} returns")
        if not isinstance(found, list | tuple) or len(found) != len(expected):
            count = len(found) if isinstance(found, list | tuple) else type(found).__name__
            raise ExecutionError(
                f"the function {function.name} returns {count}, not {len(expected)} results",
                remedy="return a tuple with one array for each result that as_op was given",
            )
        return tuple(
            _checked(value, spec, f"result {number} of {function.name}")
            for number, (value, spec) in enumerate(zip(found, expected, strict=True))
        )

    def gradient(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        name = node.attributes["function"].name
        raise GradientError(
            f"nothing is known of the gradient of {name}, a function of Python's",
            remedy=f"give it one: ksym.custom_gradient({name}, lambda x, y, g: ...); or "
            "ksym.stop_gradient(...) around it, if it is to count as a constant",
        ).located("as_op", [t.spec for t in node.inputs], node.origin)

    def sample(self, draw: Draw) -> Sample:
        function = draw.choose((_double, _halves)).python_function
        x = draw.array(draw.shape(min_side=0))
        return Sample(x, attributes={"function": function}, differentiate=())


def _read_only(array: Any) -> np.ndarray:
    view: np.ndarray = np.asarray(array).view()
    view.flags.writeable = False
    return view


def _checked(value: Any, spec: Spec, what: str) -> np.ndarray:
    """Return a result as an array of the dtype that was said.

    Raises:
        ShapeError: It has another shape than was said.
        DTypeError: It is not numeric, or not among the numbers of that dtype.
    """
    try:
        array = dtypes.fitting(value, spec.dtype)
    except DTypeError as error:
        error.remedy = f"convert it, or give as_op the dtype of {what}"
        raise
    if not shapes.compatible(array.shape, spec.shape):
        raise ShapeError(
            f"{what} has shape {array.shape}, where as_op was told {spec.shape}",
            remedy="give as_op the shape of the result, with None for sizes that depend on data",
        )
    return dtypes.cast(array, spec.dtype)


call_python = CallPython("call_python")


def as_op(results: Results) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make an operator of a Python function that takes and returns NumPy arrays.

    The function is called when the result is computed, between the native parts of a compiled
    function.  Equal calls may be done once, those of constants when the graph is compiled, and
    those that no result needs not at all: so it should depend on its arguments alone and do
    nothing else.  The arrays that it is given are read-only.

    It has no gradient; `custom_gradient` gives it one.  A graph with it can be pickled if the
    function is decorated at the top level of a module.  It cannot be saved by `ksym.save` or
    exported, as files hold no code.

    Args:
        results: The shape and dtype of the result as a `Spec`, with None for sizes that depend on
            data; a tuple of these for several results; or a function that returns these, called
            with the `Spec` of each operand: ``lambda x: x`` for a result like the first operand.

    Returns:
        A decorator.  The function that it makes takes tensors, numbers and arrays, and returns a
        tensor, or a tuple of them.

    Raises:
        ArgumentError: The results are described by something else.
        ExecutionError: At a call: the function raises an error, or returns another number of
            results.
        ShapeError: At a call: a result has another shape.
        DTypeError: At a call: a result has another kind of numbers, such as fractions for
            integers.
        GradientError: A gradient is to flow through it.

    >>> import numpy, ksym
    >>> @ksym.as_op(lambda x: x)
    ... def in_order(x):
    ...     return numpy.sort(x)[::-1]
    >>> x = ksym.placeholder((None,))
    >>> ksym.function(x, in_order(x) * 10.0)([1, 3, 2])
    array([30., 20., 10.], dtype=float32)
    """
    if not callable(results):
        PythonFunction(as_op, results).results([])

    def decorator(function: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(function):
            raise ArgumentError(
                f"as_op makes an operator of a function, not of {function!r}",
                remedy="write @ksym.as_op(ksym.Spec(shape, dtype)) above a function",
            )
        held = PythonFunction(function, results)

        @functools.wraps(function, updated=())
        def public(*operands: Any) -> Any:
            return call_python(*operands, function=held)

        held.public = public
        public.python_function = held  # type: ignore[attr-defined]
        return public

    return decorator


@as_op(lambda x: x)
def _double(x: np.ndarray) -> np.ndarray:
    """Return an array's double: a sample for tests."""
    return 2 * x


@as_op(lambda x: (x, Spec((None,), "int64")))
def _halves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two results, one of a size that depends on data: a sample for tests."""
    return x / 2, np.flatnonzero(x > 0)
