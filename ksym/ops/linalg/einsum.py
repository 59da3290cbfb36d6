"""Sums of products in index notation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.errors import GraphError, ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.operands import cast_to, promoted
from ksym.operator.sampling import Draw, Sample

__all__ = ["einsum"]

Labels = tuple[int, ...]
"""The index of each axis: a letter's code; below zero for an ellipsis, from its last axis."""


def _sizes(tensors: Sequence[Tensor], labels: Sequence[Labels]) -> dict[int, int | None]:
    """Return the size of each index; axes of an ellipsis broadcast, others must agree."""
    sizes: dict[int, int | None] = {}
    places: dict[int, str] = {}
    for position, (tensor, own) in enumerate(zip(tensors, labels, strict=True)):
        if tensor.rank != len(own):
            raise ShapeError(f"{len(own)} indices for a tensor of rank {tensor.rank}")
        for axis, (label, side) in enumerate(zip(own, tensor.shape, strict=True)):
            there = sizes.get(label, side)
            place = f"axis {axis} of operand {position}"
            if label < 0 and label in sizes:
                sizes[label] = shapes.broadcast((there,), (side,))[0]
            elif None not in (there, side) and there != side:
                index = f" by index {chr(label)!r}" if label >= 32 else ""
                raise ShapeError(
                    f"{places[label]}, of size {there}, "
                    f"is paired{index} with {place}, of size {side}",
                    remedy="transpose or reshape one operand, or pair other axes",
                )
            elif label not in sizes or there is None:
                sizes[label], places[label] = side, place
    return sizes


def _by_numpy(arrays: Sequence[Any], labels: Sequence[Labels], output: Labels) -> Any:
    # NumPy counts indices from 0 to 51.
    known = {label: i for i, label in enumerate(sorted({i for own in labels for i in own}))}
    pairs = [
        part
        for array, own in zip(arrays, labels, strict=True)
        for part in (array, [known[i] for i in own])
    ]
    return np.einsum(*pairs, [known[i] for i in output])


class _Contraction(Operator):
    internal = "a part of `einsum`"
    linear_in = (0, 1)

    def prepare(
        self, a: Any, b: Any, labels_a: Any, labels_b: Any, output: Any
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return promoted(a, b), {
            "labels_a": tuple(labels_a),
            "labels_b": tuple(labels_b),
            "output": tuple(output),
        }

    def infer(
        self, a: Tensor, b: Tensor, labels_a: Labels, labels_b: Labels, output: Labels
    ) -> Spec:
        for labels in (labels_a, labels_b, output):
            if len(set(labels)) != len(labels):
                raise ShapeError(f"the indices {labels} name one twice")
        if {*labels_a} ^ {*labels_b} != {*output} - ({*labels_a} & {*labels_b}):
            raise ShapeError("an index of one operand only is one of the result, and the reverse")
        sizes = _sizes([a, b], [labels_a, labels_b])
        return Spec(tuple(sizes[i] for i in output), a.dtype)

    def flops(self, node: Node) -> float:
        labels = (node.attributes["labels_a"], node.attributes["labels_b"])
        return 2.0 * math.prod(size or 0 for size in _sizes(node.inputs, labels).values())

    def numpy(self, a: Any, b: Any, labels_a: Labels, labels_b: Labels, output: Labels) -> Any:
        return _by_numpy([a, b], [labels_a, labels_b], output)

    def expand(self, node: Node) -> Tensor:
        output = node.attributes["output"]
        sizes = _sizes(node.inputs, [node.attributes["labels_a"], node.attributes["labels_b"]])
        a, labels_a = _unstretched(node.inputs[0], node.attributes["labels_a"], output, sizes)
        b, labels_b = _unstretched(node.inputs[1], node.attributes["labels_b"], output, sizes)
        batch = [i for i in labels_a if i in labels_b and i in output]
        inner = [i for i in labels_a if i in labels_b and i not in output]
        left = [i for i in labels_a if i not in labels_b]
        right = [i for i in labels_b if i not in labels_a]
        if left and right and output.index(right[0]) < output.index(left[0]):
            # With the operands exchanged, the product has the order of the result.
            a, labels_a, left, b, labels_b, right = b, labels_b, right, a, labels_a, left
            batch = [i for i in labels_a if i in labels_b and i in output]
        sides = [sizes[i] for i in (*batch, *left, *right)]
        if inner:
            rows, across_a = _as_matrix(a, labels_a, sizes, batch, left, inner)
            columns, across_b = _as_matrix(b, labels_b, sizes, batch, inner, right)
            product = ops.matmul(rows, columns, transpose_a=across_a, transpose_b=across_b)
            product = ops.reshape(product, sides)
        else:
            a = ops.transpose(a, [labels_a.index(i) for i in batch + left])
            b = ops.transpose(b, [labels_b.index(i) for i in batch + right])
            # No sum: the products of all pairs, by broadcasting.
            a = ops.reshape(a, [sizes[i] for i in batch + left] + [1] * len(right))
            b = ops.reshape(
                b, [sizes[i] for i in batch] + [1] * len(left) + [sizes[i] for i in right]
            )
            product = a * b
        order = [*batch, *left, *right]
        return ops.transpose(product, [order.index(i) for i in output])

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        a, b = node.inputs
        labels_a, labels_b, output = (
            node.attributes[name] for name in ("labels_a", "labels_b", "output")
        )
        for_a = self(g, b, output, labels_b, labels_a)
        for_b = self(g, a, output, labels_a, labels_b)
        return [_unbroadcast(for_a, a, labels_a), _unbroadcast(for_b, b, labels_b)]

    def sample(self, draw: Draw) -> Sample:
        sizes = [draw.choose((0, 1, 2, 3, 2, 3)) for _ in range(4)]
        batch, left, inner, right = range(4)
        labels_a, labels_b, output = [
            _shuffled(draw, part)
            for part in ((batch, left, inner), (batch, inner, right), (batch, left, right))
        ]
        gone = draw.choose((None, batch, left, inner, right))
        parts = [tuple(i for i in part if i != gone) for part in (labels_a, labels_b, output)]
        dtype = draw.dtype("float", "integer", "bool")
        arrays = [draw.array([sizes[i] for i in part], dtype=dtype) for part in parts[:2]]
        names = ("labels_a", "labels_b", "output")
        return Sample(*arrays, attributes=dict(zip(names, parts, strict=True)))


def _shuffled(draw: Draw, items: Sequence[int]) -> list[int]:
    left, result = list(items), []
    while left:
        result.append(left.pop(draw.integer(0, len(left) - 1)))
    return result


def _unbroadcast(g: Tensor, x: Tensor, labels: Labels) -> Tensor:
    """Sum over the axes of an ellipsis along which x was stretched."""
    return ops.sum_to(g, ops.shape_of(x)) if any(i < 0 for i in labels) else g


def _unstretched(
    x: Tensor, labels: Labels, output: Labels, sizes: Mapping[int, int | None]
) -> tuple[Tensor, list[int]]:
    """Drop the axes of size 1 along which x would be stretched."""
    axes = [axis for axis, i in enumerate(labels) if x.shape[axis] != sizes[i]]
    left = [i for axis, i in enumerate(labels) if axis not in axes]
    return (ops.squeeze(x, axes) if axes else x), left


def _as_matrix(
    x: Tensor,
    labels: Sequence[int],
    sizes: Mapping[int, Any],
    batch: Sequence[int],
    rows: Sequence[int],
    columns: Sequence[int],
) -> tuple[Tensor, bool]:
    """Return x as a stack of matrices, and whether they are transposed, which may save a copy."""
    across = list(labels) == [*batch, *columns, *rows]
    first, second = (columns, rows) if across else (rows, columns)
    ordered = ops.transpose(x, [labels.index(i) for i in (*batch, *first, *second)])
    sides = [int(np.prod([sizes[i] for i in group], dtype=int)) for group in (batch, first, second)]
    return ops.reshape(ordered, sides if batch else sides[1:]), across


contraction = _Contraction(
    "contraction",
    doc="""Return the sum of products of two tensors over the indices that the result lacks.

    One product of matrices, or a stack of them; without a sum an elementwise product.

    Args:
        a: A tensor.
        b: A tensor.
        labels_a: An integer for each axis of a, none of them twice; indices below zero broadcast.
        labels_b: For each axis of b.
        output: For each axis of the result.  An index that one operand lacks is one of these.

    Raises:
        ShapeError: An index has two sizes, or appears where it cannot.
    """,
)


class _Einsum(Operator):
    def prepare(self, subscripts: str, *operands: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        if not operands:
            raise ShapeError("there are no operands")
        tensors = promoted(*operands)
        labels, output = _parse(subscripts, [t.rank for t in tensors])
        return tensors, {"labels": labels, "output": output}

    def apply(self, *operands: Any, **attributes: Any) -> Any:
        return self(attributes["subscripts"], *operands)

    def check_saved(self, operands: Sequence[Tensor], attributes: Mapping[str, Any]) -> None:
        labels, output = attributes["labels"], attributes["output"]
        ranks = [len(own) for own in labels]
        every = {i for own in labels for i in own}
        whole = all(type(i) is int for i in (*every, *output))
        once = len(set(output)) == len(output) and every >= set(output)
        floats = {t.dtype for t in operands}
        if ranks != [t.rank for t in operands] or not whole or not once or len(floats) != 1:
            raise GraphError("the indices do not fit the operands")

    def infer(self, *operands: Tensor, labels: tuple[Labels, ...], output: Labels) -> Spec:
        sizes = _sizes(operands, labels)
        return Spec(tuple(sizes[i] for i in output), operands[0].dtype)

    def numpy(self, *arrays: Any, labels: tuple[Labels, ...], output: Labels) -> Any:
        return _by_numpy(arrays, labels, output)

    def expand(self, node: Node) -> Tensor:
        output = node.attributes["output"]
        sizes = _sizes(node.inputs, node.attributes["labels"])
        terms = [
            _without_repetition(x, list(labels))
            for x, labels in zip(node.inputs, node.attributes["labels"], strict=True)
        ]
        while True:
            terms = [_without_lonely(i, terms, output) for i in range(len(terms))]
            if len(terms) == 1:
                ((result, labels),) = terms
                return ops.transpose(result, [labels.index(i) for i in output])
            first, second = _cheapest(terms, output, sizes)
            (a, labels_a), (b, labels_b) = terms[first], terms[second]
            rest = [term for i, term in enumerate(terms) if i not in (first, second)]
            kept = _kept(labels_a, labels_b, rest, output)
            terms = [*rest, (contraction(a, b, labels_a, labels_b, kept), kept)]

    def differentiable_form(self, node: Node) -> Sequence[Tensor]:
        return [self.expand(node)]

    def sample(self, draw: Draw) -> Sample:
        subscripts = draw.choose(
            (
                *("ij,jk", "ij,jk->ki", "ii", "ii->i", "ij->", "ij->ji", "i,j", "ij,ij->i", ",i"),
                *("...ij,...jk", "...i,i...->...", "i...,ij->...j", "iij,jkl,lk->i"),
                *("ij,jk,kl,lm->im", "bij,bjk->bik", "bij,kj->kib", "ij,k->kj", "aab,bcc->ac"),
            )
        )
        sizes = {label: draw.choose((1, 2, 3, 2, 3)) for label in "abcijklm"}
        if draw.choose((False, False, False, True)) and "..." not in subscripts:
            sizes[draw.choose("ij")] = 0
        ellipsis = draw.shape(max_rank=2)
        dtype = draw.dtype("float", "integer", "bool")
        arrays = []
        for term in subscripts.split("->")[0].split(","):
            before, dots, after = term.partition("...")
            broadcast = [draw.choose((side, 1)) for side in ellipsis][draw.integer(0, 2) :]
            sides = [sizes[i] for i in before] + broadcast * bool(dots) + [sizes[i] for i in after]
            arrays.append(draw.array(sides, -1.0, 1.0, dtype=dtype))
        return Sample(*arrays, attributes={"subscripts": subscripts})


def _parse(subscripts: str, ranks: Sequence[int]) -> tuple[tuple[Labels, ...], Labels]:
    """Return the indices of each operand and of the result."""
    text = subscripts.replace(" ", "")
    inputs, arrow, target = text.partition("->")
    terms = inputs.split(",")
    if len(terms) != len(ranks):
        raise ShapeError(f"{subscripts!r} is about {len(terms)} operands, there are {len(ranks)}")
    labels = tuple(_labels(term, rank) for term, rank in zip(terms, ranks, strict=True))
    every = [i for own in labels for i in own]
    dots = sorted({i for i in every if i < 0})
    if not arrow:
        once = sorted(i for i in set(every) if i >= 0 and every.count(i) == 1)
        return labels, (*dots, *once)
    letters = target.replace("...", "", 1)
    output = _labels(target, len(letters) + len(dots) * ("..." in target))
    if len(set(output)) != len(output) or not set(output) <= set(every):
        raise ShapeError(
            f"the result {target!r} of {subscripts!r} names an index twice, or a new one"
        )
    if dots and "..." not in target:
        raise ShapeError(f"the result of {subscripts!r} lacks the ellipsis")
    return labels, output


def _labels(term: str, rank: int) -> Labels:
    before, dots, after = term.partition("...")
    letters = before + after
    if not (letters.isalpha() and letters.isascii()) and letters:
        raise ShapeError(f"{term!r} is not made of letters and at most one ellipsis")
    free = rank - len(letters)
    if free < 0 or (free and not dots):
        raise ShapeError(f"{term!r} does not name the axes of a tensor of rank {rank}")
    return (*map(ord, before), *range(-free, 0), *map(ord, after))


Term = tuple[Tensor, list[int]]


def _without_repetition(x: Tensor, labels: list[int]) -> Term:
    """Take diagonals until no index of an operand appears twice."""
    while len(set(labels)) < len(labels):
        repeated = next(i for i in labels if labels.count(i) > 1)
        axis1 = labels.index(repeated)
        axis2 = labels.index(repeated, axis1 + 1)
        x = ops.diagonal(x, 0, axis1, axis2)
        labels = [i for axis, i in enumerate(labels) if axis not in (axis1, axis2)] + [repeated]
    return x, labels


def _without_lonely(position: int, terms: Sequence[Term], output: Labels) -> Term:
    """Sum over the indices that appear nowhere else."""
    x, labels = terms[position]
    elsewhere = {*output}.union(*(own for i, (_, own) in enumerate(terms) if i != position))
    axes = [axis for axis, i in enumerate(labels) if i not in elsewhere]
    if not axes:
        return x, labels
    return cast_to(ops.sum_(x, axis=axes), x.dtype), [i for i in labels if i in elsewhere]


def _kept(
    first: Sequence[int], second: Sequence[int], rest: Sequence[Term], output: Labels
) -> list[int]:
    """Return the indices that a product of two operands must keep, in order."""
    needed = {*output}.union(*(labels for _, labels in rest))
    kept = [i for i in dict.fromkeys([*first, *second]) if i in needed]
    return kept if rest else list(output)


def _cheapest(
    terms: Sequence[Term], output: Labels, sizes: Mapping[int, int | None]
) -> tuple[int, int]:
    """Return the two operands to multiply next: those whose product frees the most memory.

    This is the greedy order of opt_einsum (Smith and Gray, 2018).
    """

    def elements(labels: Sequence[int]) -> int:
        # An unknown size counts as a medium one.
        known = [16 if (side := sizes[i]) is None else side for i in labels]
        return int(np.prod(known, dtype=int))

    def cost(pair: tuple[int, int]) -> tuple[int, int]:
        (_, first), (_, second) = (terms[i] for i in pair)
        rest = [term for i, term in enumerate(terms) if i not in pair]
        kept = _kept(first, second, rest, output)
        freed = elements(first) + elements(second) - elements(kept)
        return -freed, elements([*{*first, *second}])

    return min(combinations(range(len(terms)), 2), key=cost)


einsum = _Einsum(
    "einsum",
    doc="""Sum products of tensors over indices, by NumPy's notation.

    Composed of diagonals, sums and products of matrices.  Three operands and more are multiplied
    in pairs, in the greedy order of opt_einsum.

    Args:
        subscripts: A letter for each axis of each operand, such as ``"ij,jk->ik"``.  A letter
            twice in an operand takes a diagonal, one that the result lacks is summed over.
            ``...`` stands for axes that broadcast.  Without ``->`` the result has those of the
            ellipsis, then the letters that appear once, in alphabetical order.
        operands: Tensors.

    Raises:
        ShapeError: The notation does not describe the operands, or an index has two sizes.
    """,
)
