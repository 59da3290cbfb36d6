"""A symbol of MXNet in the making."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ksym.compiler.codegen.nnvm import Entry, NativeGraph
from ksym.export.params import TYPE_FLAGS
from ksym.export.sizes import Varying

AUXILIARY = {"BatchNorm": (3, 4)}
"""The operands that MXNet counts as auxiliary states, by operator."""


class Symbol:
    """A symbol in the making: nodes with names, and the constants among its parameters.

    Attributes:
        nodes: The nodes in NNVM's JSON form.
        constants: The constants by their names.
        numpy_shapes: Whether there are scalars, or tensors without elements.
    """

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.constants: dict[str, np.ndarray] = {}
        self.numpy_shapes = False
        self._names: dict[str, int] = {}

    def unique(self, name: str) -> str:
        """Return a name that no other node has."""
        count = self._names.get(name, 0)
        self._names[name] = count + 1
        return f"{name}_{count}" if count else name

    def append(
        self,
        operator: str,
        name: str,
        inputs: Sequence[Entry],
        attributes: Mapping[str, Any],
        after: Sequence[int] = (),
    ) -> Entry:
        """Add a node, and return its first result."""
        node: dict[str, Any] = {
            "op": operator,
            "name": name,
            "attrs": {key: str(value) for key, value in attributes.items()},
            "inputs": [[entry.node, entry.output, 0] for entry in inputs],
        }
        if after:
            node["control_deps"] = list(after)
        self.nodes.append(node)
        return Entry(len(self.nodes) - 1, 0)

    def emit(self, operator: str, *inputs: Entry, **attributes: Any) -> Entry:
        """Add a node with a name of its own, and return its first result."""
        return self.append(operator, self.unique(operator.strip("_")), inputs, attributes)

    def parameter(self, name: str, shape: Sequence[int | None], dtype: str) -> Entry:
        """Add an input whose value is a parameter."""
        attributes = {"__dtype__": TYPE_FLAGS[dtype], "__shape__": tuple(shape)}
        return self.append("null", name, [], attributes)

    def constant(self, array: np.ndarray) -> Entry:
        """Add an array that is kept with the parameters."""
        name = self.unique("constant")
        self.constants[name] = array
        self.numpy_shapes |= 0 in array.shape or not array.shape
        return self.parameter(name, array.shape, array.dtype.name)

    def to_json(self, heads: list[Entry]) -> str:
        """Return the text that MXNet loads."""
        return NativeGraph(nodes=self.nodes, heads=heads).to_json()

    def auxiliary(self) -> set[str]:
        """Return the names of the parameters that MXNet counts as auxiliary states."""
        sources = (
            self.nodes[node["inputs"][place][0]]
            for node in self.nodes
            for place in AUXILIARY.get(node["op"], ())
        )
        return {source["name"] for source in sources if source["op"] == "null"}


def merging(own: Sequence[Varying], shape: Sequence[Varying]) -> tuple[int, ...] | None:
    """Return the codes of MXNet's Reshape that keep axes (0) or merge two (-3), if they do it.

    >>> merging([(5, 7), (4, 4), (2, 3), (6, 6)], [(20, 28), (2, 3), (6, 6)])
    (-3, 0, 0)
    """
    codes, left = [], list(own)
    for side in shape:
        if left and left[0] == side:
            codes.append(0)
            left.pop(0)
        elif len(left) > 1 and tuple(a * b for a, b in zip(*left[:2], strict=True)) == side:
            codes.append(-3)
            del left[:2]
        else:
            return None
    return None if left else tuple(codes)
