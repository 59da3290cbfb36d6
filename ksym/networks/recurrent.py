"""A loop of Keras's recurrent layers over the time steps of sequences, on `ksym.scan`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ksym import ops
from ksym.graph import Tensor
from ksym.loops import api as loops

Step = Callable[[list[Tensor], list[Tensor]], "tuple[Tensor, Sequence[Tensor]]"]


class Walked(NamedTuple):
    """The results of a loop over time steps.

    Attributes:
        last: The last output.
        outputs: The outputs of all steps, (time, samples, ...).
        states: The states after the last step.
        first: The output of a step outside of the loop, which nothing needs to compute.
    """

    last: Tensor
    outputs: Tensor
    states: list[Tensor]
    first: Tensor


def over_time(
    step: Step,
    sequences: Sequence[Tensor],
    states: Sequence[Tensor],
    mask: Tensor | None = None,
    *,
    zero_output_for_mask: bool = False,
    unroll: int | None = None,
) -> Walked:
    """Apply a step to the elements of sequences.

    Args:
        step: ``(elements, states) -> (output, new states)``.
        sequences: Tensors of (time, samples, ...).
        states: A tensor of (samples, ...) for each state.
        mask: (time, samples) of booleans: where it is False the states stay, and the output is that
            of the step before.
        zero_output_for_mask: Where the mask is False the output is zero instead.
        unroll: Put this many steps, all there are, into the graph instead of a loop.
    """
    states = list(states)
    # Keras's cells make their dropout masks at the first step and keep them: made here, outside of
    # the loop, all steps share them.  The sum is the first element, or zero where there is none.
    elements = [ops.cast_to(ops.sum_(sequence[:1], 0), sequence.dtype) for sequence in sequences]
    first, following = step(elements, states)
    # An output that is a state need not be carried beside it, where no mask holds it back.
    twin = next((i for i, s in enumerate(following) if s is first and mask is None), None)
    blank = [ops.zeros_like(first)] if twin is None else []
    count = len(sequences)

    def body(*arguments: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        now, rest = list(arguments[:count]), list(arguments[count:])
        kept = None if mask is None else rest.pop(0)
        previous, current = rest[: len(blank)], rest[len(blank) :]
        output, new = step(now, current)
        new = [ops.cast_to(n, c.dtype) for n, c in zip(new, current, strict=False)]
        if kept is None:
            return [output], [*[output][: len(blank)], *new]
        last = where_kept(kept, output, *previous)
        shown = where_kept(kept, output, ops.zeros_like(output)) if zero_output_for_mask else last
        return [shown], [
            last,
            *(where_kept(kept, n, c) for n, c in zip(new, current, strict=True)),
        ]

    walked = list(sequences) if mask is None else [*sequences, mask]
    if unroll is not None:
        outputs, ends = _unrolled(body, walked, [*blank, *states], unroll)
    else:
        scanned = loops.scan(body, walked, [*blank, *states])
        (outputs,), ends = scanned.outputs, scanned.states
    return Walked(ends[twin or 0], outputs, list(ends[len(blank) :]), first)


def time_first(x: Tensor) -> Tensor:
    """Swap the first two axes."""
    return ops.transpose(x, (1, 0, *range(2, x.rank)))


def where_kept(kept: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Choose for each sample."""
    while kept.rank < new.rank:
        kept = ops.expand_dims(kept, -1)
    return ops.where(kept, new, old)


def _unrolled(
    step: Callable[..., tuple[list[Tensor], list[Tensor]]],
    walked: Sequence[Tensor],
    states: list[Tensor],
    steps: int,
) -> tuple[Tensor, list[Tensor]]:
    collected = []
    for position in range(steps):
        (output,), states = step(*(x[position] for x in walked), *states)
        collected.append(output)
    return ops.stack(collected), states
