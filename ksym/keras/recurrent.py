"""Loops over time steps and elements, on `ksym.scan`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ksym import ops
from ksym.errors import ShapeError
from ksym.graph import Tensor
from ksym.keras.tensors import as_tensor, as_tensors, static_shape
from ksym.loops import api as loops
from ksym.networks.recurrent import over_time, time_first

StepFunction = Callable[[Tensor, list[Tensor]], "tuple[Tensor, Sequence[Tensor]]"]


def rnn(
    step_function: StepFunction,
    inputs: Any,
    initial_states: Sequence[Tensor],
    go_backwards: bool = False,
    mask: Any = None,
    constants: Sequence[Tensor] | None = None,
    unroll: bool = False,
    input_length: int | None = None,
    zero_output_for_mask: bool = False,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Apply a step to the elements of a sequence, as Keras's recurrent layers do.

    Args:
        step_function: ``(input, states + constants) -> (output, new states)``.
        inputs: (samples, time, ...).
        initial_states: A tensor of (samples, ...) for each state.
        go_backwards: Go through the time steps from the last to the first; outputs come in the
            order in which they are computed.
        mask: (samples, time), or with a last axis of size 1: where it is False the states stay,
            and the output is that of the step before.
        constants: Handed to each step after the states.
        unroll: Put all steps into the graph instead of a loop.
        input_length: Not needed: the number of time steps is taken from the inputs.
        zero_output_for_mask: Where the mask is False the output is zero instead.

    Returns:
        The last output, all outputs (samples, time, ...), and the last states.  Over no steps at
        all they are the initial states, and the last output is zero, or the state that it is.

    Raises:
        ValueError: To unroll, the number of time steps is not static.
    """
    inputs = as_tensor(inputs)
    if inputs.rank < 3:
        raise ValueError("Input should be at least 3D.")
    sequence = time_first(inputs)
    fixed = [as_tensor(c) for c in constants or ()]
    states = [as_tensor(s) for s in initial_states]
    masks = None if mask is None else _mask_over_time(as_tensor(mask))
    if go_backwards:
        sequence = ops.flip(sequence, 0)
        masks = None if masks is None else ops.flip(masks, 0)
    length = None
    if unroll:
        length = static_shape(sequence)[0]
        if not length:
            raise ValueError("Unrolling requires a fixed number of timesteps.")
    walked = over_time(
        lambda elements, now: step_function(elements[0], [*now, *fixed]),
        [sequence],
        states,
        masks,
        zero_output_for_mask=zero_output_for_mask,
        unroll=length,
    )
    outputs = time_first(walked.outputs)
    if walked.first._uses_learning_phase:  # type: ignore[attr-defined]
        for tensor in (walked.last, outputs):
            tensor._uses_learning_phase = True  # type: ignore[attr-defined]
    return walked.last, outputs, walked.states


def _mask_over_time(mask: Tensor) -> Tensor:
    """Return a mask as (time, samples) of booleans."""
    if mask.rank == 3:
        mask = ops.squeeze(mask, 2)
    return ops.cast_to(ops.transpose(mask), "bool")


def map_fn(fn: Callable[[Any], Any], elems: Any, name: str | None = None, dtype: Any = None) -> Any:
    """Apply a function to the elements along the first axis; elems may be several tensors."""
    several = isinstance(elems, list | tuple)
    tensors = [as_tensor(e) for e in (elems if several else [elems])]
    _check_lengths(tensors)
    return loops.map_fn(
        lambda *elements: fn(type(elems)(elements) if several else elements[0]), tensors
    )


def _check_lengths(tensors: Sequence[Tensor]) -> None:
    for tensor in tensors:
        if not tensor.rank:
            raise ShapeError("elems is a scalar: there is nothing to go through")


def foldl(
    fn: Callable[[Any, Any], Any], elems: Any, initializer: Any = None, name: str | None = None
) -> Tensor:
    """Combine the elements along the first axis from the first to the last."""
    elems = as_tensor(elems)
    if initializer is None:
        elems, initializer = elems[1:], elems[0]
    return loops.foldl(fn, elems, as_tensors(elems, initializer)[1])


def foldr(
    fn: Callable[[Any, Any], Any], elems: Any, initializer: Any = None, name: str | None = None
) -> Tensor:
    """Combine the elements along the first axis from the last to the first."""
    elems = as_tensor(elems)
    if initializer is None:
        elems, initializer = elems[:-1], elems[-1]
    return loops.foldr(fn, elems, as_tensors(elems, initializer)[1])
