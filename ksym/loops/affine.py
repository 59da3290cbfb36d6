"""Recognition of affine sums in a loop's body: products with matrices from outside, and biases.

They are found in all forms in which they are written: one product for all gates or one for each,
biases added before or after, slices, and one product of several vectors that are concatenated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ksym import ops, shapes
from ksym.graph import Node, Tensor, topological_order
from ksym.loops.view import ScanView
from ksym.ops.leaves import is_constant


class Multiplicand(NamedTuple):
    """The left operand of a product: a parameter of the body, which may be multiplied by a factor.

    Attributes:
        parameter: The parameter: an element of a sequence, or a state.
        factor: The factor, which is the same at all steps; None if there is none.
    """

    parameter: Tensor
    factor: Tensor | None


class Columns(NamedTuple):
    """A range of the last axis of a tensor outside of the loop."""

    tensor: Tensor
    start: int
    stop: int


class Affine(NamedTuple):
    """A sum of products and biases.

    Attributes:
        terms: The matrix that each multiplicand is multiplied with.
        biases: The biases that are added; there may be none.
    """

    terms: Mapping[Multiplicand, Columns]
    biases: tuple[Columns, ...]

    @property
    def width(self) -> int:
        """The number of columns of the sum."""
        columns = next(iter(self.terms.values()))
        return columns.stop - columns.start


class Reader:
    """The affine sums of a loop's body, which are found in one walk over its nodes.

    There is a rule for each operator of which such sums are made.  The rules are methods here, and
    no parts of the operators' declarations, since each of them changes the state of this analysis
    and nothing else uses it.

    Args:
        loop: The loop to read.

    Attributes:
        found: For each tensor of the body that is an affine sum, this sum.
    """

    def __init__(self, loop: ScanView):
        self._fixed = dict(zip(loop.rest, loop.closed, strict=True))
        self._sources: dict[Tensor, tuple[Multiplicand, ...]] = {
            tensor: (Multiplicand(tensor, None),) for tensor in (*loop.elements, *loop.before)
        }
        self.found: dict[Tensor, Affine] = {}
        rules: dict[Any, Callable[[Node], None]] = {
            ops.add: self._read_sum,
            ops.concatenate: self._read_joined,
            ops.contraction: self._read_product,
            ops.einsum: self._read_product,
            ops.matmul: self._read_product,
            ops.multiply: self._read_factor,
            ops.slice_: self._read_columns,
        }
        for node in topological_order(loop.roots, until={*self._sources, *self._fixed}):
            if node.operator in rules:
                rules[node.operator](node)

    def _outside(self, tensor: Tensor) -> Tensor | None:
        return tensor if is_constant(tensor) else self._fixed.get(tensor)

    def _read_factor(self, node: Node) -> None:
        """Record the multiplicand ``x * mask``."""
        for x, factor in (node.inputs, node.inputs[::-1]):
            source, fixed = self._sources.get(x), self._outside(factor)
            # The factor does not broadcast x, so that it can be applied to the whole sequence.
            if source is None or fixed is None or node.outputs[0].shape != x.shape:
                continue
            if len(source) == 1 and source[0].factor is None and fixed.rank <= x.rank:
                self._sources[node.outputs[0]] = (source[0]._replace(factor=fixed),)

    def _read_joined(self, node: Node) -> None:
        """Record the multiplicands side by side in ``concatenate([x, h], 1)``."""
        parts = [self._sources.get(x, ()) for x in node.inputs]
        if all(parts) and node.attributes["axis"] == 1:
            self._sources[node.outputs[0]] = tuple(source for part in parts for source in part)

    def _read_product(self, node: Node) -> None:
        """Record the sum ``x @ w``, of one multiplicand or of several side by side."""
        if len(node.inputs) != 2:
            return
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
            self.found[node.outputs[0]] = Affine(terms, ())

    def _read_sum(self, node: Node) -> None:
        """Record the sum of two affine sums, or of one and a bias."""
        for one, other in (node.inputs, node.inputs[::-1]):
            first, second = self.found.get(one), self.found.get(other)
            bias = self._outside(other)
            if first is None:
                continue
            if second is not None and first.width == second.width:
                if not first.terms.keys() & second.terms.keys():
                    terms = {**first.terms, **second.terms}
                    self.found[node.outputs[0]] = Affine(terms, first.biases + second.biases)
                return
            if bias is not None and bias.shape in ((), (first.width,), (1, first.width)):
                vector = ops.broadcast_to(bias, (first.width,)) if not bias.rank else bias
                vector = ops.reshape(vector, (first.width,)) if bias.rank == 2 else vector
                biases = (*first.biases, _columns(vector))
                self.found[node.outputs[0]] = first._replace(biases=biases)

    def _read_columns(self, node: Node) -> None:
        """Record the columns ``a[:, start:stop]`` of a sum."""
        whole, taken = self.found.get(node.inputs[0]), _last_range(node)
        if whole is None or taken is None:
            return
        start, _, _ = taken.indices(whole.width)
        stop = start + int(node.outputs[0].shape[-1] or 0)

        def part(columns: Columns) -> Columns:
            return Columns(columns.tensor, columns.start + start, columns.start + stop)

        self.found[node.outputs[0]] = Affine(
            {source: part(columns) for source, columns in whole.terms.items()},
            tuple(map(part, whole.biases)),
        )


def _last_range(node: Node) -> slice | None:
    """Return the range of the last axis that a slice takes; None if it cuts other axes too."""
    starts, stops = (tensor.value for tensor in node.inputs[1:])
    if starts is None or stops is None or any(step != 1 for step in node.attributes["steps"]):
        return None
    *others, (from_start, to_end) = node.attributes["open"]
    if node.outputs[0].shape[-1] is None or any(bounds != (True, True) for bounds in others):
        return None
    return slice(None if from_start else int(starts[-1]), None if to_end else int(stops[-1]))


def _columns(tensor: Tensor) -> Columns:
    """Return all columns of a tensor; if it is a slice of another one, as columns of that."""
    width = int(tensor.shape[-1] or 0)
    taken = _last_range(tensor.node) if tensor.node.operator is ops.slice_ else None
    whole = tensor if taken is None else tensor.node.inputs[0]
    if taken is None or whole.shape[-1] is None:
        return Columns(tensor, 0, width)
    start, _, _ = taken.indices(whole.shape[-1])
    return Columns(whole, start, start + width)


def _is_product(node: Node) -> bool | None:
    """Return whether a product transposes its second matrix; None if it is another product."""
    if node.operator is ops.matmul:
        flags = node.attributes
        return None if flags["transpose_a"] else flags["transpose_b"]
    attributes = node.attributes
    both = attributes.get("labels") or (attributes["labels_a"], attributes["labels_b"])
    (rows, inner), right = both
    if inner not in right or attributes["output"] != (rows, right[1 - right.index(inner)]):
        return None
    return bool(right.index(inner))


def joined(parts: Sequence[Columns]) -> Tensor:
    """Return the concatenation of ranges; adjoining ones are not cut apart."""
    runs: list[Columns] = []
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


def negated(parts: Sequence[Columns], which: Sequence[int]) -> list[Columns]:
    """Return ranges, those at the positions in `which` negated."""
    return [
        Columns(ops.negative(part.tensor[..., part.start : part.stop]), 0, part.stop - part.start)
        if i in which
        else part
        for i, part in enumerate(parts)
    ]
