"""Recognising loops whose step is a standard recurrent cell, which MXNet has a kernel for.

A body is read in two layers.  What feeds the gates is *affine*: products of the element and of the
state with matrices from outside, and biases, however they are grouped, sliced and joined; `_Reader`
finds these sums.  What happens to the gates is a formula, which `_fits` compares with the formulas
of the cells, node by node, in either order where operands may be exchanged.  Whatever is not
exactly that stays a loop.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from ksym import dtypes, ops, shapes
from ksym.graph import Node, Tensor, topological_order
from ksym.ops.bodies import Body
from ksym.ops.cells import CELLS, Step
from ksym.ops.leaves import placeholder
from ksym.ops.registry import is_constant

_looking = ContextVar("looking", default=True)


@contextmanager
def kept_as_loops() -> Iterator[None]:
    """Leave the loops that are made inside as they are written, to compare them with kernels."""
    token = _looking.set(False)
    try:
        yield
    finally:
        _looking.reset(token)


# --- affine sums ---------------------------------------------------------------------------------


class _Source(NamedTuple):
    """What a matrix is multiplied with: a parameter of the body, or that times something fixed."""

    parameter: Tensor
    factor: Tensor | None


class _Columns(NamedTuple):
    """A range of the last axis of a tensor outside of the loop."""

    tensor: Tensor
    start: int
    stop: int


class _Affine(NamedTuple):
    """A sum of products and biases, one of which may be missing."""

    terms: Mapping[_Source, _Columns]
    biases: tuple[_Columns, ...]

    @property
    def width(self) -> int:
        """How many columns the sum has."""
        columns = next(iter(self.terms.values()))
        return columns.stop - columns.start


class _Reader:
    """Finds the affine sums of a body.

    Args:
        body: What to read.
        fixed: For each parameter that is the same at all steps what it is outside.

    Attributes:
        found: The sum that a tensor of the body is.
    """

    def __init__(self, body: Body, fixed: Mapping[Tensor, Tensor]):
        self._fixed = fixed
        self._sources: dict[Tensor, tuple[_Source, ...]] = {
            tensor: (_Source(tensor, None),) for tensor in body.inputs if tensor not in fixed
        }
        self.found: dict[Tensor, _Affine] = {}
        rules: dict[Any, Callable[[Node], None]] = {
            ops.add: self._read_sum,
            ops.concatenate: self._read_joined,
            ops.contraction: self._read_product,
            ops.matmul: self._read_product,
            ops.multiply: self._read_factor,
            ops.slice_: self._read_columns,
        }
        for node in topological_order(body.outputs, until=body.inputs):
            if node.operator in rules:
                rules[node.operator](node)

    def _outside(self, tensor: Tensor) -> Tensor | None:
        return tensor if is_constant(tensor) else self._fixed.get(tensor)

    def _read_factor(self, node: Node) -> None:
        """``x * mask``."""
        for x, factor in (node.inputs, node.inputs[::-1]):
            source, fixed = self._sources.get(x), self._outside(factor)
            # As wide as x without it, so that it can be applied to the sequence as a whole.
            if source is None or fixed is None or node.outputs[0].shape != x.shape:
                continue
            if len(source) == 1 and source[0].factor is None and fixed.rank <= x.rank:
                self._sources[node.outputs[0]] = (source[0]._replace(factor=fixed),)

    def _read_joined(self, node: Node) -> None:
        """``concatenate([x, h], 1)``."""
        parts = [self._sources.get(x, ()) for x in node.inputs]
        if all(parts) and node.attributes["axis"] == 1:
            self._sources[node.outputs[0]] = tuple(source for part in parts for source in part)

    def _read_product(self, node: Node) -> None:
        """``x @ w``, of one or several sources side by side."""
        sources, w = self._sources.get(node.inputs[0]), self._outside(node.inputs[1])
        if sources is None or w is None or w.rank != 2:
            return
        across = _is_product(node)
        if across is None or not shapes.is_known(w.shape):
            return
        w = ops.transpose(w) if across else w
        terms, position = {}, 0
        for source in sources:
            side = source.parameter.shape[-1]
            if side is None or source.parameter.rank != 2:
                return
            terms[source] = _columns(w if len(sources) == 1 else w[position : position + side])
            position += side
        if len(terms) == len(sources):
            self.found[node.outputs[0]] = _Affine(terms, ())

    def _read_sum(self, node: Node) -> None:
        """A sum of two sums, or of one and a bias."""
        for one, other in (node.inputs, node.inputs[::-1]):
            first, second = self.found.get(one), self.found.get(other)
            bias = self._outside(other)
            if first is None:
                continue
            if second is not None and first.width == second.width:
                if not first.terms.keys() & second.terms.keys():
                    terms = {**first.terms, **second.terms}
                    self.found[node.outputs[0]] = _Affine(terms, first.biases + second.biases)
                return
            if bias is not None and bias.shape in ((), (first.width,), (1, first.width)):
                vector = ops.broadcast_to(bias, (first.width,)) if not bias.rank else bias
                vector = ops.reshape(vector, (first.width,)) if bias.rank == 2 else vector
                biases = (*first.biases, _columns(vector))
                self.found[node.outputs[0]] = first._replace(biases=biases)

    def _read_columns(self, node: Node) -> None:
        """``a[:, start:stop]``."""
        whole, taken = self.found.get(node.inputs[0]), _last_range(node)
        if whole is None or taken is None:
            return
        start, _, _ = taken.indices(whole.width)
        stop = start + int(node.outputs[0].shape[-1] or 0)

        def part(columns: _Columns) -> _Columns:
            return _Columns(columns.tensor, columns.start + start, columns.start + stop)

        self.found[node.outputs[0]] = _Affine(
            {source: part(columns) for source, columns in whole.terms.items()},
            tuple(map(part, whole.biases)),
        )


def _last_range(node: Node) -> slice | None:
    """Return which range of the last axis a slice takes, if it takes all of the others."""
    starts, stops = (tensor.value for tensor in node.inputs[1:])
    if starts is None or stops is None or any(step != 1 for step in node.attributes["steps"]):
        return None
    *others, (from_start, to_end) = node.attributes["open"]
    if node.outputs[0].shape[-1] is None or any(bounds != (True, True) for bounds in others):
        return None
    return slice(None if from_start else int(starts[-1]), None if to_end else int(stops[-1]))


def _columns(tensor: Tensor) -> _Columns:
    """Return all columns of a tensor, as those of another if it was cut out of that."""
    width = int(tensor.shape[-1] or 0)
    taken = _last_range(tensor.node) if tensor.node.operator is ops.slice_ else None
    whole = tensor if taken is None else tensor.node.inputs[0]
    if taken is None or whole.shape[-1] is None:
        return _Columns(tensor, 0, width)
    start, _, _ = taken.indices(whole.shape[-1])
    return _Columns(whole, start, start + width)


def _is_product(node: Node) -> bool | None:
    """Whether a node multiplies by its second matrix transposed; None if it is another product."""
    if node.operator is ops.matmul:
        flags = node.attributes
        return None if flags["transpose_a"] else flags["transpose_b"]
    (rows, inner), right = node.attributes["labels_a"], node.attributes["labels_b"]
    if inner not in right or node.attributes["output"] != (rows, right[1 - right.index(inner)]):
        return None
    return bool(right.index(inner))


# --- formulas ------------------------------------------------------------------------------------


class _Form(NamedTuple):
    """A way in which a cell's step may be written.

    Attributes:
        mode: Which cell it is.
        step: The formula.
        negated: Gates whose sums have the opposite sign there.
    """

    mode: str
    step: Step
    negated: tuple[int, ...] = ()


def _gru(mixed: Callable[[Any, Any, Any], Any]) -> Step:
    def step(m: Any, gates: Sequence[Any], states: Sequence[Any]) -> tuple[Any, ...]:
        z, r, by_input, by_state = gates
        new = m.tanh(by_input + m.sigmoid(r) * by_state)
        return (mixed(m.sigmoid(z), states[0], new),)

    return step


FORMS = (
    *(_Form(mode, cell.step) for mode, cell in CELLS.items()),
    _Form("gru", _gru(lambda z, h, new: new + z * (h - new))),
    # Where the gate lets the new state in instead of keeping the old one, 1 - z is sigmoid(-a).
    _Form("gru", _gru(lambda z, h, new: (1 - z) * h + z * new), negated=(0,)),
    _Form("gru", _gru(lambda z, h, new: h + z * (new - h)), negated=(0,)),
)


class _Pattern(NamedTuple):
    """A form, as a graph of placeholders for gates and states."""

    form: _Form
    gates: list[Tensor]
    states: list[Tensor]
    new: tuple[Tensor, ...]


@functools.cache
def _patterns(dtype: str) -> list[_Pattern]:
    """Return all forms for a dtype, which decides that of constants."""
    result = []
    for form in FORMS:
        cell = CELLS[form.mode]
        gates = [placeholder((None, None), dtype) for _ in range(cell.gates + cell.apart)]
        states = [placeholder((None, None), dtype) for _ in range(cell.states)]
        result.append(_Pattern(form, gates, states, form.step(ops, gates, states)))
    return result


_EXCHANGEABLE = (ops.add, ops.multiply)
_Bindings = dict[Tensor, Tensor]


def _fits(
    pattern: Tensor, tensor: Tensor, ends: Mapping[Tensor, Any], bound: _Bindings
) -> _Bindings | None:
    """Return bound with what each tensor of a pattern stands for; None if it does not fit.

    Args:
        pattern: What is looked for.
        tensor: Where it is looked for.
        ends: For each placeholder of the pattern what it may stand for.
        bound: What is known to stand for what.
    """
    if pattern in ends:
        fits = tensor in ends[pattern] and bound.get(pattern, tensor) is tensor
        return {**bound, pattern: tensor} if fits else None
    node, other = pattern.node, tensor.node
    if node.operator is not other.operator or dict(node.attributes) != dict(other.attributes):
        return None
    orders = [other.inputs]
    if node.operator in _EXCHANGEABLE:
        orders.append(other.inputs[::-1])
    for operands in orders:
        found: _Bindings | None = bound
        for part, operand in zip(node.inputs, operands, strict=True):
            found = None if found is None else _fits(part, operand, ends, found)
        if found is not None:
            return {**found, pattern: tensor}
    return None


# --- kernels -------------------------------------------------------------------------------------


class _Layer(NamedTuple):
    """A body that is a cell.

    Attributes:
        form: Which one, and how it is written.
        new: What the new states of the cell are in the body.
        positions: Where the states of the cell are among those of the body.
        source: What the kernel is multiplied with.
        by_input: For each gate of the cell its columns of the kernel.
        by_state: Likewise of the recurrent kernel.
        biases: For each bias of the cell and each gate what is added up to it.
    """

    form: _Form
    new: list[Tensor]
    positions: list[int]
    source: _Source
    by_input: list[_Columns]
    by_state: list[_Columns]
    biases: list[list[tuple[_Columns, ...]]]


def _layer(body: Body, fixed: Mapping[Tensor, Tensor], states: int) -> _Layer | None:
    """Read a body of one sequence as a cell."""
    found = _Reader(body, fixed).found
    if not found:
        return None
    element, carried = body.inputs[0], body.inputs[1 : 1 + states]
    for pattern in _patterns(element.dtype):
        ends = dict.fromkeys(pattern.gates, found) | dict.fromkeys(pattern.states, carried)
        for output in dict.fromkeys(body.outputs):
            bound = _fits(pattern.new[0], output, ends, {})
            if bound is None:
                continue
            layer = _assembled(pattern, bound, found, element, carried)
            if layer is not None and _gives_nothing_else(body, layer, states):
                return layer
    return None


def _assembled(
    pattern: _Pattern,
    bound: _Bindings,
    found: Mapping[Tensor, _Affine],
    element: Tensor,
    carried: Sequence[Tensor],
) -> _Layer | None:
    """Put the sums of gates together; None if they are not of one element and one state."""
    cell = CELLS[pattern.form.mode]
    sums = [found[bound[gate]] for gate in pattern.gates]
    by_input, by_state = sums, sums
    if cell.apart:
        by_input, by_state = sums[:-1], [*sums[:-2], sums[-1]]
    sources = {source for gate in sums for source in gate.terms}
    elements = [source for source in sources if source.parameter is element]
    states = [source for source in sources if source.parameter in carried]
    if len(elements) != 1 or len(states) != 1 or states[0].factor is not None:
        return None
    (x,), (h,) = elements, states
    wanted = [{x, h}] * cell.gates
    if cell.apart:
        wanted = [*wanted[:-1], {x}, {h}]
    if [set(gate.terms) for gate in sums] != wanted:
        return None
    if bound.setdefault(pattern.states[0], h.parameter) is not h.parameter:
        return None
    if len({gate.width for gate in sums}) != 1 or h.parameter.shape[1] != sums[0].width:
        return None
    biases = [[gate.biases for gate in sums]]
    if cell.apart:
        # Of sums of both, the first bias goes with the input: that is how they are written.
        joint = sums[:-2]
        biases = [
            [*(gate.biases[:1] for gate in joint), sums[-2].biases],
            [*(gate.biases[1:] for gate in joint), sums[-1].biases],
        ]
    return _Layer(
        pattern.form,
        [bound[new] for new in pattern.new],
        [carried.index(bound[state]) for state in pattern.states],
        x,
        [gate.terms[x] for gate in by_input],
        [gate.terms[h] for gate in by_state],
        biases,
    )


def _gives_nothing_else(body: Body, layer: _Layer, states: int) -> bool:
    """Whether a kernel gives all that a body gives."""
    new, outputs = body.outputs[:states], body.outputs[states:]
    return (
        [new[position] for position in layer.positions] == layer.new
        and all(tensor in layer.new for tensor in new)
        and all(tensor is layer.new[0] for tensor in outputs)
    )


def _joined(parts: Sequence[_Columns]) -> Tensor:
    """Return ranges side by side; those that are next to each other stay together."""
    runs: list[_Columns] = []
    for part in parts:
        if runs and runs[-1].tensor is part.tensor and runs[-1].stop == part.start:
            runs[-1] = runs[-1]._replace(stop=part.stop)
        else:
            runs.append(part)
    pieces = [
        run.tensor
        if (run.start, run.stop) == (0, run.tensor.shape[-1])
        else run.tensor[..., run.start : run.stop]
        for run in runs
    ]
    return pieces[0] if len(pieces) == 1 else ops.concatenate(pieces, -1)


def _negated(parts: Sequence[_Columns], which: Sequence[int]) -> list[_Columns]:
    """Return ranges of which some have the opposite sign."""
    return [
        _Columns(ops.negative(part.tensor[..., part.start : part.stop]), 0, part.stop - part.start)
        if i in which
        else part
        for i, part in enumerate(parts)
    ]


def _summed(gates: Sequence[tuple[_Columns, ...]], negated: Sequence[int], like: Tensor) -> Tensor:
    """Return the sum of the biases of each gate, all gates side by side."""
    units = like.shape[0] or 0
    if not any(gates):
        return ops.zeros((units * len(gates),), like.dtype)
    nothing = _Columns(ops.zeros((units,), like.dtype), 0, units)
    rows = [
        [biases[i] if i < len(biases) else nothing for biases in gates]
        for i in range(max(map(len, gates)))
    ]
    first, *others = (_joined(_negated(row, negated)) for row in rows)
    return functools.reduce(ops.add, others, first)


KERNELS = {
    "rnn_tanh": ops.simple_rnn,
    "rnn_relu": ops.simple_rnn,
    "lstm": ops.lstm,
    "gru": ops.gru,
}


def kernel_for(
    operands: Sequence[Tensor], attributes: Mapping[str, Any], whole: bool
) -> list[Tensor] | None:
    """Return what a loop gives, computed by a kernel; None where there is none for it.

    Args:
        operands: Those of the node of a scan.
        attributes: Its attributes.
        whole: Whether it is known to take a step for each element of its sequence.

    Returns:
        The last states and the outputs of all steps.
    """
    body: Body = attributes["body"]
    steps, x, *rest = operands
    states: int = attributes["states"]
    initial = rest[:states]
    if not (_looking.get() and whole and attributes["sequences"] == 1 and x.rank == 3):
        return None
    if not dtypes.is_float(x.dtype) or any(t.rank != 2 or t.dtype != x.dtype for t in initial):
        return None
    layer = _layer(body, dict(zip(body.inputs[1 + states :], rest[states:], strict=True)), states)
    if layer is None or not all(shapes.compatible(t.shape, layer.new[0].shape) for t in initial):
        return None
    if layer.source.factor is not None:
        x = x * layer.source.factor
    negated = layer.form.negated
    kernel = _joined(_negated(layer.by_input, negated))
    recurrent_kernel = _joined(_negated(layer.by_state, negated))
    biases = [_summed(gates, negated, recurrent_kernel) for gates in layer.biases]
    given = [initial[position] for position in layer.positions]
    reverse: bool = attributes["reverse"]
    outputs, *last = KERNELS[layer.form.mode].make(
        [ops.flip(x, 0) if reverse else x, *given, kernel, recurrent_kernel, *biases],
        {"cell": layer.form.mode},
    )
    results = []
    for position, start in enumerate(initial):
        final = last[layer.new.index(body.outputs[position])]
        if position not in layer.positions and not x.shape[0]:
            # It is what the last step made of it, if there is one.
            final = ops.where(ops.greater(steps, 0), final, start)
        results.append(final)
    outputs = ops.flip(outputs, 0) if reverse else outputs
    return [*results, *[outputs] * (len(body.outputs) - states)]
