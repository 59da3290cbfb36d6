"""Recognition of loops whose step is a standard recurrent cell, for which MXNet has a kernel.

A body is matched in two layers.  The inputs of the gates are *affine*: products of the element and
of the state with matrices from outside, and biases, in any grouping; `Reader` finds these sums.
The functions of the gates are a formula, which `_matched` compares with the formulas of the cells,
node by node, with the operands of commutative operators in either order.  A body that does not
match exactly stays a loop.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from ksym import dtypes, ops, shapes
from ksym.graph import Tensor
from ksym.loops.affine import Affine, Columns, Multiplicand, Reader, joined, negated
from ksym.loops.cells import CELLS, Cell, CellStep
from ksym.loops.recurrent import gru, lstm, simple_rnn
from ksym.loops.view import ScanResults, ScanView
from ksym.ops.leaves import placeholder

_enabled = ContextVar("recognition_enabled", default=True)


@contextmanager
def kept_as_loops() -> Iterator[None]:
    """Turn recognition off for the loops that are made inside, to compare them with kernels."""
    token = _enabled.set(False)
    try:
        yield
    finally:
        _enabled.reset(token)


# --- formulas ------------------------------------------------------------------------------------


class _Form(NamedTuple):
    """A way in which a cell's step may be written.

    Attributes:
        mode: The name of the cell.
        step: The formula.
        negated: The gates whose sums have the opposite sign in this form.
    """

    mode: str
    step: CellStep
    negated: tuple[int, ...] = ()


def _gru_like(mixed: Callable[[Any, Any, Any], Any]) -> CellStep:
    def step(m: Any, gates: Sequence[Any], states: Sequence[Any]) -> tuple[Any, ...]:
        z, r, by_input, by_state = gates
        new = m.tanh(by_input + m.sigmoid(r) * by_state)
        return (mixed(m.sigmoid(z), states[0], new),)

    return step


FORMS = (
    *(_Form(mode, cell.step) for mode, cell in CELLS.items()),
    _Form("gru", _gru_like(lambda z, h, new: new + z * (h - new))),
    # If the gate is the weight of the new state instead of the old one, 1 - z is sigmoid(-a).
    _Form("gru", _gru_like(lambda z, h, new: (1 - z) * h + z * new), negated=(0,)),
    _Form("gru", _gru_like(lambda z, h, new: h + z * (new - h)), negated=(0,)),
)


class _Pattern(NamedTuple):
    """A form, as a graph of placeholders for gates and states."""

    form: _Form
    gates: list[Tensor]
    states: list[Tensor]
    new: tuple[Tensor, ...]


@functools.cache
def _patterns(dtype: str) -> list[_Pattern]:
    """Return all forms for a dtype, which is that of their constants."""
    result = []
    for form in FORMS:
        cell = CELLS[form.mode]
        gates = [placeholder((None, None), dtype) for _ in range(cell.gates + cell.apart)]
        states = [placeholder((None, None), dtype) for _ in range(cell.states)]
        result.append(_Pattern(form, gates, states, form.step(ops, gates, states)))
    return result


_Bindings = dict[Tensor, Tensor]


def _matched(
    pattern: Tensor, tensor: Tensor, ends: Mapping[Tensor, Any], bound: _Bindings
) -> _Bindings | None:
    """Match a tensor with a pattern; return the bindings of its tensors, None without a match.

    Args:
        pattern: The pattern.
        tensor: The tensor.
        ends: For each placeholder of the pattern the tensors that it may be bound to.
        bound: The bindings so far, which are kept.
    """
    if pattern in ends:
        matches = tensor in ends[pattern] and bound.get(pattern, tensor) is tensor
        return {**bound, pattern: tensor} if matches else None
    node, other = pattern.node, tensor.node
    if node.operator is not other.operator or dict(node.attributes) != dict(other.attributes):
        return None
    orders = [other.inputs]
    if node.operator.commutative:
        orders.append(other.inputs[::-1])
    for operands in orders:
        found: _Bindings | None = bound
        for part, operand in zip(node.inputs, operands, strict=True):
            found = None if found is None else _matched(part, operand, ends, found)
        if found is not None:
            return {**found, pattern: tensor}
    return None


# --- kernels -------------------------------------------------------------------------------------


class _Layer(NamedTuple):
    """A body that is a cell.

    Attributes:
        form: The form of the cell.
        new: The tensors of the body that are the new states of the cell.
        positions: The positions of the states of the cell among those of the body.
        source: The multiplicand of the kernel.
        by_input: The columns of the kernel for each gate of the cell.
        by_state: The columns of the recurrent kernel for each gate.
        biases: For each bias of the cell and each gate, the ranges that it is the sum of.
    """

    form: _Form
    new: list[Tensor]
    positions: list[int]
    source: Multiplicand
    by_input: list[Columns]
    by_state: list[Columns]
    biases: list[list[tuple[Columns, ...]]]


class _Gates(NamedTuple):
    """The affine sums that are the gates of a cell.

    Attributes:
        cell: The cell.
        sums: A sum for each gate of `Cell.joined`.
    """

    cell: Cell
    sums: Sequence[Affine]

    @property
    def by_input(self) -> Sequence[Affine]:
        """The sum with the product of the element, for each gate."""
        return self.sums[:-1] if self.cell.apart else self.sums

    @property
    def by_state(self) -> Sequence[Affine]:
        """The sum with the product of the state, for each gate."""
        return [*self.sums[:-2], self.sums[-1]] if self.cell.apart else self.sums

    @property
    def biases(self) -> list[list[tuple[Columns, ...]]]:
        """The ranges that each bias of the cell is the sum of, for each gate."""
        if not self.cell.apart:
            return [[gate.biases for gate in self.sums]]
        # In a sum with both products, the first bias is that of the input, by convention.
        *joint, by_input, by_state = (gate.biases for gate in self.sums)
        return [
            [*(biases[:1] for biases in joint), by_input],
            [*(biases[1:] for biases in joint), by_state],
        ]

    def factors(self, loop: ScanView) -> tuple[Multiplicand, Multiplicand] | None:
        """Return the multiplicands, an element and a state; None if there are others."""
        found = {source for gate in self.sums for source in gate.terms}
        elements = [source for source in found if source.parameter in loop.elements]
        states = [source for source in found if source.parameter in loop.before]
        if len(elements) != 1 or len(states) != 1 or states[0].factor is not None:
            return None
        (x,), (h,) = elements, states
        wanted = [{x, h}] * len(self.sums)
        if self.cell.apart:
            wanted[-2:] = {x}, {h}
        return (x, h) if [set(gate.terms) for gate in self.sums] == wanted else None


def _layer(loop: ScanView) -> _Layer | None:
    """Match the body of a loop over one sequence with the cells; None if it is none."""
    found = Reader(loop).found
    if not found:
        return None
    for pattern in _patterns(loop.elements[0].dtype):
        ends = dict.fromkeys(pattern.gates, found) | dict.fromkeys(pattern.states, loop.before)
        for output in dict.fromkeys(loop.roots):
            bound = _matched(pattern.new[0], output, ends, {})
            if bound is None:
                continue
            layer = _assembled(pattern, bound, found, loop)
            if layer is not None and _computes_all(loop, layer):
                return layer
    return None


def _assembled(
    pattern: _Pattern, bound: _Bindings, found: Mapping[Tensor, Affine], loop: ScanView
) -> _Layer | None:
    """Return the layer for a matched pattern; None if its sums are not those of one layer."""
    gates = _Gates(CELLS[pattern.form.mode], [found[bound[gate]] for gate in pattern.gates])
    factors = gates.factors(loop)
    if factors is None:
        return None
    x, h = factors
    if bound.setdefault(pattern.states[0], h.parameter) is not h.parameter:
        return None
    if {gate.width for gate in gates.sums} != {h.parameter.shape[1]}:
        return None
    return _Layer(
        pattern.form,
        [bound[new] for new in pattern.new],
        [loop.before.index(bound[state]) for state in pattern.states],
        x,
        [gate.terms[x] for gate in gates.by_input],
        [gate.terms[h] for gate in gates.by_state],
        gates.biases,
    )


def _computes_all(loop: ScanView, layer: _Layer) -> bool:
    """Return whether a kernel computes all results of a loop."""
    return (
        [loop.new[position] for position in layer.positions] == layer.new
        and all(tensor in layer.new for tensor in loop.new)
        and all(tensor is layer.new[0] for tensor in loop.outputs)
    )


def _summed(gates: Sequence[tuple[Columns, ...]], opposite: Sequence[int], like: Tensor) -> Tensor:
    """Return the sums of the biases of all gates, side by side in one vector."""
    units = like.shape[0] or 0
    if not any(gates):
        return ops.zeros((units * len(gates),), like.dtype)
    nothing = Columns(ops.zeros((units,), like.dtype), 0, units)
    rows = [
        [biases[i] if i < len(biases) else nothing for biases in gates]
        for i in range(max(map(len, gates)))
    ]
    first, *others = (joined(negated(row, opposite)) for row in rows)
    return functools.reduce(ops.add, others, first)


def _with_batch(x: Tensor, h: Tensor) -> Tensor:
    """Return a sequence broadcast to the batch of a state, as a step would broadcast it."""
    if x.shape[1] == h.shape[0] is not None:
        return x
    length, _, features = (
        ops.shape_of(x)[axis] if side is None else side for axis, side in enumerate(x.shape)
    )
    return ops.broadcast_to(x, (length, ops.shape_of(h)[0], features))


KERNELS = {
    "rnn_tanh": simple_rnn,
    "rnn_relu": simple_rnn,
    "lstm": lstm,
    "gru": gru,
}


def kernel_for(loop: ScanView, whole: bool) -> ScanResults[Tensor] | None:
    """Return the results of a loop, computed by a kernel; None if there is no kernel for it.

    Args:
        loop: A loop that has no node yet.
        whole: Whether it is known to take a step for each element of its sequence.

    Returns:
        The last states and the outputs of all steps; no histories.
    """
    if not (_enabled.get() and whole and _has_operands_of_layer(loop)):
        return None
    layer = _layer(loop)
    if layer is None:
        return None
    if not all(shapes.compatible(t.shape, layer.new[0].shape) for t in loop.initial):
        return None
    outputs, *last = _applied(layer, loop)
    finals = []
    for position, (start, new) in enumerate(zip(loop.initial, loop.new, strict=True)):
        final = last[layer.new.index(new)]
        if position not in layer.positions and not loop.sequences[0].shape[0]:
            # The result of the last step, if there is a step; else the initial state.
            final = ops.where(ops.greater(loop.steps, 0), final, start)
        finals.append(final)
    outputs = ops.flip(outputs, 0) if loop.reverse else outputs
    return ScanResults(finals, [outputs] * len(loop.outputs))


def _has_operands_of_layer(loop: ScanView) -> bool:
    """Return whether a loop has one sequence of matrices, and states that are matrices."""
    if len(loop.sequences) != 1 or loop.sequences[0].rank != 3:
        return False
    dtype = loop.sequences[0].dtype
    return dtypes.is_float(dtype) and all(t.rank == 2 and t.dtype == dtype for t in loop.initial)


def _applied(layer: _Layer, loop: ScanView) -> Sequence[Tensor]:
    """Apply the kernel; return the outputs of all steps in its order, and the last states."""
    (x,) = loop.sequences
    if layer.source.factor is not None:
        x = x * layer.source.factor
    opposite = layer.form.negated
    kernel = joined(negated(layer.by_input, opposite))
    recurrent_kernel = joined(negated(layer.by_state, opposite))
    biases = [_summed(gates, opposite, recurrent_kernel) for gates in layer.biases]
    states = [loop.initial[position] for position in layer.positions]
    x = _with_batch(x, states[0])
    results: Sequence[Tensor] = KERNELS[layer.form.mode].make(
        [ops.flip(x, 0) if loop.reverse else x, *states, kernel, recurrent_kernel, *biases],
        {"cell": layer.form.mode},
    )
    return results
