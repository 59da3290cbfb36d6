"""Keras's module core: conversion, tracing, control flow and scattering."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from keras.src import tree
from keras.src.backend.common import KerasVariable
from keras.src.backend.common.keras_tensor import KerasTensor
from keras.src.backend.common.stateless_scope import StatelessScope
from keras.src.backend.common.symbolic_scope import SymbolicScope

import ksym
from keras_ksym.src import dtypes
from keras_ksym.src.operation import Operand, operation
from keras_ksym.src.ops.control import (
    associative_scan,
    cond,
    fori_loop,
    map,
    scan,
    switch,
    vectorized_map,
    while_loop,
)
from keras_ksym.src.ops.gradients import custom_gradient, remat
from keras_ksym.src.ops.scattering import scatter, scatter_update, slice, slice_update
from keras_ksym.src.scopes import name_scope
from keras_ksym.src.tensor import Tensor, as_array, has_tensors, tensor
from keras_ksym.src.tracing import tracing
from keras_ksym.src.variable import Variable

SUPPORTS_SPARSE_TENSORS = False
SUPPORTS_RAGGED_TENSORS = False
SUPPORTS_COMPLEX_DTYPES = False
IS_THREAD_SAFE = False

__all__ = [
    *("IS_THREAD_SAFE", "SUPPORTS_COMPLEX_DTYPES", "SUPPORTS_RAGGED_TENSORS"),
    *("SUPPORTS_SPARSE_TENSORS", "Variable", "associative_scan", "cast", "compute_output_spec"),
    *("cond", "convert_to_numpy", "convert_to_tensor", "custom_gradient", "device_scope"),
    *("fori_loop", "is_tensor", "map", "name_scope", "random_seed_dtype", "remat", "scan"),
    *("scatter", "scatter_update", "shape", "slice", "slice_update", "stop_gradient", "switch"),
    *("unstack", "vectorized_map", "while_loop"),
]


def convert_to_tensor(
    x: Any, dtype: Any = None, sparse: bool | None = None, ragged: bool | None = None
) -> Any:
    """Return a value as a tensor: an array, or what is symbolic.

    Raises:
        ValueError: A sparse or ragged tensor is asked for.
    """
    if sparse or ragged:
        kind = "sparse" if sparse else "ragged"
        raise ValueError(
            f"`{kind}=True` is not supported with the ksym backend: its tensors are dense. "
            "To do: give dense arrays."
        )
    name = None if dtype is None else dtypes.as_dtype(dtype)
    if isinstance(x, KerasVariable):
        x = x.value
    if has_tensors(x):
        x = tensor(x)
        return x if name is None or name == x.dtype else x.astype(name)
    if isinstance(x, KerasTensor):
        tensor(x)  # refuses it
    if name is not None:
        dtypes.stored(name)  # refuses what ksym does not have
    array = as_array(x, name)
    if array.dtype.kind == "c":
        dtypes.stored(array.dtype.name)  # likewise
    return array


def convert_to_numpy(x: Any) -> np.ndarray:
    """Return the value of a tensor as an array of NumPy's, a copy."""
    return np.array(x)


def is_tensor(x: Any) -> bool:
    """Return whether x is a tensor of the backend: an array of numbers, or symbolic."""
    if isinstance(x, np.ndarray | np.generic):
        return x.dtype.kind not in "OSUMm"  # objects, texts, dates
    return isinstance(x, Tensor)


def shape(x: Any) -> tuple[Any, ...]:
    """Return the sizes of the axes: numbers, and symbolic ones where they depend on the call."""
    if isinstance(x, KerasVariable):
        x = x.value
    if not isinstance(x, Tensor):
        return tuple(x.shape)
    if None not in x.shape:
        return tuple(x.shape)
    sides = ksym.cast(ksym.shape_of(x.graph), "int32")
    return tuple(
        Tensor(sides[axis], "int32") if side is None else side for axis, side in enumerate(x.shape)
    )


def cast(x: Any, dtype: Any) -> Any:
    """Return a tensor in another dtype."""
    return convert_to_tensor(x, dtype)


def compute_output_spec(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return the shapes and dtypes of a function's results, without computing them."""
    with StatelessScope(), SymbolicScope(), tracing():
        try:
            return _spec(fn, args, kwargs, None)
        except Exception:
            if not any(
                isinstance(x, KerasTensor) and None in x.shape for x in tree.flatten((args, kwargs))
            ):
                raise
        # Python code of the user's may need numbers: sizes that differ in two runs are not known.
        first = _spec(fn, args, kwargs, 83)
        second = _spec(fn, args, kwargs, 89)
        return tree.map_structure(_common, first, second)


def _spec(fn: Callable[..., Any], args: Any, kwargs: Any, side: int | None) -> Any:
    def opened(x: Any) -> Any:
        if not isinstance(x, KerasTensor):
            return x
        sides = [side if s is None else s for s in x.shape]
        return Tensor(ksym.placeholder(sides, dtypes.stored(x.dtype)), x.dtype)

    def closed(x: Any) -> Any:
        if isinstance(x, KerasVariable):
            x = x.value
        return KerasTensor(x.shape, dtypes.as_dtype(x.dtype)) if is_tensor(x) else x

    inside, named = tree.map_structure(opened, (args, kwargs))
    return tree.map_structure(closed, fn(*inside, **named))


def _common(first: Any, second: Any) -> Any:
    if not isinstance(first, KerasTensor):
        return first
    sides = [a if a == b else None for a, b in zip(first.shape, second.shape, strict=True)]
    return KerasTensor(sides, first.dtype)


@operation
def stop_gradient(variable: Operand) -> Tensor:
    """Return a tensor, through which no gradient flows."""
    return Tensor(ksym.stop_gradient(variable.graph), variable.dtype)


@operation
def unstack(x: Operand, num: int | None = None, axis: int = 0) -> list[Tensor]:
    """Return the slices along an axis, without it."""
    if num is not None and x.shape[axis] is None:
        parts: Sequence[ksym.Tensor] = [ksym.take(x.graph, i, axis) for i in range(num)]
    else:
        parts = ksym.unstack(x.graph, axis)
    return [Tensor(part, x.dtype) for part in parts]


def random_seed_dtype() -> str:
    """Return the dtype of the states of Keras's seed generators."""
    return "uint32"


@contextlib.contextmanager
def device_scope(device_name: str) -> Iterator[None]:
    """Run on the device that ksym was told, whatever the scope says: ksym.set_device chooses it."""
    if not isinstance(device_name, str):
        raise ValueError(
            "Invalid value for argument `device_name`. Expected a string like 'gpu:0'. "
            f"Received: device_name='{device_name}'"
        )
    yield
