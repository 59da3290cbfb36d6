"""Branches and loops of Keras's module core, on those of ksym.

A branch or body of values runs in Python.  Of symbolic tensors it is traced into a node of ksym's.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras.src import tree
from keras.src.backend.common.stateless_scope import (
    StatelessScope,
    get_stateless_scope,
    in_stateless_scope,
)

import ksym
from keras_ksym.src.tensor import Tensor, as_array, has_tensors, numpy_functions, tensor
from keras_ksym.src.tracing import is_tracing

__all__ = [
    *("associative_scan", "cond", "fori_loop", "map", "scan", "switch", "vectorized_map"),
    "while_loop",
]


def _any_symbolic(*values: Any) -> bool:
    return any(has_tensors(leaf) for value in values for leaf in tree.flatten(value))


class _Branch:
    """A branch, traced in a scope of its own so that what it assigns can be carried out of it."""

    def __init__(self, function: Callable[[], Any]):
        self.function = function
        self.result: Any = None
        self.assigned: dict[int, Any] = {}

    def trace(self) -> list[Any]:
        """Call the branch, and return its tensors."""
        outer = get_stateless_scope() if in_stateless_scope() else None
        scope = StatelessScope(collect_losses=True, initialize_variables=False)
        if outer is not None:
            scope.state_mapping.update(outer.state_mapping)
        before = dict(scope.state_mapping)
        with scope:
            self.result = self.function()
        if outer is not None:
            outer.losses.extend(scope.losses)
        self.assigned = {
            key: value for key, value in scope.state_mapping.items() if value is not before.get(key)
        }
        return [leaf for leaf in tree.flatten(self.result) if _is_value(leaf)]


def _is_value(leaf: Any) -> bool:
    return leaf is not None and not isinstance(leaf, str)


def cond(pred: Any, true_fn: Callable[[], Any], false_fn: Callable[[], Any]) -> Any:
    """Compute one of two branches; variables that it assigns to are assigned if it is taken."""
    if not has_tensors(pred):
        return true_fn() if np.asarray(pred).all() else false_fn()
    branches = _Branch(true_fn), _Branch(false_fn)
    shared: dict[str, Any] = {}

    def values(which: int) -> Callable[[], list[ksym.Tensor]]:
        def traced() -> list[ksym.Tensor]:
            # ksym calls the first branch, then the second; both have to have the same results.
            return [leaf.graph for leaf in shared["leaves"][which]]

        return traced

    # The branches are traced inside of ksym.cond, so that their nodes are theirs: both at the first
    # call, because each needs to know what the other one assigns to.
    def first() -> list[ksym.Tensor]:
        found = [[tensor(leaf) for leaf in branch.trace()] for branch in branches]
        tree.assert_same_structure(branches[0].result, branches[1].result)
        keys = sorted({*branches[0].assigned, *branches[1].assigned})
        kinds = [_common_dtype(a, b) for a, b in zip(found[0], found[1], strict=True)]
        found = [
            [Tensor(leaf.graph_in(kind), kind) for leaf, kind in zip(leaves, kinds, strict=True)]
            for leaves in found
        ]
        old = {key: _current(key) for key in keys}
        for branch, leaves in zip(branches, found, strict=True):
            for key in keys:
                value = tensor(branch.assigned.get(key, old[key]))
                leaves.append(Tensor(value.graph_in(old[key].dtype), old[key].dtype))
        shared.update(leaves=found, keys=keys, count=len(kinds))
        return values(0)()

    results = ksym.cond(tensor(pred).graph_in("bool"), first, lambda: values(1)())
    whole = [
        Tensor(graph, leaf.dtype) for graph, leaf in zip(results, shared["leaves"][0], strict=True)
    ]
    leaves, assigned = whole[: shared["count"]], whole[shared["count"] :]
    if shared["keys"]:
        scope = get_stateless_scope()
        scope.state_mapping.update(zip(shared["keys"], assigned, strict=True))
    given = iter(leaves)
    flat = [next(given) if _is_value(leaf) else leaf for leaf in tree.flatten(branches[0].result)]
    return tree.pack_sequence_as(branches[0].result, flat)


def _common_dtype(a: Tensor, b: Tensor) -> str:
    from keras.src.backend.common.dtypes import result_type

    return a.dtype if a.dtype == b.dtype else str(result_type(a.kind, b.kind))


def _current(key: int) -> Tensor:
    """Return the value that a variable has before the branches."""
    from keras_ksym.src.variable import BY_ID

    scope = get_stateless_scope()
    value = scope.state_mapping.get(key)
    return tensor(BY_ID[key]._value if value is None else value)


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """Apply one of several functions to operands, the one of a number."""
    branches = list(branches)
    if not has_tensors(index):
        place = int(np.clip(np.asarray(index), 0, len(branches) - 1))
        return branches[place](*operands)
    number: Any = tensor(index)

    def result() -> Any:
        return branches[-1](*operands)

    chosen: Callable[[], Any] = result
    for place in reversed(range(len(branches) - 1)):
        chosen = _nested(number <= place, branches[place], chosen, operands)
    return chosen()


def _nested(
    test: Any, then: Callable[..., Any], otherwise: Callable[[], Any], operands: Any
) -> Callable[[], Any]:
    return lambda: cond(test, lambda: then(*operands), otherwise)


def _flat(values: Any) -> list[Tensor]:
    return [tensor(leaf) for leaf in tree.flatten(values)]


def _packed(structure: Any, graphs: Sequence[ksym.Tensor], like: Sequence[Tensor]) -> Any:
    leaves = [Tensor(graph, t.dtype) for graph, t in zip(graphs, like, strict=True)]
    return tree.pack_sequence_as(structure, leaves)


def while_loop(
    cond: Callable[..., Any],
    body: Callable[..., Any],
    loop_vars: Any,
    maximum_iterations: int | None = None,
) -> Any:
    """Apply a body to variables of a loop as long as a condition on them holds."""
    is_tuple = isinstance(loop_vars, list | tuple)
    values = tuple(loop_vars) if is_tuple else (loop_vars,)
    if not _any_symbolic(values) and not is_tracing():
        count = 0
        values = tree.map_structure(lambda x: x if isinstance(x, Tensor) else as_array(x), values)
        while (maximum_iterations is None or count < maximum_iterations) and cond(*values):
            new = body(*values)
            values = tuple(new) if isinstance(new, list | tuple) else (new,)
            count += 1
        return values if is_tuple else values[0]
    flat = _flat(values)
    limited = maximum_iterations is not None
    initial = [t.graph for t in flat] + ([ksym.constant(0, "int64")] if limited else [])

    def opened(graphs: Sequence[ksym.Tensor]) -> Any:
        return _packed(values, graphs[: len(flat)], flat)

    def test(*graphs: ksym.Tensor) -> ksym.Tensor:
        holds = tensor(cond(*opened(graphs))).graph_in("bool")
        holds = ksym.reshape(holds, ())
        return ksym.logical_and(holds, graphs[-1] < maximum_iterations) if limited else holds

    def step(*graphs: ksym.Tensor) -> list[ksym.Tensor]:
        new = body(*opened(graphs))
        new = tuple(new) if isinstance(new, list | tuple) else (new,)
        leaves = [t.graph_in(old.dtype) for t, old in zip(_flat(new), flat, strict=True)]
        return [*leaves, graphs[-1] + 1] if limited else leaves

    ends = ksym.while_loop(test, step, initial)
    result = _packed(values, ends[: len(flat)], flat)
    return result if is_tuple else result[0]


def fori_loop(lower: Any, upper: Any, body_fun: Callable[[Any, Any], Any], init_val: Any) -> Any:
    """Apply ``body_fun(i, value)`` for each i from lower to below upper."""
    if not _any_symbolic(lower, upper, init_val) and not is_tracing():
        value = init_val
        for i in range(int(lower), int(upper)):
            value = body_fun(i, value)
        return value
    start = tensor(lower)
    dtype = "int32" if start.weak else start.dtype
    first = Tensor(start.graph_in(dtype), dtype)
    end: Any = tensor(upper)
    _, result = while_loop(
        lambda i, value: i < end,
        lambda i, value: (i + 1, body_fun(i, value)),
        (first, init_val),
    )
    return result


def scan(
    f: Callable[[Any, Any], Any],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
) -> Any:
    """Apply ``f(carry, x) -> (carry, y)`` to the elements of xs, and stack the results.

    Raises:
        TypeError: f is no function.
        ValueError: unroll is not positive, or there are neither xs nor a length.
    """
    if not callable(f):
        raise TypeError(f"`f` should be a callable. Received: f={f}")
    if not isinstance(unroll, bool) and (not isinstance(unroll, int) or unroll < 1):
        raise ValueError(
            f"`unroll` must be an positive integer or boolean. Received: unroll={unroll}"
        )
    if xs is None and length is None:
        raise ValueError("Got no `xs` to scan over and `length` not provided.")
    if not _any_symbolic(init, xs) and not is_tracing():
        return _scan_values(f, init, xs, length, reverse)
    sequences, states = _flat(xs) if xs is not None else [], _flat(init)
    shape: dict[str, Any] = {}

    def body(*graphs: ksym.Tensor) -> tuple[list[ksym.Tensor], list[ksym.Tensor]]:
        elements = _packed(xs, graphs[: len(sequences)], sequences) if xs is not None else None
        carry = _packed(init, graphs[len(sequences) :], states)
        carry, y = f(carry, elements)
        outputs = _flat(y) if y is not None else []
        shape.update(y=y, outputs=outputs)
        new = [t.graph_in(old.dtype) for t, old in zip(_flat(carry), states, strict=True)]
        return [t.graph for t in outputs], new

    scanned = ksym.scan(
        body,
        [t.graph for t in sequences],
        [t.graph for t in states],
        steps=length if xs is None else None,
        reverse=reverse,
    )
    ends = _packed(init, scanned.states or [], states)
    if shape["y"] is None:
        return ends, None
    return ends, _packed(shape["y"], scanned.outputs, shape["outputs"])


def _scan_values(f: Callable[..., Any], init: Any, xs: Any, length: Any, reverse: bool) -> Any:
    arrays = None if xs is None else tree.map_structure(as_array, xs)
    count = int(length) if length is not None else len(tree.flatten(arrays)[0])
    carry = tree.map_structure(as_array, init)
    results: list[Any] = [None] * count
    for i in reversed(range(count)) if reverse else range(count):
        element = None if arrays is None else tree.map_structure(lambda x, i=i: x[i], arrays)
        carry, results[i] = f(carry, element)
    carry = tree.map_structure(as_array, carry)
    if not count or results[0] is None:
        return carry, None
    return carry, tree.map_structure(lambda *ys: np.stack([as_array(y) for y in ys]), *results)


def map(f: Callable[[Any], Any], xs: Any) -> Any:
    """Apply a function to the elements of xs along the first axis, and stack the results."""
    return scan(lambda _, x: ((), f(x)), (), xs)[1]


def vectorized_map(function: Callable[[Any], Any], elements: Any) -> Any:
    """Apply a function to the elements along the first axis, and stack the results."""
    return map(function, elements)


def associative_scan(
    f: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0
) -> Any:
    """Combine the elements up to each one by an associative function, in few steps for all.

    Raises:
        TypeError: f is no function.
        ValueError: The elements differ in length.
    """
    knp = numpy_functions()

    if not callable(f):
        raise TypeError(f"`f` should be a callable. Received: f={f}")
    flat = [x if isinstance(x, Tensor) else as_array(x) for x in tree.flatten(elems)]
    if reverse:
        flat = [knp.flip(x, axis) for x in flat]
    count = flat[0].shape[axis]
    if builtins.any(x.shape[axis] != count for x in flat):
        raise ValueError(
            "Array inputs to associative_scan must have the same first dimension. "
            f"(saw: {[x.shape for x in flat]})"
        )
    if count is None:
        raise ValueError("associative_scan needs a length that is known when it is traced")

    def combine(a: list[Any], b: list[Any]) -> list[Any]:
        packed = (tree.pack_sequence_as(elems, list(side)) for side in (a, b))
        return list(tree.flatten(f(*packed)))

    def part(x: Any, *bounds: Any) -> Any:
        rank = len(x.shape)
        return knp.get_item(x, (slice(None),) * (axis % rank) + (slice(*bounds),))

    def totals(values: list[Any]) -> list[Any]:
        count = values[0].shape[axis]
        if count < 2:
            return values
        pairs = combine(
            [part(x, 0, count - 1, 2) for x in values], [part(x, 1, count, 2) for x in values]
        )
        odd = totals(pairs)
        half = odd[0].shape[axis]
        before = odd if count % 2 else [part(x, 0, half - 1) for x in odd]
        even = [part(x, 0, 1) for x in values]
        if count > 2:
            rest = combine(before, [part(x, 2, count, 2) for x in values])
            even = [knp.concatenate([a, b], axis) for a, b in zip(even, rest, strict=True)]
        return [_interleaved(a, b, axis, count) for a, b in zip(even, odd, strict=True)]

    result = totals(flat)
    if reverse:
        result = [knp.flip(x, axis) for x in result]
    return tree.pack_sequence_as(elems, result)


def _interleaved(even: Any, odd: Any, axis: int, count: int) -> Any:
    """Return slices of two tensors by turns along an axis."""
    knp = numpy_functions()

    rank = len(even.shape)
    half = (count + 1) // 2
    if count % 2:
        last = knp.get_item(odd, (slice(None),) * (axis % rank) + (slice(0, 1),))
        odd = knp.concatenate([odd, last], axis)
    both = knp.stack([even, odd], axis % rank + 1)
    shape = [*even.shape]
    shape[axis] = 2 * half
    whole = knp.reshape(both, shape)
    return knp.get_item(whole, (slice(None),) * (axis % rank) + (slice(0, count),))
