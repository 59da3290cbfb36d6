"""Graphs of ONNX in the making, each for one combination of sizes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ksym import dtypes, shapes
from ksym.errors import GraphError, KsymError
from ksym.export.inference import Sized, body_of, in_order
from ksym.export.onnx_machine import OnnxMachine
from ksym.graph import Node, Tensor
from ksym.loops.view import ScanView, parted
from ksym.operator.declaration import Operator
from ksym.operator.emitter import OnnxEmitter
from ksym.operator.machine import NoFormula
from ksym.ops.leaves import variable_leaf

SINGLE = {
    *("Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Erf", "Det"),
    *("Conv", "ConvTranspose", "AveragePool", "RNN"),
}
"""Operators that onnxruntime has on CPUs for float32, and not for float64: they are computed so."""

Value = int
"""A value in a graph at a point: its number."""

UNREAD: Value = -1
"""The value of a result that nothing reads."""


class Made(NamedTuple):
    """An application of an operator of ONNX.

    Attributes:
        operator: Its name.
        inputs: Its operands, None for one that is left out.
        attributes: Its attributes.
        outputs: Its results.
        node: The node of ksym that it was made for.
    """

    operator: str
    inputs: tuple[Value | None, ...]
    attributes: Mapping[str, Any]
    outputs: tuple[Value, ...]
    node: Node


Kind = tuple[str, int]
"""A dtype and a number of axes."""


def _kinds(tensors: Iterable[Tensor]) -> list[Kind]:
    return [(tensor.dtype, tensor.rank) for tensor in tensors]


class Inner(NamedTuple):
    """The body of a loop; it may read all values of the graph around it.

    Attributes:
        made: The applications of operators, in order.
        inputs: The states, then an element of each sequence.
        outputs: The new states, then the outputs of a step.
        kinds: The dtype and the number of axes of each of these inputs and outputs.
    """

    made: Sequence[Made]
    inputs: Sequence[Value]
    outputs: Sequence[Value]
    kinds: Sequence[Kind]


class OnnxGraph(OnnxEmitter):
    """The graph for one combination of sizes.

    Attributes:
        made: The applications of operators, in order.
        constants: The constants.
        shapes: The shapes of values that are tensors of the graph.
        values: The value of each tensor.
    """

    def __init__(self, sized: Sized):
        self.made: list[Made] = []
        self.constants: dict[Value, np.ndarray] = {}
        self.shapes: dict[Value, Sequence[int]] = {}
        self.values: dict[Tensor, Value] = {}
        self._count = 0
        self._node: Node
        for tensor in sized.inputs:
            self._place(tensor, self._new())
        order = in_order(sized.outputs, sized.inputs)
        self._read = {t for node in order for t in node.inputs} | set(sized.outputs)
        self._write(order)

    def _write(self, order: Sequence[Node]) -> None:
        for node in order:
            self._node = node
            for tensor, value in zip(node.outputs, self._written(node), strict=True):
                self._place(tensor, value)

    def _new(self) -> Value:
        self._count += 1
        return self._count - 1

    def _place(self, tensor: Tensor, value: Value) -> None:
        if value == UNREAD:
            return
        self.values[tensor] = value
        self.shapes.setdefault(value, shapes.known(tensor.shape))

    def __call__(self, operator: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        if operator in SINGLE and self._node.outputs[0].dtype == "float64":
            inputs = tuple(x if x is None else self._cast(x, "float32") for x in inputs)
            made = self._apply(operator, inputs, outputs, attributes)
            made = tuple(self._cast(result, "float64") for result in made)
        else:
            made = self._apply(operator, inputs, outputs, attributes)
        return made[0] if outputs == 1 else made

    def _cast(self, value: Value, dtype: str) -> Value:
        return self._apply("Cast", (value,), 1, {"to": np.dtype(dtype)})[0]

    def _apply(
        self,
        operator: str,
        inputs: tuple[Value | None, ...],
        outputs: int,
        attributes: Mapping[str, Any],
    ) -> tuple[Value, ...]:
        given = {key: _plain(value) for key, value in attributes.items() if value is not None}
        results = tuple(self._new() for _ in range(outputs))
        self.made.append(Made(operator, inputs, given, results, self._node))
        return results

    def constant(self, value: Any, dtype: str = "int64") -> Value:
        number = self._new()
        self.constants[number] = np.array(value, dtype)
        return number

    def _written(self, node: Node) -> Sequence[Value]:
        if node.operator is variable_leaf:
            return [self._new()]
        if all(0 in tensor.shape for tensor in node.outputs):
            return [self.constant(np.empty(shapes.known(t.shape)), t.dtype) for t in node.outputs]
        values = [self.values[tensor] for tensor in node.inputs]
        try:
            control = {"scan": self._loop, "cond": self._branch, "while": self._while}
            if node.operator.runs in control:
                return control[node.operator.runs](node, values)
            if has_onnx(node.operator):
                made = node.operator.onnx(self, node, *values)
            else:
                made = self._by_formula(node, values)
        except KsymError as error:
            raise error.located(
                node.operator.name, [t.spec for t in node.inputs], node.origin
            ) from None
        return made if len(node.outputs) > 1 else [made]

    def _place_all(self, tensors: Sequence[Tensor], values: Sequence[Value]) -> None:
        for tensor, value in zip(tensors, values, strict=True):
            self._place(tensor, value)

    def _values_of(self, roots: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Value]:
        """Write the nodes of a body whose parameters have values, and return those of its roots."""
        order, node = in_order(roots, inputs), self._node
        self._read |= {t for inner in order for t in inner.inputs} | set(roots)
        self._write(order)
        self._node = node
        return [self.values[tensor] for tensor in roots]

    @contextlib.contextmanager
    def _inside(self) -> Iterator[list[Made]]:
        """Write to a list of its own, that of a body, inside of the context."""
        outside, self.made = self.made, []
        try:
            yield self.made
        finally:
            self.made = outside

    def _loop(self, node: Node, values: Sequence[Value]) -> Sequence[Value]:
        """Write ONNX's Scan: its body as a graph in this one."""
        loop = ScanView.of(node, used=self._read)
        _, sequences, initial, closed = parted(values, 1, len(loop.sequences), len(loop.initial))
        if not sequences:  # ONNX counts the steps by a sequence
            sequences = (self("Expand", self.constant(0), self.constant([loop.length])),)
        elements = [self._new() for _ in sequences]
        before = [self._new() for _ in loop.before]
        kept = [i for i, is_kept in enumerate(loop.kept) if is_kept]
        inputs = [*loop.elements, *loop.before, *loop.rest]
        with self._inside() as made:
            self._place_all(inputs, [*elements[: len(loop.elements)], *before, *closed])
            roots = body_of(loop.roots)
            found = [*self._values_of(roots, inputs), *(before[i] for i in kept)]
            outputs = [self("Identity", value) for value in found]
        kinds = [
            *_kinds(loop.before),
            *(_kinds(loop.elements) or [("int64", 0)]),
            *_kinds(roots),
            *_kinds(loop.before[i] for i in kept),
        ]
        stacked, direction = len(found) - len(initial), int(loop.reverse)
        options = {
            "num_scan_inputs": len(sequences),
            "scan_input_directions": [direction] * len(sequences),
            "scan_output_directions": [direction] * stacked if stacked else None,
            "body": Inner(made, [*before, *elements], outputs, kinds),
        }
        results = self._apply("Scan", (*initial, *sequences), len(found), options)
        others, by_kept = parted(results, len(roots))
        histories = dict(zip(kept, by_kept, strict=True))
        return [*others, *(histories.get(i, UNREAD) for i in range(len(before)))]

    def _branch(self, node: Node, values: Sequence[Value]) -> Sequence[Value]:
        """Write ONNX's If: each branch as a graph in this one."""
        predicate, *closed = values
        options: dict[str, Any] = {}
        for key, name in (("then", "then_branch"), ("otherwise", "else_branch")):
            body = node.attributes[key]
            with self._inside() as made:
                self._place_all(body.inputs, closed)
                found = self._values_of(body_of(body.outputs), body.inputs)
                outputs = [self("Identity", value) for value in found]
            options[name] = Inner(made, (), outputs, _kinds(body.outputs))
        if node.inputs[0].dtype != "bool":
            predicate = self("Cast", predicate, to=np.dtype("bool"))
        return self._apply("If", (predicate,), len(node.outputs), options)

    def _while(self, node: Node, values: Sequence[Value]) -> Sequence[Value]:
        """Write ONNX's Loop: its body, and then its condition, as a graph in this one."""
        body, test = node.attributes["body"], node.attributes["test"]
        initial, closed = parted(values, node.attributes["states"])
        finals, (steps,), histories = parted(node.outputs, len(initial), 1)
        if any(tensor in self._read for tensor in histories):
            raise GraphError(
                "how many steps are kept is known only when it has run",
                remedy="take a number of steps that is known by ksym.scan",
            )

        def condition(states: Sequence[Value]) -> Value:
            self._place_all(test.inputs, [*states, *closed])
            return self._values_of(body_of(test.outputs), test.inputs)[0]

        before = [self._new() for _ in initial]
        iteration, going_on, count = self._new(), self._new(), self._new()
        first = condition(initial)
        with self._inside() as made:
            self._place_all(body.inputs, [*before, *closed])
            new = self._values_of(body_of(body.outputs), body.inputs)
            more = self("Add", count, self.constant(1))
            outputs = [self("Identity", value) for value in (condition(new), *new, more)]
        states, going = _kinds([*finals, steps]), ("bool", 0)
        kinds = [("int64", 0), going, *states, going, *states]
        inner = Inner(made, [iteration, going_on, *before, count], outputs, kinds)
        limit = node.attributes["limit"]
        most = None if limit is None else self.constant(limit)
        given = (most, first, *initial, self.constant(0))
        results = self._apply("Loop", given, len(states), {"body": inner})
        return [*results, *(UNREAD for _ in histories)]

    def _by_formula(self, node: Node, values: Sequence[Value]) -> Value:
        if node.operator.formula is None:
            raise GraphError(
                "ONNX has no operator for it, and it is not composed of others",
                remedy="compute it before or after the exported part",
            )
        machine = OnnxMachine(self)
        registers = [
            machine.register(value, tensor.dtype)
            for value, tensor in zip(values, node.inputs, strict=True)
        ]
        for position, tensor in enumerate(node.inputs):
            if tensor.value is not None and not tensor.rank and not dtypes.is_float(tensor.dtype):
                registers[position] = registers[position]._replace(value=int(tensor.value))
        try:
            result = node.operator.formula(machine, *registers, **node.attributes)
        except NoFormula as reason:
            dtype = node.inputs[0].dtype
            raise GraphError(
                f"it has no form in ONNX for {dtype}: {reason}", remedy="cast it to another dtype"
            ) from None
        made: Value = machine.value(machine.cast(result, node.outputs[0].dtype))
        if made in values:  # a result is another value than an operand
            made = self("Identity", made)
        return made


def has_onnx(operator: Operator) -> bool:
    """Return whether an operator says what it is in ONNX."""
    return type(operator).onnx is not Operator.onnx


def _plain(value: Any) -> Any:
    """Return an attribute as ONNX holds it."""
    if isinstance(value, np.dtype | Inner):
        return value
    if isinstance(value, tuple | list):
        return [item if isinstance(item, str) else int(item) for item in value]
    return value
