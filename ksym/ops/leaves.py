"""The leaves of a graph that a call gives values to: placeholders and variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import dtypes, shapes
from ksym.graph import FrozenArray, Node, Spec, Tensor
from ksym.ops.registry import Emitter, Operator


class _Leaf(Operator):
    """Two leaves are never the same, however alike they look."""

    pure = False

    def lower(self, emit: Emitter, node: Node) -> Any:
        return emit.leaf(node)


class _Placeholder(_Leaf):
    def prepare(
        self,
        shape: Any = (),
        dtype: Any = dtypes.DEFAULT_FLOAT,
        name: str | None = None,
        default: Any = None,
        static: bool = False,
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        dtype = dtypes.canonical(dtype)
        if default is not None:
            default = FrozenArray(dtypes.storable(default).astype(dtype))
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


class _VariableLeaf(_Leaf):
    def infer(self, shape: Any, dtype: str, **_: Any) -> Spec:
        return Spec(shape, dtype)

    def known(self, **_: Any) -> np.ndarray | None:
        return None


variable_leaf = _VariableLeaf("variable", doc="The value that a `Variable` has at the call.")
