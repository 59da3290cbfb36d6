"""Bodies of loops and branches: graphs with parameters."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.errors import DTypeError, GradientError, KsymError, ShapeError
from ksym.graph import Node, Spec, Tensor, replace, rewrite, same, topological_order
from ksym.operator.declaration import Operator
from ksym.ops.leaves import failed, is_constant, placeholder


class Body:
    """A graph with parameters: outputs that are computed from placeholders and constants only.

    Immutable, and equal only to itself.
    """

    __slots__ = ("inputs", "outputs")

    def __init__(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]):
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)

    def __call__(self, operands: Sequence[Tensor]) -> list[Tensor]:
        """Return the outputs with operands in the place of the parameters."""
        return replace(self.outputs, dict(zip(self.inputs, operands, strict=True)))

    def __reduce__(self) -> Any:
        return Body, (self.inputs, self.outputs)

    def __deepcopy__(self, memo: Any) -> Body:
        inputs, outputs = copy.deepcopy((self.inputs, self.outputs), memo)
        unchanged = same(inputs, self.inputs) and same(outputs, self.outputs)
        return self if unchanged else Body(inputs, outputs)

    def numpy(self, values: Sequence[Any]) -> list[Any]:
        """Compute the outputs in NumPy."""
        found: dict[Tensor, Any] = dict(zip(self.inputs, values, strict=True))
        for node in topological_order(self.outputs, until=found):
            if node.operator is ops.variable_leaf:
                found[node.outputs[0]] = node.outputs[0].get_value()  # type: ignore[attr-defined]
                continue
            result = node.operator.numpy(*(found[t] for t in node.inputs), **node.attributes)
            results = (result,) if len(node.outputs) == 1 else result
            found.update(zip(node.outputs, results, strict=True))
        return [np.asarray(found[tensor], tensor.dtype) for tensor in self.outputs]

    def specialized(self, specs: Sequence[Spec]) -> Body:
        """Return the body for parameters whose shapes are better known.

        Raises:
            ShapeError: A parameter has another shape than it was traced with.
            DTypeError: A parameter has another dtype.
        """
        return self.with_inputs(self.specialized_inputs(specs))

    def with_inputs(self, inputs: Sequence[Tensor]) -> Body:
        """Return the body with other parameters; itself if they are the same."""
        return self if same(inputs, self.inputs) else Body(inputs, self(inputs))

    def specialized_inputs(self, specs: Sequence[Spec]) -> Sequence[Tensor]:
        """Return parameters of which more is known than before.

        Raises:
            ShapeError: A parameter has another shape than it was traced with.
            DTypeError: It has another dtype.
        """
        for parameter, spec in zip(self.inputs, specs, strict=True):
            if parameter.dtype != spec.dtype:
                raise DTypeError(f"{spec} is given where the body was made for {parameter.spec}")
            if not shapes.compatible(parameter.shape, spec.shape):
                raise ShapeError(f"{spec} is given where the body was made for {parameter.spec}")
        return [
            t if t.shape == s.shape else placeholder(s.shape, s.dtype, name=t.name)
            for t, s in zip(self.inputs, specs, strict=True)
        ]


def specialized_or_failed(
    operator: Operator, body: Body, specs: Sequence[Spec], first: int = 0, states: int = 0
) -> Body:
    """Return the body for parameters of which more is known, one that may never run.

    If the shapes do not fit, its outputs raise the error when it is compiled.

    Args:
        operator: The loop or branch that it is a part of.
        body: The body.
        specs: The shapes and dtypes of its parameters.
        first: The position of the first parameter that is a state.
        states: The number of states.

    Raises:
        ShapeError: As `Body.specialized` for the parameters themselves.
        DTypeError: Likewise.
    """
    inputs = body.specialized_inputs(specs)
    try:
        with operator.named(inputs):
            return body.with_inputs(inputs)
    except KsymError as error:
        given = [*inputs[first : first + states], *body.outputs[states:]]
        return Body(inputs, [failed(error, tensor.spec) for tensor in given])


def constants_inlined(
    body: Body, operands: Sequence[Tensor], first: int
) -> tuple[Body, list[Tensor]]:
    """Move operands from position first on that are constant into the body."""
    fixed = {
        parameter: operand
        for parameter, operand in list(zip(body.inputs, operands, strict=True))[first:]
        if is_constant(operand)
    }
    if not fixed:
        return body, list(operands)
    left = [(p, o) for p, o in zip(body.inputs, operands, strict=True) if p not in fixed]
    return Body([p for p, _ in left], replace(body.outputs, fixed)), [o for _, o in left]


def unify_state_shapes(body: Body, count: int, carried: int) -> Body:
    """Return the body with each state's shape only as far known as that of its new value.

    A state that starts with shape (1, 3) and becomes (?, 3) has shape (?, 3).

    Raises:
        ShapeError: The shapes of a state and of its new value are not compatible.
        DTypeError: The new value of a state has another dtype.
    """
    while True:
        specs = [t.spec for t in body.inputs]
        for i in range(carried):
            old, new = body.inputs[count + i], body.outputs[i]
            if new.dtype != old.dtype:
                higher = dtypes.kind(new.dtype) > dtypes.kind(old.dtype)
                raise DTypeError(
                    f"state {i} is {old.spec}, the body makes {new.spec} of it",
                    remedy=f"start from a state of {new.dtype}"
                    if higher
                    else "cast the new state to the dtype of the initial one",
                )
            if not shapes.compatible(old.shape, new.shape):
                raise ShapeError(
                    f"state {i} is {old.spec}, the body makes {new.spec} of it",
                    remedy="a state keeps its shape; broadcast the initial one to it",
                )
        return body if specs == [t.spec for t in body.inputs] else body.specialized(specs)


def check_counts(body: Body, operands: Sequence[Tensor], elements: int, states: int) -> None:
    """Check that a body has the parameters and outputs of so many sequences and states.

    Raises:
        ShapeError: It has not.
    """
    fits = elements >= 0 and 0 <= states <= len(body.outputs)
    if not fits or len(operands) != len(body.inputs) or elements + states > len(operands):
        raise ShapeError(
            f"{elements} sequences and {states} states do not fit {len(operands)} operands, "
            f"{len(body.inputs)} parameters and {len(body.outputs)} outputs of the body"
        )


def live_states(
    before: Sequence[Tensor], new: Sequence[Tensor], roots: Sequence[Tensor]
) -> list[int]:
    """Return the states that roots depend on, at this step or through an earlier one.

    Args:
        before: The parameter of a loop's body for each state.
        new: The new value of each state.
        roots: The tensors of the body that are needed.
    """
    parameters = {parameter.node: i for i, parameter in enumerate(before)}
    live: set[int] = set()
    seen: set[Node] = set()
    stack = [tensor.node for tensor in roots]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        stack.extend(tensor.node for tensor in node.inputs)
        if node in parameters:
            live.add(parameters[node])
            stack.append(new[parameters[node]].node)
    return sorted(live)


def bodies_of(node: Node) -> dict[str, Body]:
    """Return the bodies of a loop or branch by the names of its attributes; empty for others."""
    return {key: value for key, value in node.attributes.items() if isinstance(value, Body)}


def effects_in(outputs: Iterable[Tensor]) -> list[Node]:
    """Return the nodes that do more than compute their results, those inside of loops too."""
    found: list[Node] = []
    waiting = [list(outputs)]
    while waiting:
        for node in topological_order(waiting.pop()):
            if node.operator.effect:
                found.append(node)
            waiting += [list(body.outputs) for body in bodies_of(node).values()]
    return found


def silenced(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Return outputs that are computed without effects: for a gradient that computes them again."""
    if not effects_in(outputs):
        return list(outputs)

    def silent(node: Node, inputs: Sequence[Tensor]) -> Tensor | Sequence[Tensor] | None:
        if node.operator.effect:
            return inputs[0]
        bodies = {key: Body(b.inputs, silenced(b.outputs)) for key, b in bodies_of(node).items()}
        if not bodies:
            return None
        made: Tensor | Sequence[Tensor] = node.operator.make(inputs, {**node.attributes, **bodies})
        return made

    return rewrite(outputs, silent)


def float_positions(tensors: Sequence[Tensor]) -> list[int]:
    """Return the positions of the tensors that are floats, and so may have gradients."""
    return [i for i, tensor in enumerate(tensors) if dtypes.is_float(tensor.dtype)]


def refuse_random(node: Node, *bodies: Body) -> None:
    """Raise an error for the gradient of a body that draws random numbers: it would draw others.

    Raises:
        GradientError: The body draws random numbers.  (Most are drawn before the loop, see
            `ksym.loops.tracing`.)
    """
    for body in bodies:
        for inside in topological_order(body.outputs, until=body.inputs):
            parts = bodies_of(inside).values()
            refuse_random(node, *parts)
            if inside.operator.effect:
                continue  # the gradient is silent
            if not inside.operator.pure and inside.inputs and not parts:
                raise GradientError(
                    f"the gradient computes the body anew, and its {inside.operator.name} would "
                    "draw other numbers",
                    remedy="draw them outside, and go through them as a sequence",
                ).located(node.operator.name, [t.spec for t in node.inputs], node.origin)
