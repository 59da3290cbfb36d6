"""Checkpointing: loops that keep the states of few steps for their gradients (Chen et al. 2016).

The gradient of a loop needs the states before each step.  A loop over blocks of steps, each of
which is a loop itself, keeps only the states before each block; the gradient of a block computes
its steps again, and keeps their states meanwhile.  So T steps in blocks of k take the memory of
T / k + k states, and each step is computed once more.
"""

from __future__ import annotations

from dataclasses import replace

from ksym import ops
from ksym.graph import Tensor
from ksym.loops.recognition import kernel_for
from ksym.loops.scan import scan_node
from ksym.loops.view import ScanResults, ScanView
from ksym.ops.leaves import placeholder


def scan_in_blocks(loop: ScanView, every: int) -> ScanResults[Tensor]:
    """Build a loop with checkpoints, and return its last states and outputs.

    Args:
        loop: A loop that has no node yet.
        every: The number of steps of a block; the last block may be shorter.
    """
    blocks = loop.steps // every
    whole = blocks * every
    if loop.reverse:
        last = _last_block(loop, whole)
        end = first = _in_blocks(loop.starting_from(last.finals), blocks, every, whole)
    else:
        first = _in_blocks(loop, blocks, every, whole)
        end = last = _last_block(loop.starting_from(first.finals), whole)
    pairs = zip(first.stacked, last.stacked, strict=True)
    return ScanResults(end.finals, [ops.concatenate(pair, 0) for pair in pairs])


def _in_blocks(loop: ScanView, blocks: Tensor, every: int, whole: Tensor) -> ScanResults[Tensor]:
    """Return the last states and the outputs of the steps that are in whole blocks."""
    stacks = [_split(x[:whole], blocks, every) for x in loop.sequences]
    inner = replace(
        loop,
        steps=ops.constant(every),
        sequences=tuple(placeholder(x.shape[1:], x.dtype) for x in stacks),
        initial=tuple(placeholder(t.shape, t.dtype) for t in loop.before),
        closed=tuple(placeholder(t.shape, t.dtype) for t in loop.rest),
    )
    block = kernel_for(inner, True) or scan_node.made(inner)
    outer = ScanView(
        steps=blocks,
        reverse=loop.reverse,
        lean=True,
        sequences=tuple(stacks),
        elements=inner.sequences,
        initial=loop.initial,
        before=inner.initial,
        closed=loop.closed,
        rest=inner.closed,
        new=tuple(block.finals),
        outputs=tuple(block.stacked),
    )
    made = scan_node.made(outer)
    return ScanResults(made.finals, [_unblocked(y, whole) for y in made.stacked])


def _last_block(loop: ScanView, whole: Tensor) -> ScanResults[Tensor]:
    """Return the last states and the outputs of the steps that come after whole blocks."""
    sequences = tuple(x[whole:] for x in loop.sequences)
    return scan_node.made(replace(loop, steps=loop.steps - whole, sequences=sequences))


def _split(x: Tensor, blocks: Tensor, every: int) -> Tensor:
    """Return a sequence as blocks of `every` elements."""
    return ops.reshape(x, ops.concatenate([ops.stack([blocks, every]), ops.shape_of(x)[1:]], 0))


def _unblocked(x: Tensor, length: Tensor) -> Tensor:
    """Return blocks of elements as one sequence."""
    sides = ops.concatenate([ops.reshape(length, (1,)), ops.shape_of(x)[2:]], 0)
    return ops.reshape(x, sides)
