"""What graphs of ONNX for several combinations of sizes have in common, with names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ksym.errors import GraphError
from ksym.export.onnx_graph import Inner, Kind, Made, OnnxGraph, Value
from ksym.export.sizes import Varying, difference_of, product_of, varies
from ksym.graph import FrozenArray

Written = tuple[str, list[str], list[str], Mapping[str, Any]]
"""The operator, the names of operands and results, and the attributes of a node."""


class WrittenBody(NamedTuple):
    """The body of a loop with names; as `Inner`.

    Attributes:
        nodes: The nodes.
        inputs: The names of states and elements.
        outputs: The names of new states and outputs.
        kinds: The dtype and the number of axes of each of these.
    """

    nodes: Sequence[Written]
    inputs: Sequence[str]
    outputs: Sequence[str]
    kinds: Sequence[Kind]


class Common:
    """What the graphs at all points have in common, with sizes instead of numbers.

    Args:
        graphs: The graphs.
        names: The names of inputs and parameters.
        results: The names of outputs, which no other value gets.

    Attributes:
        nodes: The nodes.
        constants: The constants by their names.
    """

    def __init__(
        self, graphs: Sequence[OnnxGraph], names: Mapping[Value, str], results: Sequence[str]
    ):
        self._all = graphs
        self._names: dict[Value, str] = dict(names)
        self._taken = {*names.values(), *results}
        self._frozen: dict[FrozenArray, str] = {}
        self._sources: dict[Varying, tuple[str, int]] = {}
        self._vectors: dict[Varying, str] = {}
        self._node = graphs[0].made[0].node if graphs[0].made else None
        self.nodes: list[Written] = []
        self.constants: dict[str, np.ndarray] = {}
        for value in names:
            self._learn(value)
        self._write([graph.made for graph in graphs], self.nodes)

    def _write(self, every: Sequence[Sequence[Made]], nodes: list[Written]) -> None:
        """Write nodes to a list: that of the graph, or that of a body inside of it."""
        for position, made in enumerate(every[0]):
            self._node = made.node
            self._check(position, made, every)
            inputs = [self._operand(made, i) for i in range(len(made.inputs))]
            attributes = dict(made.attributes)
            for key, value in made.attributes.items():
                if isinstance(value, Inner):
                    bodies = [part[position].attributes[key] for part in every]
                    attributes[key] = self._body(bodies)
            outputs = [self._name(value, made.operator) for value in made.outputs]
            nodes.append((made.operator, inputs, outputs, attributes))
            if nodes is self.nodes:  # nothing outside of a body reads what is inside
                for value in made.outputs:
                    self._learn(value)

    def _body(self, bodies: Sequence[Inner]) -> WrittenBody:
        first = bodies[0]
        inputs = [self._name(value, "element") for value in first.inputs]
        nodes: list[Written] = []
        self._write([body.made for body in bodies], nodes)
        outputs = [self._names[value] for value in first.outputs]
        return WrittenBody(nodes, inputs, outputs, first.kinds)

    def name(self, value: Value) -> str:
        """Return the name of a value."""
        if value in self._all[0].constants:
            return self._constant(value)
        return self._names[value]

    def emit(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node, and return the name of its result."""
        name = self.unique(operator)
        self.nodes.append((operator, list(inputs), [name], attributes))
        return name

    def unique(self, name: str) -> str:
        """Return a name that no other value has."""
        found, count = name, 0
        while found in self._taken:
            count += 1
            found = f"{name}_{count}"
        self._taken.add(found)
        return found

    def _refused(self, what: str) -> GraphError:
        error = GraphError(what, remedy="give the placeholders, or the model's inputs, that size")
        node = self._node
        if node is not None:
            error.located(node.operator.name, [t.spec for t in node.inputs], node.origin)
        return error

    def _check(self, position: int, made: Made, every: Sequence[Sequence[Made]]) -> None:
        for other in every[1:]:
            same = other[position] if position < len(other) else None
            if same is None or (same.operator, same.inputs) != (made.operator, made.inputs):
                raise self._refused(
                    "which operators compute it depends on a size that is not known"
                )
            if any(
                value != same.attributes.get(key)
                for key, value in made.attributes.items()
                if not isinstance(value, Inner)
            ):
                raise self._refused(
                    f"it becomes ONNX's {made.operator}, whose attributes cannot depend on a size "
                    "that is not known"
                )

    def _name(self, value: Value, operator: str) -> str:
        return self._names.setdefault(value, self.unique(operator))

    def _learn(self, value: Value) -> None:
        if value not in self._all[0].shapes:
            return
        for axis, side in enumerate(self.shape(value)):
            if varies(side):
                self._sources.setdefault(side, (self._names[value], axis))

    def shape(self, value: Value) -> list[Varying]:
        """Return the sizes of a value at all points."""
        if any(value not in graph.shapes for graph in self._all):
            raise self._refused("which operators compute it depends on a size that is not known")
        return list(zip(*(graph.shapes[value] for graph in self._all), strict=True))

    def _operand(self, made: Made, place: int) -> str:
        value = made.inputs[place]
        if value is None:
            return ""
        if value not in self._all[0].constants:
            return self._names[value]
        known = all(value in graph.constants for graph in self._all)
        if made.operator == "Reshape" and place == 1 and known:
            sides = list(zip(*(g.constants[value].tolist() for g in self._all), strict=True))
            if sum(map(varies, sides)) == 1 and not any(0 in side for side in sides):
                return self._kept(
                    np.array([-1 if varies(side) else side[0] for side in sides], "int64")
                )
        return self._constant(value)

    def _kept(self, array: np.ndarray) -> str:
        frozen = FrozenArray(array)
        if frozen not in self._frozen:
            self._frozen[frozen] = name = self.unique("constant")
            self.constants[name] = frozen.array
        return self._frozen[frozen]

    def _constant(self, value: Value) -> str:
        """Return the name of a constant, which is computed if it depends on sizes."""
        if any(value not in graph.constants for graph in self._all):
            raise self._refused("which operators compute it depends on a size that is not known")
        if value not in self._names:
            self._names[value] = self._general([graph.constants[value] for graph in self._all])
        return self._names[value]

    def _general(self, every: Sequence[np.ndarray]) -> str:
        first = every[0]
        if all(np.array_equal(first, a, equal_nan=a.dtype.kind == "f") for a in every[1:]):
            return self._kept(first)
        if len({a.shape for a in every}) == 1 and first.ndim <= 1:
            if first.dtype.kind == "f" and first.size == 1:
                return self._shaped(self._factor(tuple(a.item() for a in every), first), first)
            if first.dtype.kind == "i":
                columns = list(zip(*(a.reshape(-1).tolist() for a in every), strict=True))
                vector = self._vector(columns)
                if first.dtype != np.int64:
                    vector = self.emit("Cast", vector, to=first.dtype)
                return self._shaped(vector, first)
        if len({a.ndim for a in every}) == 1:
            found = self._stretched(every) or self._counted(every)
            if found:
                return found
        raise self._refused("its values depend on a size that is not known")

    def _shaped(self, vector: str, like: np.ndarray) -> str:
        """Return a vector as it is, or its only element."""
        return vector if like.ndim else self.emit("Squeeze", vector)

    def _vector(self, columns: Sequence[Varying]) -> str:
        """Return whole numbers that may depend on sizes as a vector of int64."""
        parts: list[str] = []
        fixed: list[int] = []
        for column in columns:
            if not varies(column):
                fixed.append(column[0])
                continue
            if fixed:
                parts.append(self._kept(np.array(fixed, "int64")))
                fixed = []
            parts.append(self._size(column))
        if fixed:
            parts.append(self._kept(np.array(fixed, "int64")))
        return parts[0] if len(parts) == 1 else self.emit("Concat", *parts, axis=0)

    def _size(self, values: Varying) -> str:
        """Return a whole number that depends on sizes as a vector of one element."""
        if values not in self._vectors:
            self._vectors[values] = self._computed(values)
        return self._vectors[values]

    def _computed(self, values: Varying) -> str:
        if values in self._sources:
            name, axis = self._sources[values]
            return self.emit("Shape", name, start=axis, end=axis + 1)
        moved = difference_of(values, self._sources)
        if moved is not None:
            size, more = moved
            return self.emit("Add", self._size(size), self._kept(np.array([more], "int64")))
        product = product_of(values, self._sources)
        if product is None or product.inverse or not product.factor.is_integer():
            raise self._refused("a number depends in an unknown way on a size that is not known")
        name = self._size(product.sizes[0])
        for size in product.sizes[1:]:
            name = self.emit("Mul", name, self._size(size))
        if product.factor != 1:
            name = self.emit("Mul", name, self._kept(np.array([product.factor], "int64")))
        return name

    def _factor(self, values: Varying, like: np.ndarray) -> str:
        """Return a float that depends on sizes as a vector of one element."""
        product = product_of(values, self._sources)
        if product is None:
            raise self._refused("a number depends in an unknown way on a size that is not known")
        name = self._kept(np.array([product.factor], like.dtype))
        for size in product.sizes:
            number = self.emit("Cast", self._size(size), to=like.dtype)
            name = self.emit("Div" if product.inverse else "Mul", name, number)
        return name

    def _stretched(self, every: Sequence[np.ndarray]) -> str | None:
        """Return an array that is the same along the axes whose sizes are not known."""
        shape: list[Varying] = list(zip(*(a.shape for a in every), strict=True))
        least = every[0][tuple(slice(0, 1 if varies(side) else None) for side in shape)]
        if not all(np.array_equal(np.broadcast_to(least, a.shape), a) for a in every):
            return None
        return self.emit("Expand", self._kept(least), self._vector(shape))

    def _counted(self, every: Sequence[np.ndarray]) -> str | None:
        """Return whole numbers in equal steps along an axis, as many as a size."""
        flat = [a.reshape(-1) for a in every]
        if any(a.size < 2 or a.size != max(a.shape) or a.dtype == bool for a in every):
            return None
        start, step = float(flat[0][0]), float(flat[0][1]) - float(flat[0][0])
        whole = start.is_integer() and step.is_integer() and step
        if not whole or not all(np.array_equal(a, start + step * np.arange(a.size)) for a in flat):
            return None
        ends = tuple(int(start + step * a.size) for a in flat)
        end = self.emit("Squeeze", self._vector([ends]))
        bounds = [self._kept(np.array(int(n), "int64")) for n in (start, step)]
        made = self.emit("Range", bounds[0], end, bounds[1])
        if every[0].ndim > 1:
            shape = [-1 if side > 1 else 1 for side in every[0].shape]
            made = self.emit("Reshape", made, self._kept(np.array(shape, "int64")))
        dtype = every[0].dtype
        return made if dtype == np.int64 else self.emit("Cast", made, to=dtype)
