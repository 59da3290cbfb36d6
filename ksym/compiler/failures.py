"""Putting shapes into parts of a graph that may never run.

``cond(shape_of(x)[0] > 0, lambda: x[0], ...)`` has to work for an empty x, although ``x[0]`` has no
shape then.  A node that refuses its operands is therefore replaced by a leaf that carries the
error, `failed`, and so is all that needs it.  Branches that are not taken, and loops that take no
step, do not need it.  If an output does, the error is raised: at once, or, for a branch that is
chosen at the call, when that branch is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from ksym import ops, shapes
from ksym.errors import KsymError, ShapeError
from ksym.graph import Node, Spec, Tensor, replace
from ksym.loops.body import Body
from ksym.loops.cond import cond_node
from ksym.loops.scan import scan_node
from ksym.loops.view import parted
from ksym.loops.while_ import while_node
from ksym.operator.operands import is_settled
from ksym.ops.leaves import failed, is_failed

Replacement = Sequence[Tensor]


def failures(node: Node, inputs: Sequence[Tensor], error: KsymError) -> Replacement:
    """Return what stands for the results of a node that refuses its operands."""
    if node.operator in _TARGETS:
        zeros = _put(node, inputs)
        if zeros is not None:
            return zeros
    return [failed(error, tensor.spec) for tensor in node.outputs]


def around_failures(node: Node, inputs: Sequence[Tensor]) -> Replacement:
    """Return the results of a node some of whose operands have failed.

    Args:
        node: The node as it was.
        inputs: Its operands, of which some are the results of `failures`.
    """
    rule = _RULES.get(node.operator)
    found = None if rule is None else rule(node, inputs)
    if found is not None:
        return found
    spec = node.outputs[0].spec
    if node.operator.elementwise:
        spec = _elementwise(spec, inputs)
        if node.origin.gradient and 0 in spec.shape and shapes.is_known(spec.shape):
            # The gradient of max(x) compares x with the maximum, which an empty x does not have.
            return [ops.zeros(spec.shape, spec.dtype)]
    bad = next(t for t in inputs if is_failed(t))
    zero = node.origin.gradient and any(
        _is_nothing(inputs[position]) for position in node.operator.linear_in
    )
    return [_like(bad, spec, zero), *(_like(bad, t.spec, zero) for t in node.outputs[1:])]


def raise_failures(order: Iterable[Node]) -> None:
    """Raise the error of a node that is needed.

    Args:
        order: The nodes of a graph.

    Raises:
        KsymError: One of them has failed.
    """
    for node in order:
        if node.operator is failed:
            error: KsymError = node.attributes["error"]
            raise error


def _like(bad: Tensor, spec: Spec, zero: bool = False) -> Tensor:
    """Return a leaf with the error of another one."""
    made: Tensor = failed(bad.node.attributes["error"], spec, zero)
    return made


def _is_nothing(tensor: Tensor) -> bool:
    """Whether a tensor is zeros, of whatever shape."""
    if is_failed(tensor):
        return bool(tensor.node.attributes["zero"])
    node = tensor.node
    return ops.is_zero(tensor) or any(_is_nothing(node.inputs[i]) for i in node.operator.linear_in)


def _elementwise(spec: Spec, inputs: Sequence[Tensor]) -> Spec:
    """Return the spec of an elementwise result with what its operands tell of the shape."""
    try:
        return Spec(shapes.broadcast(*(tensor.shape for tensor in inputs)), spec.dtype)
    except ShapeError:
        return spec


def _shape(node: Node, inputs: Sequence[Tensor]) -> Replacement | None:
    """The shape of what has failed, if it is known all the same."""
    (x,) = inputs
    return [ops.constant(x.shape, "int64")] if shapes.is_known(x.shape) else None


def _stretched(node: Node, inputs: Sequence[Tensor]) -> Replacement | None:
    """Zeros in the shape of what has failed."""
    x, shape = inputs
    if is_failed(x) or not ops.is_zero(x):
        return None
    return [_like(shape, node.outputs[0].spec, zero=True)]


def _sum(node: Node, inputs: Sequence[Tensor]) -> Replacement | None:
    """The gradient that arrives on another way."""
    left = [x for x in inputs if not (is_failed(x) and _is_nothing(x))]
    return [left[0]] if node.origin.gradient and len(left) == 1 and not is_failed(left[0]) else None


def _put(node: Node, inputs: Sequence[Tensor]) -> Replacement | None:
    """The gradient by a tensor of a part of it, if one of them has no elements or g is zero."""
    shape = inputs[_TARGETS[node.operator]]
    if not node.origin.gradient or not is_settled(shape):
        return None
    assert shape.value is not None
    target = tuple(shape.value.tolist())
    if 0 in target or _is_nothing(inputs[0]):
        return [ops.zeros(target, node.outputs[0].dtype)]
    return None


def _condition(node: Node, inputs: Sequence[Tensor]) -> Replacement | None:
    """A branch that does not need what has failed."""
    predicate, *closed = inputs
    if is_failed(predicate):
        return None
    bad = [is_failed(tensor) for tensor in closed]
    if is_settled(predicate):
        assert predicate.value is not None
        chosen: Body = node.attributes["then" if predicate.value.item() else "otherwise"]
        return chosen(closed)
    bodies = {key: _without(node.attributes[key], closed, bad) for key in ("then", "otherwise")}
    kept = [tensor for tensor, is_bad in zip(closed, bad, strict=True) if not is_bad]
    return _results(node, [predicate, *kept], bodies)


def _choice(node: Node, inputs: Sequence[Tensor]) -> Replacement | None:
    """The tensor that is chosen before anything runs."""
    condition, *choices = inputs
    if is_failed(condition) or not is_settled(condition):
        return None
    assert condition.value is not None
    return [choices[0 if condition.value.item() else 1]]


def _scan(node: Node, inputs: Sequence[Tensor]) -> Replacement | None:
    """A loop that takes no step, or whose number of steps is not known yet."""
    sequences, states = node.attributes["sequences"], node.attributes["states"]
    (steps,), _, initial, _ = parted(inputs, 1, sequences, states)
    first = 1 + sequences + states
    if is_failed(steps) or any(map(is_failed, inputs[: 1 + sequences])):
        return None
    if is_settled(steps):
        assert steps.value is not None
        if steps.value.item():
            return None
        rest = node.outputs[states:]
        return [*initial, *(ops.zeros([0, *(d or 0 for d in t.shape[1:])], t.dtype) for t in rest)]
    return _loop(node, inputs, first)


def _while(node: Node, inputs: Sequence[Tensor]) -> Replacement | None:
    """A loop that may take no step, and does not need what has failed before it does."""
    return _loop(node, inputs, node.attributes["states"])


def _loop(node: Node, inputs: Sequence[Tensor], first: int) -> Replacement | None:
    """Return the results of a loop whose body cannot run; it closes over operands from first on."""
    bad = [is_failed(tensor) for tensor in inputs]
    if any(bad[:first]):
        return None
    own = len(node.attributes["body"].inputs)  # a scan has the number of steps in front of them
    bodies = {
        key: _without(node.attributes[key], inputs[-own:], bad[-own:])
        for key in ("body", "test")
        if key in node.attributes
    }
    kept = [tensor for tensor, is_bad in zip(inputs, bad, strict=True) if not is_bad]
    return _results(node, kept, bodies)


def _without(body: Body, operands: Sequence[Tensor], bad: Sequence[bool]) -> Body:
    """Return a body in which operands that have failed stand for their parameters."""
    fixed = {
        parameter: _like(operand, parameter.spec)
        for parameter, operand, is_bad in zip(body.inputs, operands, bad, strict=True)
        if is_bad
    }
    left = [parameter for parameter in body.inputs if parameter not in fixed]
    return Body(left, replace(body.outputs, fixed))


def _results(
    node: Node, operands: Sequence[Tensor], bodies: Mapping[str, Body]
) -> Sequence[Tensor]:
    made: Tensor | Sequence[Tensor] = node.operator.make(operands, {**node.attributes, **bodies})
    return (made,) if isinstance(made, Tensor) else made


_TARGETS: Mapping[object, int] = {ops.slice_gradient: 1, ops.take_gradient: 2, ops.sum_to: 1}
"""The operand that is the shape of the result, for operators that add gradients up."""

_RULES: Mapping[object, Callable[[Node, Sequence[Tensor]], Replacement | None]] = {
    cond_node: _condition,
    ops.choose: _choice,
    scan_node: _scan,
    while_node: _while,
    ops.shape_of: _shape,
    ops.broadcast_to: _stretched,
    ops.add: _sum,
    **dict.fromkeys(_TARGETS, _put),
}
