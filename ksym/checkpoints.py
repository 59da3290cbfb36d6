"""Loops that keep few of their states, for gradients of long ones (Chen et al. 2016).

The gradient of a loop needs the states before each step.  A loop over blocks of steps, each of
which is a loop of its own, keeps those before each block only: the gradient of a block computes its
steps again, and keeps theirs while it does.  So T steps in blocks of k take the memory of T / k + k
states, and are computed once more than otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

from ksym import ops
from ksym.graph import Tensor
from ksym.ops.bodies import Body
from ksym.ops.control import scan_node
from ksym.ops.leaves import placeholder


def scan_in_blocks(
    steps: Tensor,
    sequences: Sequence[Tensor],
    states: Sequence[Tensor],
    closed: Sequence[Tensor],
    body: Body,
    reverse: bool,
    every: int,
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the outputs of all steps and the last states of a scan that keeps few of them.

    Args:
        steps: How many steps to take.
        sequences: What to go through.
        states: The initial states.
        closed: What the body closes over.
        body: What to do with an element of each sequence, the states, and the rest.
        reverse: Whether to go from the last element to the first.
        every: How many steps make a block; what is left over at the end is a shorter one.
    """
    blocks = steps // every
    whole = blocks * every
    left = steps - whole
    count, carried = len(sequences), len(states)

    def loop(
        steps: Tensor,
        operands: Sequence[Tensor],
        body: Body,
        lean: bool = False,
    ) -> Sequence[Tensor]:
        attributes = {
            "body": body,
            "sequences": count,
            "states": carried,
            "reverse": reverse,
            "lean": lean,
        }
        made: Sequence[Tensor] = scan_node.make([steps, *operands], attributes)
        return made[: len(body.outputs)]

    def in_blocks(states: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        stacks = [_split(x[:whole], blocks, every) for x in sequences]
        elements = [placeholder(x.shape[1:], x.dtype) for x in stacks]
        before = [placeholder(t.shape, t.dtype) for t in body.inputs[count : count + carried]]
        rest = [placeholder(t.shape, t.dtype) for t in closed]
        own = [*elements, *before, *rest]
        block = Body(own, loop(ops.constant(every), own, body))
        results = loop(blocks, [*stacks, *states, *closed], block, lean=True)
        return [_joined(y, whole) for y in results[carried:]], list(results[:carried])

    def left_over(states: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        results = loop(left, [*(x[whole:] for x in sequences), *states, *closed], body)
        return list(results[carried:]), list(results[:carried])

    if reverse:
        behind, states = left_over(states)
        front, states = in_blocks(states)
    else:
        front, states = in_blocks(states)
        behind, states = left_over(states)
    joined = [ops.concatenate(pair, 0) for pair in zip(front, behind, strict=True)]
    return joined, list(states)


def _split(x: Tensor, blocks: Tensor, every: int) -> Tensor:
    """Return the elements along the first axis as blocks of some each."""
    return ops.reshape(x, ops.concatenate([ops.stack([blocks, every]), ops.shape_of(x)[1:]], 0))


def _joined(x: Tensor, length: Tensor) -> Tensor:
    """Return blocks of elements as elements along the first axis."""
    sides = ops.concatenate([ops.reshape(length, (1,)), ops.shape_of(x)[2:]], 0)
    return ops.reshape(x, sides)
