"""Loops that keep few of their states, for gradients of long ones (Chen et al. 2016).

The gradient of a loop needs the states before each step.  A loop over blocks of steps, each of
which is a loop of its own, keeps those before each block only: the gradient of a block computes its
steps again, and keeps theirs while it does.  So T steps in blocks of k take the memory of T / k + k
states, and are computed once more than otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ksym import ops
from ksym.graph import Tensor
from ksym.loops.body import Body
from ksym.loops.recognition import kernel_for
from ksym.loops.scan import scan_node
from ksym.ops.leaves import placeholder


def scan_in_blocks(
    operands: Sequence[Tensor], attributes: Mapping[str, Any], every: int
) -> list[Tensor]:
    """Return the last states and the outputs of all steps of a scan that keeps few of its states.

    Args:
        operands: Those of the node of a plain scan.
        attributes: Its attributes.
        every: How many steps make a block; what is left over at the end is a shorter one.
    """
    body: Body = attributes["body"]
    count, carried = attributes["sequences"], attributes["states"]
    steps, *rest = operands
    sequences, initial = rest[:count], rest[count : count + carried]
    closed = rest[count + carried :]
    blocks = steps // every
    whole = blocks * every

    def in_blocks(states: Sequence[Tensor]) -> list[Tensor]:
        stacks = [_split(x[:whole], blocks, every) for x in sequences]
        own = [placeholder(x.shape[1:], x.dtype) for x in stacks]
        own += [placeholder(t.shape, t.dtype) for t in body.inputs[count:]]
        given = [ops.constant(every), *own]
        inner = kernel_for(given, attributes, True) or scan_node.make(given, attributes)
        block = {**attributes, "body": Body(own, inner[: len(body.outputs)]), "lean": True}
        made = scan_node.make([blocks, *stacks, *states, *closed], block)
        outputs = made[carried : len(body.outputs)]
        return [*made[:carried], *(_unblocked(y, whole) for y in outputs)]

    def left_over(states: Sequence[Tensor]) -> list[Tensor]:
        through = [x[whole:] for x in sequences]
        made = scan_node.make([steps - whole, *through, *states, *closed], attributes)
        return list(made[: len(body.outputs)])

    if attributes["reverse"]:
        last = left_over(initial)
        first = in_blocks(last[:carried])
    else:
        first = in_blocks(initial)
        last = left_over(first[:carried])
    end = first if attributes["reverse"] else last
    joined = zip(first[carried:], last[carried:], strict=True)
    return [*end[:carried], *(ops.concatenate(pair, 0) for pair in joined)]


def _split(x: Tensor, blocks: Tensor, every: int) -> Tensor:
    """Return the elements along the first axis as blocks of some each."""
    return ops.reshape(x, ops.concatenate([ops.stack([blocks, every]), ops.shape_of(x)[1:]], 0))


def _unblocked(x: Tensor, length: Tensor) -> Tensor:
    """Return blocks of elements as elements along the first axis."""
    sides = ops.concatenate([ops.reshape(length, (1,)), ops.shape_of(x)[2:]], 0)
    return ops.reshape(x, sides)
