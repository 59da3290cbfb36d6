"""Specialisations: what a function has compiled, for each combination of input shapes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from ksym.compiler.plan import Plan
from ksym.errors import ArgumentError
from ksym.runtime.arrays import DeviceArray
from ksym.runtime.program import Program, Source
from ksym.runtime.reclaim import collect, give_back

BOUND_BYTES, LEAST_BOUND = 1 << 28, 4
"""The bytes up to which specialisations stay bound to arrays, and the number that always do.

Measured for a training step of an LSTM: binding takes 7 ms, compiling 22 besides, and a bound one
17 MiB, its plan 0.2.
"""

NODES, LEAST_PLANS = 1 << 16, 16
"""The nodes of all plans up to which they are kept, some 2 KiB each; how many always are."""

Prepared = tuple[Sequence[DeviceArray | None], Program]
"""The arrays that values are put into, and the program that reads them."""

Compiled = tuple[Source, Plan]
"""What was compiled, and the plan."""


class _Entry:
    """A specialisation: its plan, and its program if it is bound."""

    __slots__ = ("compiled", "nbytes", "nodes", "prepared")

    def __init__(self, prepared: Prepared):
        program = prepared[1]
        assert program.source is not None
        self.prepared: Prepared | None = prepared
        self.compiled = program.source, program.plan
        self.nbytes = program.nbytes
        self.nodes = sum(len(part.nodes) for part in program.plan.parts)


class Specializations:
    """The specialisations used last.

    Those used least recently lose their arrays first, and are bound again when they are needed; of
    those used longest ago the plans are dropped, too.

    Args:
        limit: The number of specialisations that are kept; one is kept in any case.

    Raises:
        ArgumentError: It is no integer.
    """

    def __init__(self, limit: int):
        if isinstance(limit, bool) or not isinstance(limit, int | np.integer):
            raise ArgumentError(
                f"specializations is {limit!r}, no integer",
                remedy="give the number of combinations of input shapes to keep compiled",
            )
        self.limit = max(1, int(limit))
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[Compiled | None], Prepared]) -> Prepared:
        """Return a specialisation, bound to arrays; it is the one used last then.

        Args:
            key: The shapes of the inputs.
            make: Binds what it is given, or what it compiles if that is None.
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
            collect()
        bound = [entry for entry in entries.values() if entry.prepared is not None]
        nbytes = sum(entry.nbytes for entry in bound)
        for entry in bound[:-LEAST_BOUND]:
            if nbytes <= BOUND_BYTES:
                break
            entry.prepared = None
            nbytes -= entry.nbytes
            give_back()

    @property
    def last(self) -> Prepared | None:
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
