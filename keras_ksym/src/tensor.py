"""The symbolic values of Keras's functions, and values as tensors.

A value that is known is an array of NumPy.  A value that a call will compute is a `Tensor`: one of
ksym's in Keras's dtype, with Keras's operators.
"""

from __future__ import annotations

import importlib
import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from keras.src.backend.common import KerasVariable
from keras.src.backend.common.dtypes import result_type
from keras.src.backend.common.keras_tensor import KerasTensor

import ksym
from keras_ksym.src import dtypes
from keras_ksym.src.tracing import are_values_visible
from ksym.errors import SymbolicError
from ksym.origin import current_origin

WEAK = (bool, int, float)
"""The types of Python's numbers, which give way to the dtypes of tensors."""


class Tensor:
    """A symbolic value: a tensor of ksym, in one of Keras's dtypes.

    Unlike ksym's own tensors it is promoted by Keras's rules, and ``==`` compares the elements.
    Keras hangs its masks on it.

    Args:
        graph: The tensor of ksym, of the dtype in which the values are stored.
        dtype: Keras's dtype; by default the stored one.
        weak: For one of Python's numbers its type: the dtype gives way to those of others.
        number: Python's number, if it is known.

    Attributes:
        dtype: The name of Keras's dtype.
        weak: The type of a number of Python's, else None.
    """

    __array_priority__ = 1000  # NumPy's arrays leave operators to this class

    def __init__(
        self,
        graph: ksym.Tensor | None,
        dtype: str | None = None,
        weak: type | None = None,
        number: Any = None,
    ):
        self._graph = graph
        self.weak = weak
        self._number = number
        if dtype is None:
            assert graph is not None
            dtype = dtypes.as_dtype(weak) if weak else graph.dtype
        self.dtype = dtype

    @property
    def graph(self) -> ksym.Tensor:
        """The tensor of ksym, in the dtype in which values of this one's dtype are stored."""
        return self.graph_in(self.dtype)

    def graph_in(self, dtype: str) -> ksym.Tensor:
        """Return the tensor of ksym, converted to one of Keras's dtypes."""
        if self._number is not None:
            exact = np.asarray(self._number).astype(dtypes.numpy_dtype(dtype))
            return ksym.constant(exact.astype(dtypes.stored(dtype)))
        assert self._graph is not None
        if self.weak is not None:
            return dtypes.fitted(self._graph, dtype)
        return dtypes.cast(self._graph, self.dtype, dtype)

    @property
    def kind(self) -> Any:
        """The dtype, or the type of a number of Python's: what `result_type` takes."""
        return self.dtype if self.weak is None else self.weak

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape, with None for a size that depends on the call."""
        return () if self._graph is None else self._graph.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> Any:
        """The number of elements."""
        return _function("size")(self)

    @property
    def T(self) -> Tensor:  # noqa: N802 - NumPy's name
        """The tensor with its axes in reverse order."""
        return _function("transpose")(self)

    def astype(self, dtype: Any) -> Tensor:
        """Return the tensor in another dtype."""
        name = dtypes.as_dtype(dtype)
        return Tensor(self.graph_in(name), name)

    def reshape(self, *shape: Any) -> Tensor:
        """Return the elements in another shape."""
        sides = shape[0] if len(shape) == 1 and isinstance(shape[0], list | tuple) else shape
        return _function("reshape")(self, sides)

    def __len__(self) -> int:
        if not self.shape or self.shape[0] is None:
            raise SymbolicError(
                f"the length of {self!r} is not known while it is traced",
                remedy="use keras.ops.shape(x)[0], and keras.ops.scan or keras.ops.map to loop",
            ).located(origin=current_origin())
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> Tensor:
        return _function("get_item")(self, key)

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"<Tensor of keras_ksym, shape={self.shape}, dtype={self.dtype}>"

    def _value(self) -> np.ndarray:
        """Return the value, if all that it depends on is known while the function is traced.

        Raises:
            SymbolicError: It is computed at the call.
        """
        if self._number is not None:
            return np.asarray(self._number)
        known = self.graph.value
        if known is not None and known.dtype != object:
            return known
        if not are_values_visible():
            raise SymbolicError(
                f"the value of {self!r} is not known while a function is traced: it is computed at "
                "the call",
                remedy="use keras.ops instead of NumPy, of other libraries' functions, and of "
                "Python's if and for; or compile the model with run_eagerly=True to look at values",
            ).located(origin=current_origin())
        value = ksym.function([], self.graph, mode="interpret")()
        return value.astype(dtypes.numpy_dtype(self.dtype))

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        value = self._value()
        return value if dtype is None else value.astype(dtype)

    def __bool__(self) -> bool:
        return bool(self._value())

    def __int__(self) -> int:
        return int(self._value())

    def __float__(self) -> float:
        return float(self._value())

    def __index__(self) -> int:
        return operator.index(self._value().item())

    def numpy(self) -> np.ndarray:
        """Return the value as an array, where it is known."""
        return self._value()


def numpy_functions() -> Any:
    """Return Keras's module numpy, which is written with this one."""
    return importlib.import_module("keras_ksym.src.ops.numpy")


def _function(name: str) -> Callable[..., Any]:
    return getattr(numpy_functions(), name)


def _operator(name: str, turned: bool = False) -> Callable[..., Any]:
    if turned:
        return lambda self, other: _function(name)(other, self)
    return lambda self, other: _function(name)(self, other)


for _name, _function_name in {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "mod",
    "pow": "power",
    "matmul": "matmul",
    "and": "logical_and",
    "or": "logical_or",
    "xor": "logical_xor",
}.items():
    setattr(Tensor, f"__{_name}__", _operator(_function_name))
    setattr(Tensor, f"__r{_name}__", _operator(_function_name, turned=True))
for _name, _function_name in {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}.items():
    setattr(Tensor, f"__{_name}__", _operator(_function_name))
for _name, _function_name in {
    "neg": "negative",
    "abs": "absolute",
    "invert": "logical_not",
    "pos": "copy",
}.items():
    setattr(Tensor, f"__{_name}__", lambda self, name=_function_name: _function(name)(self))


def tensor(value: Any) -> Tensor:
    """Return a value as a symbolic tensor; one of Python's numbers keeps its type.

    Args:
        value: A tensor, a variable, an array, a number, or nested lists of these.

    Raises:
        TypeError: The value is of a dtype that ksym does not have, or of Keras's symbolic kind.
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, KerasVariable):
        return tensor(value.value)
    kind = type(value)
    if kind in WEAK:
        return Tensor(None, dtypes.as_dtype(kind), kind, value)
    if isinstance(value, KerasTensor):
        raise TypeError(
            f"{value!r} is the symbolic input of a model, and has no value. To do: call functions "
            "of keras.ops or layers on it."
        )
    if isinstance(value, list | tuple) and has_tensors(value):
        items = [tensor(item) for item in value]
        dtype = result_type(*(item.kind for item in items))
        return Tensor(ksym.stack([item.graph_in(dtype) for item in items]), dtype)
    array = as_array(value)
    dtype = dtypes.as_dtype(array.dtype)
    return Tensor(ksym.constant(array.astype(dtypes.stored(dtype), copy=False)), dtype)


def has_tensors(value: Any) -> bool:
    """Return whether a symbolic tensor is in a value, at any depth."""
    if isinstance(value, Tensor):
        return True
    if isinstance(value, list | tuple):
        return any(map(has_tensors, value))
    if isinstance(value, dict):
        return any(map(has_tensors, value.values()))
    return isinstance(value, KerasVariable) and isinstance(value.value, Tensor)


def _flat_kinds(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _flat_kinds(item)
    else:
        yield getattr(value, "dtype", type(value))


def as_array(value: Any, dtype: str | None = None) -> np.ndarray:
    """Return a value that is known as an array; lists of Python's numbers are of Keras's dtypes.

    Args:
        value: An array, a number, nested lists, or an array of another library.
        dtype: Keras's dtype of the result; by default that of the value.
    """
    if isinstance(value, KerasVariable):
        value = value.value
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        return array if dtype is None else array.astype(dtypes.numpy_dtype(dtype), copy=False)
    if dtype is None and isinstance(value, list | tuple | bool | int | float):
        kinds = list(_flat_kinds(value))
        dtype = result_type(*kinds) if kinds else dtypes.as_dtype(None)
    if dtype is not None and isinstance(value, list | tuple | bool | int | float):
        if isinstance(value, list | tuple):
            value = [item if isinstance(item, WEAK) else as_array(item, dtype) for item in value]
        return np.asarray(value).astype(dtypes.numpy_dtype(dtype))
    array = np.asarray(value)
    return array if dtype is None else array.astype(dtypes.numpy_dtype(dtype))


def promoted(*values: Tensor, with_float: bool = False) -> tuple[str, list[ksym.Tensor]]:
    """Return Keras's common dtype of tensors, and the tensors of ksym in it.

    Args:
        values: The tensors.
        with_float: Promote with a Python float as well, as true division does.
    """
    kinds = [value.kind for value in values]
    dtype = result_type(*kinds, float) if with_float else result_type(*kinds)
    return dtype, [value.graph_in(dtype) for value in values]


def made(graph: ksym.Tensor, dtype: str) -> Tensor:
    """Return values just computed as a tensor of one of Keras's dtypes: rounded or wrapped."""
    return Tensor(dtypes.fitted(graph, dtype), dtype)


def kept(graph: ksym.Tensor, like: Tensor) -> Tensor:
    """Return elements of a tensor, moved to other places, as a tensor of its dtype."""
    return Tensor(graph, like.dtype)


def floating(x: Tensor) -> tuple[str, ksym.Tensor]:
    """Return the dtype of exp(x) in Keras, and x in it: integers become floats."""
    dtype = floatx() if x.weak is None and x.dtype == "int64" else result_type(x.kind, float)
    return dtype, x.graph_in(dtype)


def floatx() -> str:
    """Return Keras's default float dtype."""
    return dtypes.as_dtype(None)
