"""Graphs as plain data, and back: one flat list of nodes, those of loops' bodies among them.

Reading trusts nothing.  Each node is made as a call of its operator makes it
(`Operator.restore`), so a graph from a file has been checked like one that a program builds; and
the work for it is limited.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ksym import errors
from ksym.errors import GraphError, KsymError
from ksym.graph import FrozenArray, Node, Spec, Tensor, collection_paused
from ksym.loops.body import Body
from ksym.operator.declaration import operator_named
from ksym.ops.gradient_rules import with_gradient
from ksym.ops.leaves import placeholder, variable_leaf
from ksym.ops.random.streams import RandomStream
from ksym.origin import Origin, provenance
from ksym.saving.container import MOST_AXES
from ksym.variables import Variable

MOST_NODES = 1_000_000
"""The largest number of nodes of a graph that is read, if each body is counted where it is used."""

MOST_NESTED = 16
"""The largest number of loops and branches within each other in a graph that is read."""

_ERRORS: dict[str, type[KsymError]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, KsymError)
}


# --- writing -------------------------------------------------------------------------------------


class Encoder:
    """Writes tensors as plain data.

    Attributes:
        nodes: The nodes so far, each ``[operator, operands, attributes, results, origin]``.
        origins: The origins of nodes, each once.
        variables: The variables, each once.
        streams: The random streams, each once.
        arrays: The arrays in the graph.
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.origins: dict[Origin, int] = {}
        self.variables: dict[Variable, int] = {}
        self.streams: dict[RandomStream, int] = {}
        self.arrays: list[np.ndarray] = []
        self._positions: dict[Node, int] = {}

    def add(self, outputs: Sequence[Tensor]) -> None:
        """Add the nodes that tensors depend on, also in bodies; operands before what reads them.

        Raises:
            GraphError: An attribute of a node is of a kind that files do not hold.
        """
        for node in sorted(_with_bodies(outputs), key=lambda node: node.number):
            if node not in self._positions and node.operator is not with_gradient:
                self._positions[node] = len(self.nodes)
                self.nodes.append(self._node(node))

    def reference(self, tensor: Tensor) -> list[int]:
        """Return the position of a tensor's node, and its number among the results."""
        while tensor.node.operator is with_gradient:  # nothing is differentiated in a file
            tensor = tensor.node.inputs[tensor.index]
        return [self._positions[tensor.node], tensor.index]

    def _node(self, node: Node) -> list[Any]:
        leaf = node.outputs[0]
        if isinstance(leaf, Variable):
            attributes: dict[str, Any] = {
                "variable": self.variables.setdefault(leaf, len(self.variables))
            }
        else:
            attributes = {}
            for name, value in node.attributes.items():
                try:
                    attributes[name] = self.value(value)
                except GraphError as error:
                    error.details = (f"attribute: {name}",)
                    raise error.located(node.operator.name, origin=node.origin) from None
        return [
            node.operator.name,
            [self.reference(t) for t in node.inputs],
            attributes,
            [[list(t.shape), t.dtype] for t in node.outputs],
            self.origins.setdefault(node.origin, len(self.origins)),
        ]

    def value(self, value: Any) -> Any:
        """Return an attribute as plain data.

        Raises:
            GraphError: It is of a kind that files do not hold.
        """
        if isinstance(value, float) and not math.isfinite(value):
            return {"float": str(value)}
        for kind in (bool, int, float, str):
            if isinstance(value, kind):
                return kind(value)
        if value is None:
            return None
        if isinstance(value, Spec):
            return {"spec": [list(value.shape), value.dtype]}
        if isinstance(value, tuple):
            return [self.value(item) for item in value]
        if isinstance(value, FrozenArray):
            self.arrays.append(value.array)
            return {"array": len(self.arrays) - 1}
        if isinstance(value, RandomStream):
            return {"stream": self.streams.setdefault(value, len(self.streams))}
        if isinstance(value, Body):
            inputs, outputs = ([self.reference(t) for t in part] for part in _parts(value))
            return {"body": [inputs, outputs]}
        if isinstance(value, KsymError) and type(value).__name__ in _ERRORS:
            told = [value.problem, value.remedy, list(value.details), value.operator]
            return {"error": [type(value).__name__, *told, list(value.operands)]}
        raise GraphError(
            f"a {type(value).__qualname__} is not kept in files, which run no code",
            remedy="keep numbers, text, ksym.graph.FrozenArray or tuples of them as attributes of "
            "an operator; or use pickle, where the file is trusted",
        )


def _parts(body: Body) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    return body.inputs, body.outputs


def _bodies(attributes: Mapping[str, Any]) -> list[Body]:
    return [value for value in attributes.values() if isinstance(value, Body)]


def _with_bodies(outputs: Iterable[Tensor]) -> set[Node]:
    """Return the nodes that tensors depend on, and those of all bodies of loops and branches."""
    found: set[Node] = set()
    stack = [tensor.node for tensor in outputs]
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack.extend(tensor.node for tensor in node.inputs)
            for body in _bodies(node.attributes):
                stack.extend(tensor.node for tensor in (*body.inputs, *body.outputs))
    return found


# --- reading -------------------------------------------------------------------------------------


class Wrong(Exception):  # noqa: N818 - it becomes a FileError, which says where
    """A part of a file that is not as it should be."""


def expect(condition: bool, what: str) -> None:
    """Raise an error unless a condition holds.

    Raises:
        Wrong: It does not.
    """
    if not condition:
        raise Wrong(what)


def items(value: Any, what: str, count: int | None = None) -> list[Any]:
    """Return a value that should be a list, of a number of items if that is given.

    Raises:
        Wrong: It is none.
    """
    expect(isinstance(value, list) and count in (None, len(value)), f"{what} are {value!r:.80}")
    found: list[Any] = value
    return found


def text(value: Any, what: str) -> str:
    """Return a value that should be a text.

    Raises:
        Wrong: It is none.
    """
    expect(isinstance(value, str), f"{what} is {value!r:.80}")
    return str(value)


def position(value: Any, count: int, what: str) -> int:
    """Return a value that should be the position of one of `count` things.

    Raises:
        Wrong: It is none.
    """
    expect(type(value) is int and 0 <= value < count, f"{what} is {value!r:.80}")
    return int(value)


class Decoder:
    """Makes tensors of plain data.

    Args:
        arrays: The arrays of the file; each is an attribute at most once.
        variables: The variables.
        streams: The random streams.
    """

    def __init__(
        self,
        arrays: Sequence[np.ndarray],
        variables: Sequence[Variable],
        streams: Sequence[RandomStream],
    ):
        self._arrays: list[np.ndarray | None] = list(arrays)
        self._variables = variables
        self._streams = streams
        self._nodes: list[Node] = []
        # For each body the number of nodes if it is written out, and the loops within each other.
        self._weights: dict[Body, tuple[int, int]] = {}
        self._left = MOST_NODES

    def add(self, nodes: Any, origins: Any) -> None:
        """Make nodes.

        Raises:
            Wrong: They are not as they should be.
        """
        places = [_origin(item) for item in items(origins, "the origins")]
        before = getattr(provenance, "origin", None)
        try:
            with collection_paused():
                for number, item in enumerate(items(nodes, "the nodes")):
                    self._make(number, item, places)
        finally:
            provenance.origin = before

    def _make(self, number: int, item: Any, places: Sequence[Origin]) -> None:
        name, operands, attributes, results, place = items(item, f"the parts of node {number}", 5)
        try:
            provenance.origin = places[position(place, len(places), "its origin")]
            operator = operator_named(text(name, "its operator"))
            inputs = [self.tensor(t) for t in items(operands, "its operands")]
            specs = [_spec(spec) for spec in items(results, "its results")]
            expect(isinstance(attributes, dict), "its attributes are no object")
            if operator is variable_leaf:
                at = position(attributes["variable"], len(self._variables), "its variable")
                leaf = self._variables[at]
                expect(not inputs and [leaf.spec] == specs, "it is not like its variable")
                self._nodes.append(leaf.node)
                return
            given = {key: self.value(value) for key, value in attributes.items()}
            for body in _bodies(given):
                self._weigh(body)
            self._nodes.append(operator.restore(inputs, given, specs))
        except Exception as error:
            raise Wrong(f"node {number}, {name!r:.40}: {error!s:.400}") from error

    def tensor(self, reference: Any) -> Tensor:
        """Return the tensor of a reference.

        Raises:
            Wrong: There is none before what refers to it.
        """
        node, index = items(reference, "the parts of a reference", 2)
        outputs = self._nodes[position(node, len(self._nodes), "the node of a reference")].outputs
        return outputs[position(index, len(outputs), "the number of a reference")]

    def value(self, value: Any) -> Any:
        """Return what plain data stand for.

        Raises:
            Wrong: They stand for nothing.
        """
        if isinstance(value, list):
            return tuple(self.value(item) for item in value)
        if not isinstance(value, dict):
            return value
        expect(len(value) == 1, f"an attribute is {value!r:.80}")
        ((kind, content),) = value.items()
        expect(kind in self._KINDS, f"an attribute is {value!r:.80}")
        return self._KINDS[kind](self, content)

    def _float(self, content: Any) -> float:
        expect(content in ("nan", "inf", "-inf"), f"a number is {content!r:.80}")
        return float(content)

    def _array(self, content: Any) -> FrozenArray:
        at = position(content, len(self._arrays), "an array")
        array, self._arrays[at] = self._arrays[at], None
        if array is None:
            raise Wrong(f"array {at} is used twice")
        return FrozenArray(array)

    def _stream(self, content: Any) -> RandomStream:
        return self._streams[position(content, len(self._streams), "a stream")]

    def _body(self, content: Any) -> Body:
        inputs, outputs = items(content, "the parts of a body", 2)
        return Body(
            *([self.tensor(t) for t in items(part, "tensors")] for part in (inputs, outputs))
        )

    def _error(self, content: Any) -> KsymError:
        kind, problem, remedy, details, operator, operands = items(content, "an error", 6)
        expect(kind in _ERRORS, f"an error is {kind!r:.80}")
        told = [text(line, "a line") for line in items(details, "lines")]
        error = _ERRORS[kind](
            text(problem, "a problem"),
            remedy=None if remedy is None else text(remedy, "a remedy"),
            details=told,
        )
        if operator is not None:
            error.operator = text(operator, "an operator")
        error.operands = tuple(text(line, "an operand") for line in items(operands, "operands"))
        return error

    def _as_spec(self, content: Any) -> Spec:
        return _spec(content)

    _KINDS: Mapping[str, Callable[[Decoder, Any], Any]] = {
        "float": _float,
        "array": _array,
        "stream": _stream,
        "body": _body,
        "error": _error,
        "spec": _as_spec,
    }

    def _weigh(self, body: Body) -> None:
        """Check that a body is closed, and that there is an end to the work for it."""
        parameters = {t.node for t in body.inputs}
        expect(
            all(t.node.operator is placeholder for t in body.inputs)
            and len(parameters) == len(body.inputs),
            "the parameters of a body are not placeholders, each once",
        )
        found: set[Node] = set()
        stack = [tensor.node for tensor in body.outputs]
        weight, nested = 1, 1
        while stack:
            node = stack.pop()
            if node in found:
                continue
            found.add(node)
            expect(
                node.operator not in (placeholder, variable_leaf) or node in parameters,
                "a body reads a placeholder or a variable that is not its own",
            )
            stack.extend(tensor.node for tensor in node.inputs)
            inner = [self._weights[each] for each in _bodies(node.attributes)]
            weight += 1 + sum(each for each, _ in inner)
            nested = max([nested, *(1 + depth for _, depth in inner)])
            self._left -= 1
            expect(
                weight <= MOST_NODES and nested <= MOST_NESTED and self._left > 0,
                "its loops take too much work",
            )
        self._weights[body] = weight, nested


def _spec(content: Any) -> Spec:
    shape, dtype = items(content, "a shape and a dtype", 2)
    sides = items(shape, "the sizes of a shape")
    expect(
        len(sides) <= MOST_AXES and all(side is None or type(side) is int for side in sides),
        f"a shape is {shape!r:.80}",
    )
    return Spec(tuple(sides), text(dtype, "a dtype"))


def _origin(content: Any) -> Origin:
    filename, line, function, scope, part_of, gradient = items(content, "the parts of an origin", 6)
    expect(type(line) is int and isinstance(gradient, bool), f"an origin is {content!r:.80}")
    what = "a part of an origin"
    return Origin(
        text(filename, what),
        line,
        text(function, what),
        text(scope, what),
        text(part_of, what),
        gradient,
    )
