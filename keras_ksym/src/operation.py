"""Functions that take values and symbolic tensors alike.

A function of the backend is written once, on symbolic tensors.  Called with symbolic tensors it
adds to their graph.  Called with values it is traced with placeholders of their shapes and dtypes,
and the compiled function is kept.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from keras.src import tree
from keras.src.backend.common import KerasVariable

import ksym
from keras_ksym.src import dtypes
from keras_ksym.src.tensor import Tensor, as_array, has_tensors, tensor
from ksym.recent import Recent

Operand = Any
"""The annotation of a parameter that is a tensor: a value, a number, or symbolic."""

Operands = Any
"""The annotation of a parameter that is a sequence of tensors."""

COMPILED = 2048
"""The number of functions of values that are kept compiled."""

_compiled: Recent[Callable[[list[np.ndarray]], Any]] = Recent(COMPILED)
_lock = threading.RLock()
_NUMBERS = {bool: np.dtype("bool"), int: np.dtype("int64"), float: np.dtype("float64")}
_ROLES = ("Operand", "Operands")


def operation(body: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function of values and of symbolic tensors of one that takes symbolic ones.

    Parameters annotated as `Operand` or `Operands` are the tensors; the body gets each as a
    `Tensor`, or None.  All others have to be known when the function is traced.
    """
    call = _Call(body)

    @functools.wraps(body)
    def apply(*args: Any, **kwargs: Any) -> Any:
        arrays: list[np.ndarray] = []
        key: list[Any] = [body]
        positions, rest = call.positions, call.rest
        known = True
        for position, value in enumerate(args):
            role = positions[position] if position < len(positions) else rest
            known = _gather(value, role, key, arrays) and known
        for name, value in kwargs.items():
            key.append(name)
            known = _gather(value, call.named.get(name), key, arrays) and known
        if not known:
            return call.trace(args, kwargs, tensor)
        with _lock:
            compiled = _compiled.get(tuple(key), lambda: _compile(call, args, kwargs))
        return compiled(arrays)

    return apply


def named(name: str, doc: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function that was made for several of Keras's the name and the docstring of one."""
    body.__name__ = body.__qualname__ = name
    body.__doc__ = doc
    return body


def named_operation(name: str, doc: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """Make an `operation` of a body that was made for several of Keras's functions."""
    return operation(named(name, doc, body))


class _Call:
    """A body, and which of its parameters are tensors.

    Attributes:
        positions: The role of each positional parameter, None for what is no tensor.
        rest: The role of further positional arguments.
        named: The roles of the parameters that are tensors.
    """

    def __init__(self, body: Callable[..., Any]):
        self.body = body
        parameters = inspect.signature(body).parameters
        self.named = {
            name: str(parameter.annotation)
            for name, parameter in parameters.items()
            if str(parameter.annotation) in _ROLES
        }
        self.positions: list[str | None] = []
        self.rest: str | None = None
        for name, parameter in parameters.items():
            if parameter.kind is parameter.VAR_POSITIONAL:
                self.rest = self.named.get(name)
                break
            self.positions.append(self.named.get(name))

    def trace(self, args: Any, kwargs: Any, convert: Callable[[Any], Tensor]) -> Any:
        """Call the body with its tensors converted."""
        roles = [*self.positions[: len(args)], *[self.rest] * (len(args) - len(self.positions))]
        given = [_converted(v, role, convert) for v, role in zip(args, roles, strict=True)]
        named = {name: _converted(v, self.named.get(name), convert) for name, v in kwargs.items()}
        return self.body(*given, **named)


def _converted(value: Any, role: str | None, convert: Callable[[Any], Tensor]) -> Any:
    if role is None or value is None:
        return value
    if role == "Operands" and isinstance(value, list | tuple):
        return [convert(item) for item in value]
    return convert(value)


def _gather(value: Any, role: str | None, key: list[Any], arrays: list[np.ndarray]) -> bool:
    """Add an argument to the key, and to the arrays if it is a value; False if it is symbolic."""
    kind = type(value)
    if role is None:
        if isinstance(value, list | tuple | np.ndarray):
            if has_tensors(value):
                return False
            value = _frozen(value)
        elif isinstance(value, KerasVariable | Tensor):
            return False
        key.append((kind, value))
        return True
    if kind is np.ndarray:
        key.append((value.shape, value.dtype))
        arrays.append(value)
        return True
    if kind is Tensor:
        return False
    if kind in _NUMBERS:
        key.append(kind)
        arrays.append(_number(value, kind))
        return True
    if value is None:
        key.append(None)
        return True
    return _gather_others(value, role, key, arrays)


def _gather_others(value: Any, role: str, key: list[Any], arrays: list[np.ndarray]) -> bool:
    """Do what `_gather` does for operands that are neither arrays nor numbers."""
    if isinstance(value, KerasVariable):
        return _gather(value.value, role, key, arrays)
    if isinstance(value, list | tuple):
        if role == "Operands":
            key.append(len(value))
            # All of them are gathered, symbolic ones among them or not.
            known = [_gather(item, "Operand", key, arrays) for item in value]
            return all(known)
        if has_tensors(value):
            return False
    if type(value).__name__ == "KerasTensor":
        tensor(value)  # refuses it
    return _gather(as_array(value), role, key, arrays)


def _number(value: Any, kind: type) -> np.ndarray:
    try:
        return np.asarray(value, _NUMBERS[kind])
    except OverflowError:
        return np.asarray(float(value))


def _frozen(value: Any) -> Any:
    """Return a static argument that can be hashed."""
    if isinstance(value, list | tuple):
        return (type(value), *(_frozen(item) for item in value))
    if isinstance(value, np.ndarray):
        return ("array", str(value.dtype), value.shape, value.tobytes())
    return type(value), value


def _compile(call: _Call, args: Any, kwargs: Any) -> Callable[[list[np.ndarray]], Any]:
    """Trace a body for values of some shapes and dtypes, and compile it."""
    inputs: list[ksym.Tensor] = []
    given: list[str] = []

    def parameter(value: Any) -> Tensor:
        if isinstance(value, KerasVariable):
            return parameter(value.value)
        kind = type(value)
        if kind in _NUMBERS:
            given.append(_number(value, kind).dtype.name)
            inputs.append(ksym.placeholder((), given[-1]))
            return Tensor(inputs[-1], weak=kind)
        array = value if isinstance(value, np.ndarray) else as_array(value)
        dtype = dtypes.as_dtype(array.dtype)
        given.append(array.dtype.name)
        inputs.append(ksym.placeholder(array.shape, dtypes.stored(dtype)))
        return Tensor(inputs[-1], dtype)

    result = call.trace(args, kwargs, parameter)
    found = tree.flatten(result)
    places = [i for i, item in enumerate(found) if isinstance(item, Tensor)]
    logical = [_not_stored(found[i].dtype) for i in places]
    compute = _SecondTime(inputs, [found[i].graph for i in places], call.body.__name__)
    # The key has the dtypes, so what is converted at each call is known now.
    wide = [slot.dtype for slot in inputs]
    converted = [d if k != d else None for k, d in zip(given, wide, strict=True)]

    def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
        pairs = zip(arrays, converted, strict=True)
        return compute(*(a if dtype is None else a.astype(dtype) for a, dtype in pairs))

    if isinstance(result, Tensor) and logical[0] is None:
        if not any(converted):
            return lambda arrays: compute(*arrays)[0]
        return lambda arrays: run(arrays)[0]

    def packed(arrays: list[np.ndarray]) -> Any:
        leaves = list(found)
        for place, value, dtype in zip(places, run(arrays) if places else (), logical, strict=True):
            leaves[place] = value if dtype is None else value.astype(dtype)
        return tree.pack_sequence_as(result, leaves)

    return packed


class _SecondTime:
    """A function that is interpreted at its first call and compiled at its second.

    Compiling takes three times as long, and much of what is computed eagerly is computed once.
    Both run the same operators of MXNet's: the loops that ksym generates take 40 ms to compile,
    and are left out.

    Args:
        inputs: The placeholders.
        outputs: The results.
        name: A name for messages.
    """

    def __init__(self, inputs: list[ksym.Tensor], outputs: list[ksym.Tensor], name: str):
        self.graph = inputs, outputs
        self.name = name
        self.calls = 0
        self.compiled: Callable[..., list[np.ndarray]] | None = None

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        if self.compiled is not None:
            return self.compiled(*arrays)
        self.calls += 1
        function = ksym.function(
            *self.graph,
            on_unused_input="ignore",
            specializations=1,
            mode="interpret" if self.calls == 1 else "native",
            flags={"fuse_loops": False},
            name=self.name,
        )
        if self.calls > 1:
            self.compiled = function
        return function(*arrays)


def _not_stored(dtype: str) -> np.dtype | None:
    """Return NumPy's dtype of a result that is stored in another one, else None."""
    return None if dtypes.stored(dtype) == dtype else dtypes.numpy_dtype(dtype)
