"""Operators that communicate with the other ranks of a job: see docs/parallel.md.

Each rank has a graph of its own, and calls its function by itself; but a sum over all ranks is
there only when every rank has come to it.  So all ranks have to compute the same communications, in
the same order.  `ksym.compiler.collectives` sees to that for whole graphs, and loops and branches,
which a rank may take or not, have none inside (`refuse_collectives`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ksym import ops
from ksym.errors import ArgumentError, DTypeError, GraphError
from ksym.graph import Node, Spec, Tensor, topological_order
from ksym.operator.declaration import Operator
from ksym.operator.operands import as_tensor
from ksym.operator.sampling import Draw, Sample
from ksym.parallel import engine

__all__ = ["all_reduce", "broadcast"]


class Collective(Operator):
    """An operator whose results depend on operands of all ranks.

    Behind its `count` operands there may be another one, the result of the communication that comes
    before, which is waited for and not read.
    """

    pure = False
    runs = "collective"

    def known(self, *operands: Tensor, **attributes: Any) -> np.ndarray | None:
        return None

    def infer(self, *operands: Tensor, count: int, **attributes: Any) -> Spec | tuple[Spec, ...]:
        for operand in operands[:count]:
            if operand.dtype == "bool":
                raise DTypeError(
                    "booleans are not communicated",
                    remedy='cast them: ksym.cast(x, "int32")',
                )
        specs = tuple(operand.spec for operand in operands[:count])
        return specs if len(specs) > 1 else specs[0]


def _are_several(x: Any) -> bool:
    """Return whether an argument is a sequence of tensors, and not of numbers."""
    return isinstance(x, list | tuple) and any(isinstance(item, Tensor) for item in x)


class _AllReduce(Collective):
    def call(self, x: Any, compressible: bool = False) -> Any:
        made = super().call(x, compressible)
        return (made,) if _are_several(x) and isinstance(made, Tensor) else made

    def prepare(
        self, x: Any, compressible: bool | Sequence[bool] = False, count: int | None = None
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        operands = [as_tensor(item) for item in (x if _are_several(x) else [x])]
        if isinstance(compressible, bool):
            compressible = [compressible] * len(operands)
        return operands, {"count": len(operands), "compressible": tuple(compressible)}

    def arguments(
        self, operands: Sequence[Tensor], attributes: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        return [list(operands)], attributes

    def apply(self, *operands: Any, **attributes: Any) -> Any:
        return self(operands[0] if len(operands) == 1 else list(operands))

    def numpy(self, *arrays: Any, count: int, compressible: Sequence[bool] = ()) -> Any:
        sums = engine.current().reduced([np.asarray(a) for a in arrays[:count]], compressible)
        return sums if count > 1 else sums[0]

    def gradient(self, node: Node, *gs: Tensor | None) -> Sequence[Tensor | None]:
        given = [g for g in gs if g is not None]
        found = iter(all_reduce(given))
        own = [None if g is None else next(found) for g in gs]
        return [*own, *(None for _ in node.inputs[len(own) :])]

    def sample(self, draw: Draw) -> Sample:
        shape = draw.shape(min_side=0)
        return Sample(*(draw.array(shape) for _ in range(draw.choose((1, 2)))))


all_reduce = _AllReduce(
    "all_reduce",
    doc="""Return the sum of x over all ranks of a job, the same on each of them.

    Without ``python -m ksym.launch`` there is one rank, and the sum is x.  Every rank has to
    compute it, and as often as the others: one that does not keeps them waiting, which ends the job
    with a message.  So it stands in no loop and no branch.  It is computed where nothing needs it,
    too.

    The gradient is the sum of the gradient over all ranks: that of the sum of the losses of all
    ranks with respect to the x of this one.

    Args:
        x: A tensor of any shape and dtype but bool, of the same shape on all ranks; or a sequence
            of such, which go together in fewer messages.
        compressible: Whether the sum may be rounded, as sums of gradients may, where the job is
            started with ``--compression``.

    Returns:
        A tensor of the shape and dtype of x; a tuple of such for a sequence.

    Raises:
        DTypeError: x is of booleans.
        GraphError: It stands in a loop or a branch.
        ParallelError: At the first call: the ranks give other shapes or dtypes.

    >>> import ksym
    >>> x = ksym.placeholder((2,))
    >>> ksym.function([x], all_reduce(x) / ksym.size())([1, 2])
    array([1., 2.], dtype=float32)
    """,
)


class _Broadcast(Collective):
    def call(self, x: Any, root: int = 0) -> Tensor:
        result: Tensor = super().call(x, root)
        return result

    def prepare(
        self, x: Any, root: int = 0, count: int | None = None
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        size = engine.current().size
        if isinstance(root, bool) or not isinstance(root, int | np.integer):
            raise ArgumentError(f"the root is {root!r}, not the number of a rank")
        if not 0 <= root < size:
            raise ArgumentError(
                f"rank {root} does not exist: there are {size}",
                remedy=f"give one from 0 to {size - 1}; ksym.size() says how many there are",
            )
        return [as_tensor(x)], {"root": int(root), "count": 1}

    def numpy(self, x: Any, *before: Any, root: int, count: int) -> Any:
        return engine.current().broadcast(np.asarray(x), root)

    def gradient(self, node: Node, g: Tensor) -> Sequence[Tensor | None]:
        total = all_reduce(g)
        is_root = engine.current().rank == node.attributes["root"]
        # All ranks compute the sum, also those that have no use for it.
        return [ops.where(ops.constant(is_root), total, 0.0), *(None for _ in node.inputs[1:])]

    def sample(self, draw: Draw) -> Sample:
        return Sample(draw.array(draw.shape(min_side=0)))


broadcast = _Broadcast(
    "broadcast",
    doc="""Return the x of one rank of a job, on all of them.

    As for `all_reduce`, every rank computes it, and as often as the others.  The gradient is the
    sum of the gradient over all ranks on that rank, and zero on the others.

    Args:
        x: A tensor of any shape and dtype but bool, of the same shape on all ranks.
        root: The rank whose x is returned.

    Raises:
        ArgumentError: There is no such rank.
        DTypeError: x is of booleans.
        GraphError: It stands in a loop or a branch.
        ParallelError: At the first call: the ranks give other shapes or dtypes.

    >>> import ksym
    >>> x = ksym.placeholder((2,))
    >>> ksym.function([x], broadcast(x))([1, 2])
    array([1., 2.], dtype=float32)
    """,
)


def is_compressible(node: Node) -> tuple[bool, ...]:
    """Return for each operand of a sum whether it may be rounded; files of before do not say it."""
    exact = (False,) * node.attributes["count"]
    found: tuple[bool, ...] = node.attributes.get("compressible", exact)
    return found


def refuse_collectives(outputs: Iterable[Tensor]) -> None:
    """Raise an error for a body of a loop or a branch that communicates.

    Raises:
        GraphError: It does.
    """
    for node in topological_order(outputs):
        if isinstance(node.operator, Collective):
            raise GraphError(
                f"{node.operator.name} stands in a loop or a branch: a rank that takes another "
                "branch, or another number of steps, would keep the others waiting for ever",
                remedy="communicate before or after it; to choose by a condition, compute both and "
                "use ksym.where",
            ).located(node.operator.name, [t.spec for t in node.inputs], node.origin)
