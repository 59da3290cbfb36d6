"""Attributes of TensorFlow's tensors that users of Keras read, on top of ksym's own.

A shape is still a tuple and a dtype still a `str`, and both equal what they were; they are of
subclasses that know ``as_list()`` and ``name``.  Nothing of ksym reads any of this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ksym import dtypes, shapes
from ksym.graph import Node, Spec, Tensor
from ksym.keras.session import SESSION


class Dimension(int):
    """A size that also has it as its ``value``."""

    __slots__ = ()

    @property
    def value(self) -> int:
        """The size as a plain int."""
        return int(self)


class StaticShape(tuple[int | None, ...]):
    """A tensor's shape: a tuple of sizes, None where one is not known, with TensorFlow's names."""

    __slots__ = ()

    def as_list(self) -> list[int | None]:
        """Return the sizes as a list."""
        return list(self)

    @property
    def dims(self) -> list[int | None]:
        """The sizes as a list."""
        return list(self)

    @property
    def ndims(self) -> int:
        """The number of axes."""
        return len(self)

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self)

    def is_fully_defined(self) -> bool:
        """Return whether every size is known."""
        return shapes.is_known(self)

    def num_elements(self) -> int | None:
        """Return the number of elements, None if a size is not known."""
        return shapes.size(self)

    def __reduce__(self) -> Any:
        return tuple, (tuple(self),)


class DType(str):
    """A dtype's name, with TensorFlow's names for what it says."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The name as a plain `str`."""
        return str(self)

    @property
    def base_dtype(self) -> DType:
        """The dtype itself: no tensor of ksym is a reference."""
        return self

    @property
    def as_numpy_dtype(self) -> type[np.generic]:
        """NumPy's type of a scalar."""
        return np.dtype(str(self)).type

    @property
    def is_floating(self) -> bool:
        """Whether it is a float dtype."""
        return dtypes.is_float(self)

    @property
    def is_integer(self) -> bool:
        """Whether it is an integer dtype, which bool is not."""
        return dtypes.kind(self) == 1

    @property
    def is_bool(self) -> bool:
        """Whether it is bool."""
        return dtypes.kind(self) == 0

    def __reduce__(self) -> Any:
        return str, (str(self),)


class Operation:
    """The operator application that made a tensor, as ``tensor.op``."""

    def __init__(self, node: Node):
        self.node = node

    @property
    def name(self) -> str:
        """The name of the tensor that it makes, or of the first of them."""
        return self.node.outputs[0].name.partition(":")[0]

    @property
    def type(self) -> str:
        """The operator's name."""
        return self.node.operator.name

    @property
    def inputs(self) -> list[Tensor]:
        """The operands."""
        return list(self.node.inputs)

    @property
    def outputs(self) -> list[Tensor]:
        """The results."""
        return list(self.node.outputs)

    def __repr__(self) -> str:
        return f"<Operation {self.name} of type {self.type}>"


_DTYPES = {name: DType(name) for name in dtypes.SUPPORTED}


def _get_shape(self: Tensor) -> StaticShape:
    """Return the shape, whose known sizes have a ``value`` too."""
    return StaticShape(None if side is None else Dimension(side) for side in self.shape)


def _set_shape(self: Tensor, shape: Any) -> None:
    """Fill in sizes that were not inferred."""
    self._keras_shape = shape  # type: ignore[attr-defined]


def _eval(self: Tensor, feed_dict: Mapping[Tensor, Any] | None = None, session: Any = None) -> Any:
    """Return the value, given those of placeholders."""
    return SESSION.run(self, feed_dict)


def install() -> None:
    """Give tensors the attributes; a later call does nothing."""
    if hasattr(Tensor, "get_shape"):
        return
    original = Tensor.__init__

    def init(self: Tensor, node: Node, index: int, spec: Spec) -> None:
        original(self, node, index, spec)
        if type(spec.shape) is not StaticShape:  # which it is for the many that have an operand's
            self.shape = StaticShape(spec.shape)
        self.dtype = _DTYPES[spec.dtype]

    Tensor.__init__ = init  # type: ignore[method-assign]
    Tensor.get_shape = _get_shape  # type: ignore[attr-defined]
    Tensor.set_shape = _set_shape  # type: ignore[attr-defined]
    Tensor.eval = _eval  # type: ignore[method-assign, assignment]
    Tensor.op = property(lambda self: Operation(self.node))  # type: ignore[attr-defined]
