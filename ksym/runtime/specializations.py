"""Specialisations: what is compiled of a graph for each combination of shapes, and bound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np

from ksym.compiler.plan import Plan, Source
from ksym.errors import ArgumentError
from ksym.runtime.arrays import DeviceArray
from ksym.runtime.reclaim import collect, give_back

SPECIALIZATIONS = 256
"""The number of combinations of shapes that are kept compiled, unless the user says another."""

BOUND_BYTES, LEAST_BOUND = 3 << 26, 4
"""The bytes up to which specialisations stay bound, and the number of them that always do.

Measured for a training step of an LSTM: binding takes 7 ms, compiling 22 besides, and a bound one
10 MiB, its plan 0.2.
"""

NODES, LEAST_PLANS = 1 << 16, 16
"""The nodes of all plans up to which they are kept, some 4 KiB each; how many always are."""


class Bound(Protocol):
    """A plan that is bound to arrays, and what it was compiled from."""

    plan: Plan
    source: Source | None

    @property
    def nbytes(self) -> int:
        """The bytes that are free again when it is dropped, about."""


B = TypeVar("B", bound=Bound)

Compiled = tuple[Source, Plan]
"""What was compiled, and the plan."""


class _Entry(Generic[B]):
    """A specialisation: its plan, and its program if it is bound."""

    __slots__ = ("compiled", "nodes", "prepared")

    def __init__(self, prepared: tuple[Sequence[DeviceArray | None], B]):
        program = prepared[1]
        assert program.source is not None
        self.prepared: tuple[Sequence[DeviceArray | None], B] | None = prepared
        self.compiled = program.source, program.plan
        self.nodes = sum(len(part.nodes) for part in program.plan.parts)

    @property
    def nbytes(self) -> int:
        return 0 if self.prepared is None else self.prepared[1].nbytes


class Specializations(Generic[B]):
    """The specialisations used last.

    Those used least recently lose their arrays first, and are bound again when they are needed; of
    those used longest ago the plans are dropped, too.

    Args:
        limit: The number of specialisations that are kept; one is kept in any case.

    Raises:
        ArgumentError: It is no integer.
    """

    def __init__(self, limit: int = SPECIALIZATIONS):
        if isinstance(limit, bool) or not isinstance(limit, int | np.integer):
            raise ArgumentError(
                f"specializations is {limit!r}, no integer",
                remedy="give the number of combinations of input shapes to keep compiled",
            )
        self.limit = max(1, int(limit))
        self._entries: OrderedDict[Hashable, _Entry[B]] = OrderedDict()

    def get(
        self,
        key: Hashable,
        make: Callable[[Compiled | None], tuple[Sequence[DeviceArray | None], B]],
    ) -> tuple[Sequence[DeviceArray | None], B]:
        """Return a specialisation that is bound; it is the one used last then.

        Args:
            key: The shapes, and whatever else is compiled in.
            make: Binds what it is given, or what it compiles if that is None.

        Returns:
            The array for the value of each placeholder, None for one that is not read; and what
            reads them.
        """
        entry = self._entries.get(key)
        if entry is None or entry.prepared is None:
            prepared = make(None if entry is None else entry.compiled)
            self._entries[key] = _Entry(prepared)
            self._entries.move_to_end(key)
            self._make_room()
            return prepared
        self._entries.move_to_end(key)
        return entry.prepared

    def _make_room(self) -> None:
        entries = self._entries
        nodes = sum(entry.nodes for entry in entries.values())
        while len(entries) > self.limit or (nodes > NODES and len(entries) > LEAST_PLANS):
            _, entry = entries.popitem(last=False)
            nodes -= entry.nodes
            give_back(entry.nbytes)
            collect(entry.nodes)
        bound = [entry for entry in entries.values() if entry.prepared is not None]
        nbytes = sum(entry.nbytes for entry in bound)
        for entry in bound[:-LEAST_BOUND]:
            if nbytes <= BOUND_BYTES:
                break
            freed = entry.nbytes
            entry.prepared = None
            nbytes -= freed
            give_back(freed)

    @property
    def nbytes(self) -> int:
        """The bytes of all that is bound, about."""
        return sum(entry.nbytes for entry in self._entries.values())

    @property
    def last(self) -> tuple[Sequence[DeviceArray | None], B] | None:
        """The specialisation used last, if there is one."""
        entry = next(reversed(self._entries.values()), None)
        return None if entry is None else entry.prepared

    def drop_last(self) -> None:
        """Drop the specialisation used last."""
        if self._entries:
            self._entries.popitem()

    def clear(self) -> None:
        """Drop all."""
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)
