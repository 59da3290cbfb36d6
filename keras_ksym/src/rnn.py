"""Keras's module rnn: recurrent layers as loops over time steps, and as kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras.src import tree

import ksym
from keras_ksym.src.operation import Operand, operation
from keras_ksym.src.tensor import Tensor, has_tensors, made, tensor
from ksym.networks.recurrent import over_time, time_first

__all__ = ["bidirectional_gru", "bidirectional_lstm", "cudnn_ok", "gru", "lstm", "rnn"]

Graph = ksym.Tensor


def rnn(
    step_function: Callable[..., Any],
    inputs: Any,
    initial_states: Any,
    go_backwards: bool = False,
    mask: Any = None,
    constants: Any = None,
    unroll: bool = False,
    input_length: int | None = None,
    time_major: bool = False,
    zero_output_for_mask: bool = False,
    return_all_outputs: bool = True,
) -> tuple[Any, Any, Any]:
    """Apply a step to the elements of sequences, as Keras's recurrent layers do.

    Args:
        step_function: ``(input, states + constants) -> (output, new states)``.
        inputs: (samples, time, ...), or nested ones.
        initial_states: A tensor of (samples, ...) for each state.
        go_backwards: Go through the time steps from the last to the first.
        mask: (samples, time), or with a last axis of size 1: where it is False the states stay,
            and the output is that of the step before.
        constants: Handed to each step after the states.
        unroll: Put all steps into the graph instead of a loop.
        input_length: Not needed: the number of time steps is taken from the inputs.
        time_major: Whether time is the first axis.
        zero_output_for_mask: Where the mask is False the output is zero instead.
        return_all_outputs: Whether all outputs are wanted, or the last one.

    Returns:
        The last output, all outputs (samples, time, ...), and the last states.

    Raises:
        ValueError: To unroll, the number of time steps is not known.
    """
    values = [inputs, initial_states, mask, constants]
    if not any(has_tensors(leaf) for leaf in tree.flatten(values)):
        settings = {
            "go_backwards": go_backwards,
            "unroll": unroll,
            "input_length": input_length,
            "time_major": time_major,
            "zero_output_for_mask": zero_output_for_mask,
            "return_all_outputs": return_all_outputs,
        }
        return _of_values(step_function, values, settings)
    sequences = [tensor(x) for x in tree.flatten(inputs)]
    states = [tensor(s) for s in tree.flatten(initial_states)]
    fixed = list(constants or [])
    graphs = [x.graph if time_major else time_first(x.graph) for x in sequences]
    masks = None if mask is None else _over_time(tensor(mask), time_major)
    if go_backwards:
        graphs = [ksym.flip(graph, 0) for graph in graphs]
        masks = None if masks is None else ksym.flip(masks, 0)
    kind: dict[str, Any] = {}

    def step(elements: list[Graph], now: list[Graph]) -> tuple[Graph, list[Graph]]:
        packed = tree.pack_sequence_as(
            inputs, [Tensor(g, x.dtype) for g, x in zip(elements, sequences, strict=True)]
        )
        current = [Tensor(g, s.dtype) for g, s in zip(now, states, strict=True)]
        output, new = step_function(
            packed, [*tree.pack_sequence_as(initial_states, current), *fixed]
        )
        result = tensor(output)
        kind["dtype"] = result.dtype
        # The same tensor as an output and as a state is one to the loop.
        return result.graph, [
            result.graph if n is output else tensor(n).graph_in(s.dtype)
            for n, s in zip(tree.flatten(new), states, strict=True)
        ]

    length = None
    if unroll:
        length = graphs[0].shape[0]
        if not length:
            raise ValueError("Unrolling requires a fixed number of timesteps.")
    walked = over_time(
        step,
        graphs,
        [s.graph for s in states],
        masks,
        zero_output_for_mask=zero_output_for_mask,
        unroll=length,
    )
    dtype = kind["dtype"]
    outputs = walked.outputs if return_all_outputs else ksym.expand_dims(walked.last, 0)
    outputs = outputs if time_major else time_first(outputs)
    ends = [Tensor(g, s.dtype) for g, s in zip(walked.states, states, strict=True)]
    return (
        Tensor(walked.last, dtype),
        Tensor(outputs, dtype),
        tree.pack_sequence_as(initial_states, ends),
    )


def _over_time(mask: Tensor, time_major: bool) -> Graph:
    """Return a mask as (time, samples) of booleans."""
    graph = mask.graph_in("bool")
    if graph.rank == 3:
        graph = ksym.squeeze(graph, 2)
    return graph if time_major else ksym.transpose(graph)


def _of_values(
    step_function: Callable[..., Any], values: list[Any], settings: dict[str, Any]
) -> Any:
    """Trace and compute a loop over values.

    Args:
        step_function: As for `rnn`.
        values: The inputs, the initial states, the mask, and the constants.
        settings: The other arguments of `rnn`.
    """
    from keras_ksym.src.ops.core import convert_to_tensor
    from keras_ksym.src.tracing import tracing

    arrays = tree.map_structure(lambda x: None if x is None else convert_to_tensor(x), values)
    inner: list[Graph] = []

    def opened(array: Any) -> Any:
        if array is None:
            return None
        whole = tensor(array)
        inner.append(ksym.placeholder(whole.shape, whole.graph.dtype))
        return Tensor(inner[-1], whole.dtype)

    sequences, states, mask, constants = tree.map_structure(opened, arrays)
    with tracing():
        found = rnn(step_function, sequences, states, mask=mask, constants=constants, **settings)
    feeds = [tensor(a).graph.value for a in tree.flatten(arrays) if a is not None]
    leaves = tree.flatten(found)
    compute = ksym.function(inner, [leaf.graph for leaf in leaves], on_unused_input="ignore")
    results = compute(*feeds)
    return tree.pack_sequence_as(
        found,
        [
            r if leaf.dtype == r.dtype.name else r.astype(leaf.dtype)
            for r, leaf in zip(results, leaves, strict=True)
        ],
    )


def cudnn_ok(*args: Any, **kwargs: Any) -> bool:
    """Return whether cuDNN's layers could be used: ksym has kernels of its own."""
    return False


def _has_kernel(
    mask: Any, unroll: bool, activation: Any, recurrent_activation: Any, *values: Any
) -> bool:
    """Return whether a layer of these settings, of values of these dtypes, has a kernel."""
    gates = [str(getattr(f, "__name__", f)) for f in (activation, recurrent_activation)]
    dtypes = {str(value.dtype) for value in values}
    is_plain = mask is None and not unroll and gates == ["tanh", "sigmoid"]
    return is_plain and len(dtypes) == 1 and dtypes <= {"float32", "float64"}


def _walked(x: Tensor, backwards: bool) -> Graph:
    """Return a sequence as (time, samples, ...), in the order in which it is gone through."""
    sequence = time_first(x.graph)
    return ksym.flip(sequence, 0) if backwards else sequence


@operation
def _lstm(
    x: Operand,
    h: Operand,
    c: Operand,
    kernel: Operand,
    recurrent_kernel: Operand,
    bias: Operand,
    backwards: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = x.dtype
    weights = [w.graph_in(dtype) for w in (kernel, recurrent_kernel)]
    extra = [] if bias is None else [bias.graph_in(dtype)]
    outputs, last, memory = ksym.lstm(
        _walked(x, backwards), h.graph_in(dtype), c.graph_in(dtype), *weights, *extra
    )
    return made(time_first(outputs), dtype), made(last, dtype), made(memory, dtype)


def lstm(
    inputs: Any,
    initial_state_h: Any,
    initial_state_c: Any,
    mask: Any,
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any,
    activation: Any,
    recurrent_activation: Any,
    return_sequences: bool = False,
    go_backwards: bool = False,
    unroll: bool = False,
) -> tuple[Any, Any, list[Any]]:
    """Apply an LSTM by its kernel.

    Raises:
        NotImplementedError: There is no kernel for the mask, the activations or unrolling: Keras
            takes `rnn` then.
    """
    if not _has_kernel(mask, unroll, activation, recurrent_activation, inputs, kernel):
        raise NotImplementedError
    outputs, last, memory = _lstm(
        inputs, initial_state_h, initial_state_c, kernel, recurrent_kernel, bias, go_backwards
    )
    return last, outputs if return_sequences else _step(last), [last, memory]


@operation
def _step(last: Operand) -> Tensor:
    """Return the last output as a sequence of one step."""
    return Tensor(ksym.expand_dims(last.graph, 1), last.dtype)


@operation
def _gru(
    x: Operand,
    h: Operand,
    kernel: Operand,
    recurrent_kernel: Operand,
    bias: Operand,
    backwards: bool,
) -> tuple[Tensor, Tensor]:
    dtype = x.dtype
    weights = [w.graph_in(dtype) for w in (kernel, recurrent_kernel)]
    extra = [] if bias is None else ksym.unstack(bias.graph_in(dtype), 0)
    outputs, last = ksym.gru(_walked(x, backwards), h.graph_in(dtype), *weights, *extra)
    return made(time_first(outputs), dtype), made(last, dtype)


def gru(
    inputs: Any,
    initial_state: Any,
    mask: Any,
    kernel: Any,
    recurrent_kernel: Any,
    bias: Any,
    activation: Any,
    recurrent_activation: Any,
    return_sequences: bool = False,
    go_backwards: bool = False,
    unroll: bool = False,
    reset_after: bool = True,
) -> tuple[Any, Any, list[Any]]:
    """Apply a GRU that resets after the product by its kernel.

    Raises:
        NotImplementedError: There is no kernel for the mask, the activations or unrolling: Keras
            takes `rnn` then.
    """
    kind = mask, unroll, activation, recurrent_activation
    if not reset_after or not _has_kernel(*kind, inputs, kernel):
        raise NotImplementedError
    outputs, last = _gru(inputs, initial_state, kernel, recurrent_kernel, bias, go_backwards)
    return last, outputs if return_sequences else _step(last), [last]


def bidirectional_lstm(*args: Any, **kwargs: Any) -> Any:
    """Refuse: Keras applies two layers, each by its kernel."""
    raise NotImplementedError


bidirectional_gru = bidirectional_lstm
