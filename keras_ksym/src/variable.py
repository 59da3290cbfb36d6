"""Keras's variables, each of which holds one of ksym's."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from keras.src.backend.common import KerasVariable

import ksym
from keras_ksym.src import dtypes
from keras_ksym.src.tensor import Tensor
from keras_ksym.src.tracing import is_tracing

BY_ID: weakref.WeakValueDictionary[int, Variable] = weakref.WeakValueDictionary()
"""All variables by their ids, by which Keras's `StatelessScope` knows them."""


class Variable(KerasVariable):  # type: ignore[misc] # Keras has no types
    """A variable of Keras.

    While a function is traced its value is symbolic: the function reads the variable at each call.

    Attributes:
        state: The variable of ksym; None as long as there is no value.
    """

    __array_priority__ = 1000
    state: ksym.Variable | None = None

    @property
    def _value(self) -> Any:
        state = self.state
        if state is None:
            return None
        if is_tracing():
            return Tensor(state, self._dtype)
        value = state.get_value()
        dtype = self._dtype
        return value if dtype == state.dtype else value.astype(dtypes.numpy_dtype(dtype))

    @_value.setter
    def _value(self, value: Any) -> None:
        if value is None:
            self.state = None
        else:
            self._initialize(value)

    def _initialize(self, value: Any) -> None:
        array = np.asarray(value).astype(dtypes.stored(self._dtype))
        self.state = ksym.Variable(array, name=self._name)
        BY_ID[id(self)] = self

    def _direct_assign(self, value: Any) -> None:
        assert self.state is not None
        array = np.asarray(value)
        self.state.set_value(array.astype(self.state.dtype, copy=False))

    def _convert_to_tensor(self, value: Any, dtype: Any = None) -> Any:
        from keras_ksym.src.ops.core import convert_to_tensor

        return convert_to_tensor(value, dtype=dtype)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        value = np.asarray(self.value)
        return value if dtype is None else value.astype(dtype)
