"""Finding the node that makes a NaN or an infinity: a graph is computed node by node.

Each tensor that is not finite has a *cause*: the first node, among those that it was computed
from, that made a value that is not finite of operands that all are.  Causes are handed on from
operands to results, through the steps of loops too, so that what is named is on the way to the
result: an infinity that `where` does not choose is nobody's cause.

Infinities in constants, variables and inputs are taken as meant, as in masks; a node that makes a
NaN of them is a cause.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ksym import dtypes, shapes
from ksym.compiler.passes.merge_axes import merge_axes
from ksym.compiler.specialize import specialize, split
from ksym.errors import NonFiniteError
from ksym.graph import Node, Tensor, topological_order
from ksym.loops.body import Body
from ksym.loops.view import ScanView, parted
from ksym.ops.given import is_drawn
from ksym.ops.leaves import constant, is_constant, placeholder
from ksym.ops.random.streams import RandomStream
from ksym.runtime.arrays import DeviceArray, storage_of
from ksym.runtime.interpreter import interpret
from ksym.runtime.native import draw
from ksym.variables import Variable


class Cause(NamedTuple):
    """A node that makes a value that is not finite.

    Attributes:
        number: The number in the order in which the nodes were computed.
        node: The node; a leaf, if a NaN was given.
        found: The value in words.
        operands: Each operand, with the range of its values.
        kind: The kind of mistake, a key of the remedies.
        within: The steps of loops and the branches that it is in, from the inside to the outside.
    """

    number: int
    node: Node
    found: str
    operands: tuple[str, ...]
    kind: str
    within: tuple[str, ...]

    def error(self, reached: str) -> NonFiniteError:
        """Return the error that names the node.

        Args:
            reached: The result of the function that is not finite because of it, in words.
        """
        node = self.node
        if not node.inputs:
            kind = "variable" if isinstance(node.outputs[0], Variable) else "input"
            problem = f"the {kind} {node.outputs[0].name} holds {self.found}"
            remedy = "look for it where the value comes from: np.isnan(value).any()"
            return NonFiniteError(
                problem, details=[f"it reaches {reached}"], remedy=remedy
            ).located(None, (), node.origin)
        return NonFiniteError(
            f"{node.outputs[0].name} is the first value that is not finite: {self.found}",
            details=[*self.within, f"it reaches {reached}"],
            remedy=_REMEDIES[self.kind],
        ).located(node.operator.name, self.operands, node.origin)


_REMEDIES = {
    "gradient": "keep the operand of the function that is differentiated away from where its slope "
    "is not finite, as in ksym.sqrt(ksym.maximum(x, 1e-12)); choosing by ksym.where afterwards "
    "does not help, since zero times infinity is NaN",
    "infinite": "give large finite numbers instead of infinities, such as -1e9 in a mask",
    "domain": "keep the operands where the operator has a finite value, as in "
    "ksym.log(ksym.maximum(x, 1e-7))",
    "growth": "keep the values smaller: scale what comes in, take ksym.logsumexp or softmax "
    "instead of exponentials; if they grow from call to call, lower the learning rate, or clip "
    "the gradients",
}


class Value(NamedTuple):
    """A computed tensor.

    Attributes:
        array: Its array.
        cause: What made it not finite; None if it is finite, or is meant not to be.
        finite: Whether all of its elements are finite.
        nan: Whether an element is NaN.
    """

    array: DeviceArray
    cause: Cause | None
    finite: bool
    nan: bool


Leaves = Callable[[Node], DeviceArray]
"""Returns the array of a variable or of random numbers."""


class Search:
    """A computation of a graph node by node, with the causes of what is not finite.

    Args:
        drawn: The random numbers of the call that is repeated, each with its stream.
    """

    def __init__(self, drawn: Iterable[tuple[RandomStream, np.ndarray]]):
        self._drawn: dict[RandomStream, list[np.ndarray]] = {}
        for stream, value in drawn:
            self._drawn.setdefault(stream, []).append(value)
        self._number = 0
        self._bodies: dict[tuple[Body, tuple[shapes.Shape, ...]], list[Tensor]] = {}

    def run(self, tensors: Sequence[Tensor], given: Mapping[Tensor, Value]) -> list[Value]:
        """Return the values of tensors, whose shapes may depend on data.

        Args:
            tensors: The tensors to compute.
            given: The value of each placeholder.
        """
        slots = {t: _standing_for(t, v.array) for t, v in given.items()}
        values = {slots[t]: v for t, v in given.items() if not is_constant(slots[t])}
        while True:
            first, rest = split(specialize(tensors, slots))
            found = self._graph(merge_axes(first), values, ())
            if rest is None:
                return found
            tensors, slots, values = rest.outputs, {}, {}
            for slot, value in zip(rest.slots, found, strict=True):
                slots[slot] = _standing_for(slot, value.array)
                values[slots[slot]] = value

    def leaf(self, tensor: Tensor, array: DeviceArray, within: Sequence[str] = ()) -> Value:
        """Return the value of an input, variable or constant; a NaN in a constant is meant."""
        finite, nan = _state(array)
        cause = None
        if nan and not is_constant(tensor):
            cause = self._cause(tensor.node, array, (), within)
        return Value(array, cause, finite, nan)

    def _graph(
        self, outputs: Sequence[Tensor], given: Mapping[Tensor, Value], within: Sequence[str]
    ) -> list[Value]:
        """Compute a graph of known shapes."""
        values = dict(given)
        order = topological_order(outputs, until=values)
        last_use = {tensor: node for node in order for tensor in node.inputs}
        kept = set(outputs)
        for node in order:
            values.update(zip(node.outputs, self._node(node, values, within), strict=True))
            for tensor in node.inputs:
                if last_use[tensor] is node and tensor not in kept:
                    values.pop(tensor, None)
        return [values[tensor] for tensor in outputs]

    def _node(
        self, node: Node, values: Mapping[Tensor, Value], within: Sequence[str]
    ) -> Sequence[Value]:
        (first, *_), operator = node.outputs, node.operator
        if isinstance(first, Variable):
            return [self.leaf(first, storage_of(first), within)]
        if is_constant(first):
            return [self.leaf(first, DeviceArray.of(np.asarray(first.value)))]
        if is_drawn(node):
            return [self.leaf(first, DeviceArray.of(self._draw(node, bool(within))), within)]
        operands = [values[tensor] for tensor in node.inputs]
        if operator.runs in ("scan", "while", "cond"):
            return getattr(self, f"_{operator.runs}")(node, operands, within)
        if operator.effect:
            return operands[:1]  # it was printed already
        if operator.runs == "collective":
            return operands[: len(node.outputs)]  # the other ranks do not take part in the search
        if operator.runs == "host":
            with np.errstate(all="ignore"):
                made = operator.numpy(*(o.array.read() for o in operands), **node.attributes)
            results = (made,) if len(node.outputs) == 1 else made
            arrays = [
                DeviceArray.of(np.asarray(r, t.dtype))
                for r, t in zip(results, node.outputs, strict=True)
            ]
        else:
            known = {t: v.array for t, v in zip(node.inputs, operands, strict=True)}
            arrays = interpret(node.outputs, known, node.inputs)
        return [self._judged(node, array, operands, within) for array in arrays]

    def _draw(self, node: Node, inside: bool) -> np.ndarray:
        """Return the numbers that the call drew; in a loop's body its streams are set back."""
        stream: RandomStream = node.attributes["stream"]
        if inside:
            return draw(node)
        if self._drawn.get(stream):
            return self._drawn[stream].pop(0)
        state = stream.get_state()  # nothing that the call computed depends on it
        value = draw(node)
        stream.set_state(state)
        return value

    def _judged(
        self, node: Node, array: DeviceArray, operands: Sequence[Value], within: Sequence[str]
    ) -> Value:
        """Return a result of a node with its cause."""
        finite, nan = _state(array)
        if finite:
            return Value(array, None, True, False)
        cause = _earliest(operands)
        made_here = all(o.finite for o in operands) or (nan and not any(o.nan for o in operands))
        if cause is None and made_here:
            cause = self._cause(node, array, operands, within)
        return Value(array, cause, False, nan)

    def _cause(
        self, node: Node, array: DeviceArray, operands: Sequence[Value], within: Sequence[str]
    ) -> Cause:
        self._number += 1
        if node.origin.gradient:
            kind = "gradient"
        elif not all(v.finite for v in operands):
            kind = "infinite"
        else:
            floats = [v.array.read() for v in operands if dtypes.is_float(v.array.spec.dtype)]
            kind = "domain" if any((array <= 0.0).any() for array in floats) else "growth"
        ranges = tuple(f"{v.array.spec} {_range(v.array)}" for v in operands)
        found = _described(array.read())
        return Cause(self._number, node, found, ranges, kind, tuple(reversed(within)))

    # --- loops and branches ----------------------------------------------------------------------

    def _body(
        self, body: Body, operands: Sequence[Value], within: Sequence[str]
    ) -> Sequence[Value]:
        """Compute a body for the values of its parameters."""
        key = body, tuple(v.array.spec.shape for v in operands)
        slots = {t: _standing_for(t, v.array) for t, v in zip(body.inputs, operands, strict=True)}
        if all(slot is t for t, slot in slots.items()):
            if key not in self._bodies:
                first, rest = split(specialize(body.outputs, {}))
                if rest is None:
                    self._bodies[key] = merge_axes(first)
            if key in self._bodies:
                given = dict(zip(body.inputs, operands, strict=True))
                return self._graph(self._bodies[key], given, within)
        return self.run(body.outputs, dict(zip(body.inputs, operands, strict=True)))

    def _scan(
        self, node: Node, operands: Sequence[Value], within: Sequence[str]
    ) -> Sequence[Value]:
        loop, body = ScanView.of(node), node.attributes["body"]
        _, sequences, states, closed = parted(operands, 1, len(loop.sequences), len(loop.initial))
        whole = [v.array.read() for v in sequences]
        length = int(np.asarray(loop.steps.value))
        collected: list[list[Value]] = [[] for _ in (*loop.outputs, *loop.before)]
        order = range(length)
        for step in reversed(order) if loop.reverse else order:
            place = f"in step {step} of {length} of the loop made at {node.origin}"
            elements = [
                self._part(v, DeviceArray.of(np.asarray(array[step])))
                for v, array in zip(sequences, whole, strict=True)
            ]
            made = self._body(body, [*elements, *states, *closed], [*within, place])
            new, given = parted(made, len(states))
            for kept, value in zip(collected, (*given, *states), strict=True):
                kept.append(value)
            states = new
        if loop.reverse:
            collected = [list(reversed(each)) for each in collected]
        shown = zip(node.outputs[len(states) :], collected, strict=True)
        return [*states, *(_stacked(tensor, each) for tensor, each in shown)]

    def _part(self, whole: Value, array: DeviceArray) -> Value:
        finite, nan = _state(array)
        return Value(array, None if finite else whole.cause, finite, nan)

    def _while(
        self, node: Node, operands: Sequence[Value], within: Sequence[str]
    ) -> Sequence[Value]:
        body, test = node.attributes["body"], node.attributes["test"]
        states, closed = parted(operands, node.attributes["states"])
        before: list[Sequence[Value]] = []
        while bool(self._body(test, [*states, *closed], within)[0].array.read()):
            place = f"in step {len(before)} of the loop made at {node.origin}"
            before.append(states)
            states = tuple(self._body(body, [*states, *closed], [*within, place]))
        steps = Value(DeviceArray.of(np.asarray(len(before), "int64")), None, True, False)
        histories = [
            _stacked(tensor, [step[i] for step in before])
            for i, tensor in enumerate(node.outputs[len(states) + 1 :])
        ]
        return [*states, steps, *histories]

    def _cond(
        self, node: Node, operands: Sequence[Value], within: Sequence[str]
    ) -> Sequence[Value]:
        predicate, *closed = operands
        taken = "then" if bool(predicate.array.read()) else "otherwise"
        place = f"in the branch {taken!r} of the condition made at {node.origin}"
        return self._body(node.attributes[taken], closed, [*within, place])


def _standing_for(tensor: Tensor, array: DeviceArray) -> Tensor:
    """Return a tensor itself if its shape is known, else a placeholder or constant for an array."""
    attributes = tensor.node.attributes
    if attributes.get("static"):
        return constant(array.read())
    if tensor.shape == array.spec.shape:
        return tensor
    return placeholder(array.spec.shape, tensor.dtype, name=tensor.name)


def _earliest(values: Iterable[Value]) -> Cause | None:
    causes = [value.cause for value in values if value.cause is not None]
    return min(causes, key=lambda cause: cause.number, default=None)


def _stacked(tensor: Tensor, values: Sequence[Value]) -> Value:
    """Return the values of all steps as one."""
    shape = (len(values), *shapes.known(tensor.shape[1:]))
    whole = np.array([v.array.read() for v in values], tensor.dtype).reshape(shape)
    finite, nan = all(v.finite for v in values), any(v.nan for v in values)
    return Value(DeviceArray.of(whole), _earliest(values), finite, nan)


def _state(array: DeviceArray) -> tuple[bool, bool]:
    """Return whether all elements are finite, and whether one is NaN."""
    if is_finite(array):
        return True, False
    return False, bool(np.isnan(array.read()).any())


def is_finite(array: DeviceArray) -> bool:
    """Return whether all elements of an array are finite, as those of other dtypes are."""
    return not dtypes.is_float(array.spec.dtype) or bool(np.isfinite(array.read()).all())


def _described(value: np.ndarray) -> str:
    """Return in words where a value is not finite."""
    bad = ~np.isfinite(value)
    place = tuple(int(i) for i in np.argwhere(bad)[0])
    if not value.ndim:
        return f"{value[()]}"
    return f"{value[place]} at {place}, {int(bad.sum())} of {value.size} elements"


def _range(array: DeviceArray) -> str:
    """Return the range of an array in words."""
    value = array.read()
    if not value.size:
        return "without elements"
    if value.dtype == bool:
        return f"with {int(value.sum())} of {value.size} true"
    low, high = np.nanmin(value), np.nanmax(value)
    return f"of {low:.6g}" if low == high else f"from {low:.6g} to {high:.6g}"
