"""The leaves of a graph: constants, placeholders and variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, shapes
from ksym.errors import GraphError, KsymError
from ksym.graph import FrozenArray, Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter, OnnxEmitter
from ksym.operator.sampling import Draw, Sample

__all__ = ["placeholder", "constant"]


class Leaf(Operator):
    """The base of leaves, of which two are never the same, however alike they look."""

    pure = False

    def lower(self, emit: Emitter, node: Node) -> Any:
        return emit.leaf(node)


class _Placeholder(Leaf):
    def prepare(
        self,
        shape: Any = (),
        dtype: Any = dtypes.DEFAULT_FLOAT,
        name: str | None = None,
        default: Any = None,
        static: bool = False,
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        dtype = dtypes.canonical(dtype)
        if default is not None and not isinstance(default, FrozenArray):
            default = FrozenArray(dtypes.converted(default, dtype))
        return [], {
            "shape": shapes.normalize(shape),
            "dtype": dtype,
            "name": name,
            "default": default,
            "static": bool(static),
        }

    def infer(self, shape: Any, dtype: str, **_: Any) -> Spec:
        return Spec(shape, dtype)

    def known(self, **_: Any) -> np.ndarray | None:
        return None


placeholder = _Placeholder(
    "placeholder",
    doc="""Return a tensor whose value a call gives.

    Args:
        shape: Its shape, with None for sizes that may differ from call to call.
        dtype: Its dtype.
        name: A name for messages.
        default: The value if a function depends on it but does not take it as an input.
        static: Compile a function anew for each value (of few), rather than once for all: for
            switches that decide which part of a graph is needed.
    """,
)


class _VariableLeaf(Leaf):
    internal = "a `Variable` makes it"

    def infer(self, shape: Any, dtype: str, **_: Any) -> Spec:
        return Spec(shape, dtype)

    def known(self, **_: Any) -> np.ndarray | None:
        return None


variable_leaf = _VariableLeaf("variable", doc="Return the value that a `Variable` has at the call.")


class _Folded(_VariableLeaf):
    internal = "`fold_variables` makes it"


folded_leaf = _Folded(
    "folded",
    doc="""Return a value that depends on variables only, and is kept until one of them changes.

    Args:
        shape: Its shape.
        dtype: Its dtype.
        name: A name for messages.
        in_blocks: Whether oneDNN may leave it in a layout of its own.
    """,
)


class _Failed(Leaf):
    internal = "stands for a node that refuses its operands, while it may turn out to be unneeded"

    def prepare(
        self, error: KsymError, spec: Spec, zero: bool = False
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [], {"error": error, "spec": spec, "zero": zero}

    def infer(self, error: KsymError, spec: Spec, zero: bool) -> Spec:
        return spec

    def known(self, **_: Any) -> np.ndarray | None:
        return None


failed = _Failed(
    "failed",
    doc="""Return a tensor that there is not: whoever computes it gets an error.

    Args:
        error: The error.
        spec: What was known of the tensor.
        zero: Whether its elements, if there were any, are zero.
    """,
)


def is_failed(tensor: Tensor) -> bool:
    """Return whether a tensor stands for one that cannot be computed."""
    return tensor.node.operator is failed


class Constant(Operator):
    """A value that is part of the graph."""

    def prepare(self, value: Any, dtype: Any = None) -> tuple[Sequence[Tensor], dict[str, Any]]:
        if dtype is None:
            array = dtypes.storable(value)
        else:
            array = dtypes.converted(value, dtypes.canonical(dtype))
        return [], {"value": FrozenArray(array)}

    def check_saved(self, operands: Sequence[Tensor], attributes: Mapping[str, Any]) -> None:
        if operands or not isinstance(attributes["value"], FrozenArray):
            raise GraphError("a constant is an array")

    def infer(self, value: FrozenArray) -> Spec:
        return Spec(value.array.shape, dtypes.name_of(value.array))

    def track_values(self, node: Node) -> None:
        node.outputs[0].value = node.attributes["value"].array

    def numpy(self, value: FrozenArray) -> np.ndarray:
        return value.array

    def onnx(self, emit: OnnxEmitter, node: Node) -> Any:
        value = node.attributes["value"].array
        return emit.constant(value, value.dtype.name)

    def lower(self, emit: Emitter, node: Node) -> Any:
        return emit.constant(node.attributes["value"].array)

    def sample(self, draw: Draw) -> Sample:
        dtype = draw.dtype("bool", "integer", "float")
        value = draw.array(draw.shape(min_side=0), -100, 100, dtype=dtype)
        return Sample(attributes={"value": value})


constant = Constant(
    doc="""Return a tensor with a fixed value.

    Args:
        value: A number, an array, or nested sequences of numbers.
        dtype: Convert to this dtype.  Without it NumPy values keep theirs and Python floats
            become float32.

    Raises:
        DTypeError: The value is not numeric, dtype is not supported, or it is an integer type and
            the value is not among its numbers.

    >>> constant([1, 2, 3]).spec
    Spec(shape=(3,), dtype='int64')
    """
)


def is_constant(tensor: Tensor) -> bool:
    """Return whether the tensor is a constant node's output."""
    return tensor.node.operator is constant
