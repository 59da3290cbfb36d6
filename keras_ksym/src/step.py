"""A step of training, evaluation or prediction as one function of ksym's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from keras.src import tree
from keras.src.backend.common.stateless_scope import StatelessScope

import ksym
from keras_ksym.src import dtypes
from keras_ksym.src.tensor import Tensor, tensor
from keras_ksym.src.tracing import tracing
from keras_ksym.src.variable import BY_ID, Variable
from ksym.recent import Recent


class _Compiled:
    """A step that was traced for data of some structure, and compiled.

    Args:
        body: The step, called with symbolic data.
        variables: All variables that it may change.
        data: A batch.
        inputs: The shapes of placeholders for the arrays of a batch, or None to see their values.
    """

    def __init__(
        self,
        body: Callable[[Any], Any],
        variables: Iterable[Variable],
        data: Any,
        inputs: list[tuple[int | None, ...]] | None,
    ):
        arrays = [leaf for leaf in tree.flatten(data) if leaf is not None]
        self.dtypes = [dtypes.stored(dtypes.as_dtype(array.dtype)) for array in arrays]
        slots: list[ksym.Tensor] = []

        def opened(array: Any) -> Any:
            if array is None:
                return None
            dtype = dtypes.as_dtype(array.dtype)
            if inputs is None:
                return tensor(array)
            slots.append(ksym.placeholder(inputs[len(slots)], dtypes.stored(dtype)))
            return Tensor(slots[-1], dtype)

        symbols = tree.map_structure(opened, data)
        with tracing(visible=inputs is None):
            mapping = [(v, Tensor(v.state, v._dtype)) for v in variables if v.state is not None]
            scope = StatelessScope(state_mapping=mapping, collect_losses=True)
            with scope:
                result = body(symbols)
        self.result = result
        self.leaves = tree.flatten(result)
        self.places = [i for i, leaf in enumerate(self.leaves) if isinstance(leaf, Tensor)]
        updates = []
        for key, value in scope.state_mapping.items():
            variable = BY_ID.get(key)
            if variable is None or variable.state is None:
                continue
            new = tensor(value)
            if new._graph is not variable.state:
                updates.append((variable.state, new.graph_in(variable._dtype)))
        self.compute = ksym.function(
            slots,
            [self.leaves[i].graph for i in self.places],
            updates=updates,
            on_unused_input="ignore",
            name=getattr(body, "__name__", "step"),
            mode="interpret" if inputs is None else "native",
        )
        self.logical = [
            None if dtypes.stored(d) == d else dtypes.numpy_dtype(d)
            for d in (self.leaves[i].dtype for i in self.places)
        ]
        # The commonest results are handed on without a walk over their structure.
        self.names: list[str] | None = None
        if isinstance(result, dict) and len(result) == len(self.places) == len(self.leaves):
            self.names = None if any(self.logical) else sorted(result)

    def __call__(self, arrays: list[np.ndarray]) -> Any:
        """Return the results for the arrays of a batch."""
        values = self.compute(*arrays)
        if self.names is not None:
            return dict(zip(self.names, values, strict=True))
        leaves = list(self.leaves)
        for place, value, dtype in zip(self.places, values, self.logical, strict=True):
            leaves[place] = value if dtype is None else value.astype(dtype)
        return tree.pack_sequence_as(self.result, leaves)


STEPS = 256
"""The number of traced steps that are kept."""


class Step:
    """A step of a model's, compiled for each structure of its data.

    It is traced once for batches of all sizes, if its Python code can be: a size that is not known
    is a symbolic number there.  If it cannot, it is traced for each size.

    Args:
        body: The step, called with symbolic data.
        variables: Returns all variables that it may change.
        eager: Whether to trace and interpret each call, so that Python sees the values.
    """

    def __init__(
        self, body: Callable[[Any], Any], variables: Callable[[], list[Variable]], eager: bool
    ):
        self.body = body
        self.variables = variables
        self.eager = eager
        self._traced: Recent[_Compiled] = Recent(STEPS)
        self._need_sizes: set[Any] = set()

    def __call__(self, data: Any) -> Any:
        """Carry out the step with a batch, and return its results."""
        arrays = [np.asarray(leaf) for leaf in tree.flatten(data) if leaf is not None]
        if self.eager:
            return self._trace(data, None)([])
        compiled = self._compiled(data, arrays)
        return compiled(_stored(arrays, compiled.dtypes))

    def _compiled(self, data: Any, arrays: list[np.ndarray]) -> _Compiled:
        """Return the step for batches like this one, traced if it has not been."""
        size = next((array.shape[0] for array in arrays if array.ndim), None)
        opened = [_opened(array.shape, size) for array in arrays]
        # Of any batch size, if some array has one.
        key: Any = (_form(data), *opened, *(array.dtype for array in arrays))
        if size is not None and key not in self._need_sizes:
            try:
                return self._traced.get(key, lambda: self._trace(data, opened))
            except Exception:  # noqa: BLE001 - whatever Python code raises without a number
                pass  # it needs the size, or is wrong: then the same comes of the trace below
        shapes = [array.shape for array in arrays]
        compiled = self._traced.get((key, *shapes), lambda: self._trace(data, shapes))
        self._need_sizes.add(key)
        return compiled

    def _trace(self, data: Any, shapes: list[tuple[int | None, ...]] | None) -> _Compiled:
        return _Compiled(self.body, self.variables(), data, shapes)


def _opened(shape: tuple[int, ...], size: int | None) -> tuple[int | None, ...]:
    """Return a shape without the number of rows, if that is the size of the batch."""
    return (None, *shape[1:]) if shape and shape[0] == size else shape


def _form(data: Any) -> Any:
    """Return a hashable description of a nested structure, with None where there is no array."""
    if isinstance(data, dict):
        return ("dict", *((k, _form(data[k])) for k in sorted(data)))
    if isinstance(data, list | tuple):
        return (type(data), *map(_form, data))
    return data is None


def _stored(arrays: list[np.ndarray], wanted: list[str]) -> list[np.ndarray]:
    return [
        a if a.dtype.name == dtype else a.astype(dtype)
        for a, dtype in zip(arrays, wanted, strict=True)
    ]
