"""Gradients as graph tensors, of any order.

`gradients` walks backwards over the nodes between a loss and the tensors to differentiate by, and
applies the gradient rule of each node's operator.  The result is an ordinary graph, so it can be
differentiated again.

The policy for inputs a loss does not depend on is stated at the call (`disconnected`); values of
integer and boolean dtypes carry no gradient and cut the path like `stop_gradient` does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Literal, NamedTuple, overload

from ksym import dtypes, ops, shapes
from ksym.errors import GradientError
from ksym.graph import Node, Tensor, collection_paused, listed_tensors, topological_order
from ksym.origin import origin_of, warn

Disconnected = Literal["raise", "zero", "none"]


@overload
def gradients(
    loss: Tensor | Sequence[Tensor],
    wrt: Tensor,
    *,
    output_gradients: Tensor | Sequence[Tensor | None] | None = None,
    stop_gradients: Iterable[Tensor] = (),
    disconnected: Disconnected = "raise",
) -> Tensor: ...


@overload
def gradients(
    loss: Tensor | Sequence[Tensor],
    wrt: Sequence[Tensor],
    *,
    output_gradients: Tensor | Sequence[Tensor | None] | None = None,
    stop_gradients: Iterable[Tensor] = (),
    disconnected: Disconnected = "raise",
) -> list[Tensor]: ...


def gradients(
    loss: Tensor | Sequence[Tensor],
    wrt: Tensor | Sequence[Tensor],
    *,
    output_gradients: Tensor | Sequence[Tensor | None] | None = None,
    stop_gradients: Iterable[Tensor] = (),
    disconnected: Disconnected = "raise",
) -> Tensor | list[Tensor] | list[Tensor | None]:
    """Return the gradient of the sum of all elements of loss by each tensor in wrt.

    Args:
        loss: A tensor, or several whose gradients are added up.
        wrt: The tensor or tensors to differentiate by; leaves or anything in between.
        output_gradients: The gradient that arrives at each loss, of its shape and dtype; None
            stands for ones.
        stop_gradients: Tensors to be taken as constants.
        disconnected: The result for a tensor that no gradient reaches: ``"raise"`` raises an error
            that says where the path is cut, ``"zero"`` gives zeros, ``"none"`` gives None.

    Returns:
        A tensor of the shape and dtype of wrt; a list of them if wrt is a sequence.

    Raises:
        GradientError: A loss or a tensor in wrt is not a float, output_gradients do not match the
            losses, or a tensor is disconnected.

    >>> x = ops.placeholder((3,))
    >>> gradients(ops.sum_(x * x), x).spec
    Spec(shape=(3,), dtype='float32')
    """
    losses, targets = _as_list(loss), _as_list(wrt)
    if disconnected not in ("raise", "zero", "none"):
        raise GradientError(f'disconnected is {disconnected!r}, not "raise", "zero" or "none"')
    for tensor in [*losses, *targets]:
        if not isinstance(tensor, Tensor):
            raise GradientError(f"{tensor!r} is not a tensor of a graph")
        if not dtypes.is_float(tensor.dtype):
            raise GradientError(
                f"{tensor!r} has no gradient: only floats have", remedy="cast it to a float dtype"
            )
    if isinstance(output_gradients, Tensor):
        output_gradients = [output_gradients]
    seeds = _loss_gradients(losses, output_gradients)
    stopped = set(stop_gradients)
    if stopped:
        _warn_of_idle(stopped, losses)
    with collection_paused():
        found = _backpropagate(losses, seeds, targets, stopped)
    results: list[Tensor | None] = []
    for target, gradient in zip(targets, found, strict=True):
        if gradient is None and disconnected == "raise":
            raise GradientError(
                f"no gradient reaches {target!r}",
                details=_explain(losses, target, stopped),
                remedy='differentiate through other operators, or pass disconnected="zero"',
            ).located(origin=target.node.origin)
        if gradient is None and disconnected == "zero":
            gradient = ops.zeros_like(target)
        results.append(gradient)
    if isinstance(wrt, Tensor):
        return results[0]  # type: ignore[return-value]
    return results


def _as_list(tensors: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return list(tensors) if isinstance(tensors, list | tuple) else [tensors]  # type: ignore[list-item]


def explain_gradient(loss: Tensor, wrt: Tensor) -> str:
    """Explain how the gradient of loss reaches wrt, or which operators cut every path, and where.

    Returns:
        A text of one line for each operator on the path, or for each one that cuts it.

    Raises:
        ArgumentError: One of both is no tensor.
    """
    (target,) = listed_tensors([wrt], "what is differentiated by")
    return "\n".join(_explain(listed_tensors([loss], "the loss"), target, frozenset()))


def _loss_gradients(
    losses: Sequence[Tensor], output_gradients: Sequence[Tensor | None] | None
) -> list[Tensor]:
    if output_gradients is None:
        output_gradients = [None] * len(losses)
    if len(output_gradients) != len(losses):
        raise GradientError(
            f"there are {len(output_gradients)} output gradients for {len(losses)} losses"
        )
    seeds: list[Tensor] = []
    for loss, gradient in zip(losses, output_gradients, strict=True):
        if gradient is None:
            seeds.append(ops.ones_like(loss))
            continue
        if gradient.dtype != loss.dtype or not shapes.compatible(gradient.shape, loss.shape):
            raise GradientError(
                f"the output gradient {gradient!r} does not match {loss!r}",
                remedy="give it the shape and dtype of the loss",
            )
        seeds.append(gradient)
    return seeds


def _warn_of_idle(stopped: Collection[Tensor], losses: Sequence[Tensor]) -> None:
    reached = set(topological_order(losses))
    for tensor in stopped:
        if tensor.node not in reached:
            warn(
                f"{tensor!r} in stop_gradients has no effect: the loss does not depend on it",
                "give the very tensor that the loss was made of: two x[-1] are two tensors",
            )


def _backpropagate(
    losses: Sequence[Tensor],
    seeds: Sequence[Tensor],
    targets: Sequence[Tensor],
    stopped: Collection[Tensor],
    until: Collection[Tensor] = frozenset(),
) -> list[Tensor | None]:
    """Return the gradient for each target, None where none arrives.

    The targets in until are taken as independent of each other: the walk ends there.
    """
    order = topological_order(losses, until=until)
    wanted = set(targets)
    carriers = _carriers(order, wanted, stopped)
    arriving: dict[Tensor, list[Tensor]] = {}

    def arrive(tensor: Tensor, gradient: Tensor) -> None:
        if tensor in stopped:
            return
        there = arriving.setdefault(tensor, [])
        if there and ops.is_zero(gradient):
            return
        if there and ops.is_zero(there[0]):
            there.clear()
        there.append(gradient)

    for loss, seed in zip(losses, seeds, strict=True):
        arrive(loss, seed)
    for node in reversed(order):
        if node not in carriers:
            continue
        with origin_of(node, gradient=True):
            incoming = [_total(arriving, output) for output in node.outputs]
            if incoming.count(None) == len(incoming):
                continue
            for tensor, gradient in zip(node.inputs, _through(node, incoming), strict=True):
                if gradient is not None and (tensor in wanted or tensor.node in carriers):
                    arrive(tensor, gradient)
    return [_total(arriving, target) for target in targets]


def _carriers(
    order: Sequence[Node], wanted: Collection[Tensor], stopped: Collection[Tensor]
) -> set[Node]:
    """Return the nodes that a gradient can flow through on its way to a wanted tensor."""
    carriers: set[Node] = set()
    for node in order:
        if any(
            (tensor in wanted or tensor.node in carriers)
            and tensor not in stopped
            and dtypes.is_float(tensor.dtype)
            for tensor in node.inputs
        ):
            carriers.add(node)
    return carriers


def _total(arriving: dict[Tensor, list[Tensor]], tensor: Tensor) -> Tensor | None:
    """Add up the gradients that have arrived at a tensor."""
    there = arriving.get(tensor)
    if not there:
        return None
    while len(there) > 1:
        # In pairs, so that the sum of many is a shallow tree.
        pairs = zip(there[::2], there[1::2], strict=False)
        there[:] = [a + b for a, b in pairs] + (there[-1:] if len(there) % 2 else [])
    return there[0]


def _through(node: Node, incoming: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
    """Return the gradients for a node's operands, given those of its outputs."""
    if all(gradient is None or ops.is_zero(gradient) for gradient in incoming):
        return [ops.zeros_like(t) if dtypes.is_float(t.dtype) else None for t in node.inputs]
    form = node.operator.differentiable_form(node)
    if form is not None:
        pairs = [(f, g) for f, g in zip(form, incoming, strict=True) if g is not None]
        losses, seeds = [f for f, _ in pairs], [g for _, g in pairs]
        return _backpropagate(losses, seeds, node.inputs, (), until=node.inputs)
    result = node.operator.gradient(node, *incoming)
    for tensor, gradient in zip(node.inputs, result, strict=True):
        if gradient is not None and (
            gradient.dtype != tensor.dtype or not shapes.compatible(gradient.shape, tensor.shape)
        ):
            raise AssertionError(
                f"the gradient rule of {node.operator.name} gives {gradient.spec} for an operand "
                f"of {tensor.spec}"
            )
    return result


class _Crossing(NamedTuple):
    """A node on the way from losses back to a target, when ones arrive at its outputs.

    Attributes:
        node: The node.
        operands: Those of its operands that depend on the target.
        passes: Whether a gradient arrives at any of them.
    """

    node: Node
    operands: Sequence[Tensor]
    passes: bool


def _explain(losses: Sequence[Tensor], target: Tensor, stopped: Collection[Tensor]) -> list[str]:
    """Say why no gradient, or along which operators one, reaches a target."""
    order = topological_order(losses)
    # Paths that begin with its shape matter only if there are no others.
    for values_only in (True, False):
        dependent = _dependent(order, target, values_only)
        if target in losses or any(loss.node in dependent for loss in losses):
            break
    else:
        return [f"the loss is not computed from {target.name}"]
    crossings, arrives = _crossings(losses, target, stopped, order, dependent)
    if not arrives:
        return [_cut(node, operands) for node, operands, passes in crossings if not passes]
    carriers = _carriers(order, {target}, stopped)
    return [
        f"through {node.operator.name}, made at {node.origin}"
        for node, _, passes in crossings
        if passes and node in carriers
    ]


def _dependent(order: Sequence[Node], target: Tensor, values_only: bool) -> set[Node]:
    """Return the nodes that are computed from a tensor, or from its values, not its shape."""
    dependent: set[Node] = set()
    for node in order:
        if values_only and node.operator is ops.shape_of:
            continue
        if any(tensor is target or tensor.node in dependent for tensor in node.inputs):
            dependent.add(node)
    return dependent


def _crossings(
    losses: Sequence[Tensor],
    target: Tensor,
    stopped: Collection[Tensor],
    order: Sequence[Node],
    dependent: Collection[Node],
) -> tuple[list[_Crossing], bool]:
    """Follow gradients from losses back to a target, as far as they come.

    Returns:
        The nodes at which a gradient arrives, and whether one arrives at the target.
    """
    reached: set[Tensor] = {loss for loss in losses if dtypes.is_float(loss.dtype)}
    crossings: list[_Crossing] = []
    for node in reversed(order):
        if node not in dependent or reached.isdisjoint(node.outputs):
            continue
        flows = _ones_through(node, reached.intersection(node.outputs).difference(stopped))
        leading = [
            (tensor, gradient)
            for tensor, gradient in zip(node.inputs, flows, strict=True)
            if tensor is target or tensor.node in dependent
        ]
        passed = [t for t, gradient in leading if gradient is not None and t not in stopped]
        reached.update(passed)
        crossings.append(_Crossing(node, [tensor for tensor, _ in leading], bool(passed)))
    return crossings, target in reached


def _ones_through(node: Node, reached: Collection[Tensor]) -> Sequence[Tensor | None]:
    """Return the gradients for a node's operands when ones arrive at the outputs in reached."""
    if not any(output in reached for output in node.outputs):
        return [None] * len(node.inputs)
    with origin_of(node):
        seeds = [ops.ones_like(t) if t in reached else None for t in node.outputs]
        return _through(node, seeds)


def _cut(node: Node, leading: Sequence[Tensor]) -> str:
    """Say that no gradient passes a node, and what about its operands is the reason."""
    whole = [tensor for tensor in leading if not dtypes.is_float(tensor.dtype)]
    if whole:
        source = whole[0].node
        return (
            f"cut at {source.operator.name}, which gives {whole[0].dtype}, made at {source.origin}"
        )
    return f"cut at {node.operator.name}, made at {node.origin}"
