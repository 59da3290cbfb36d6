"""Communication by MXNet's KVStore: sums on parameter servers, and training without waiting."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ksym.errors import ParallelError
from ksym.parallel.mpi import MpiEngine
from ksym.runtime.kvstore import KVStore, Meeting, Slot
from ksym.runtime.loading import NativeError

_DTYPES = ("float32", "float64")
"""The dtypes of what servers add up."""


class KVStoreEngine(MpiEngine):
    """The engine of a job with parameter servers, which the launcher has started.

    MPI starts the ranks, and carries messages and what are no floats; the servers add up.

    Args:
        expected: The number of ranks that were started.
        kind: ``"dist_sync"`` or ``"dist_async"``.
        address: The IP address of the scheduler.
        port: Its port.
        servers: The number of servers.
        threshold: That of the compression to two bits; None for none.

    Raises:
        MissingPackageError: mpi4py is not installed.
        ParallelError: As for `MpiEngine`; or MXNet is built without its KVStore.
    """

    def __init__(
        self,
        expected: int,
        kind: str,
        address: str,
        port: int,
        servers: int,
        threshold: float | None = None,
    ):
        super().__init__(expected)
        self.name = kind
        self.is_asynchronous = kind == "dist_async"
        self.compresses = threshold is not None and not self.is_asynchronous
        self._keys = 0
        self._shared: dict[tuple[np.dtype, int], Slot] = {}
        with self.taking_part("the meeting of the KVStore"), _reported():
            self._store = KVStore(kind, "worker", Meeting(address, port, self.size, servers))
            if threshold is not None:
                self._store.compress(threshold)

    def summing(
        self, source: np.ndarray, target: np.ndarray, compressible: bool = False
    ) -> Callable[[], None]:
        compressed = compressible and source.dtype == np.float32
        # MXNet would compress all that is pushed.
        exact = not self.compresses and source.dtype.name in _DTYPES
        if self.is_asynchronous or not (compressed or exact):
            return super().summing(source, target)
        slot: Slot | None = None

        def add() -> None:
            nonlocal slot
            with _reported():
                if slot is None:
                    # What compression leaves for the next time belongs to this sum.
                    slot = self._slot(source) if compressed else self._slot_shared(source)
                slot.view[...] = source.reshape(-1)
                slot.exchange()
                target[...] = slot.view.reshape(target.shape)

        return add

    def parameters(self, arrays: Sequence[np.ndarray]) -> Parameters:
        """Return what ranks keep in common on the servers of ``dist_async``; all ranks call it.

        Args:
            arrays: The values at first, of float32 or float64, the same on all ranks.
        """
        with self.taking_part("the beginning of asynchronous training"), _reported():
            return Parameters(self._slot, arrays)

    def close(self) -> None:
        self._store.close()
        super().close()

    def _slot_shared(self, value: np.ndarray) -> Slot:
        """Return the slot for exact sums of as many elements: they are never needed at once."""
        kind = (value.dtype, value.size)
        if kind not in self._shared:
            self._shared[kind] = self._slot(value)
        return self._shared[kind]

    def _slot(self, value: np.ndarray) -> Slot:
        # All ranks come to the same sums in the same order, so they take the same keys.
        self._keys += 1
        return self._store.slot(self._keys, np.zeros(value.size, value.dtype))


class Parameters:
    """Arrays that servers keep, to which each rank adds its changes when it has made them.

    The servers keep the sum of all changes.

    Args:
        slot: Makes a slot of zeros for a vector.
        arrays: The values at first.
    """

    def __init__(self, slot: Callable[[np.ndarray], Slot], arrays: Sequence[np.ndarray]):
        self._parts: list[tuple[Slot, list[int]]] = []
        for dtype in dict.fromkeys(array.dtype for array in arrays):
            chosen = [i for i, array in enumerate(arrays) if array.dtype == dtype]
            self._parts.append((slot(_packed([arrays[i] for i in chosen])), chosen))
        self.restart(arrays)

    def restart(self, arrays: Sequence[np.ndarray]) -> None:
        """Take other values to begin with, the same on all ranks, of which none has yet begun."""
        self._first, self._before = [], []
        with _reported():
            for slot, chosen in self._parts:
                slot.pull()
                self._before.append(slot.view.copy())
                self._first.append(_packed([arrays[i] for i in chosen]))
        self._last = [part.copy() for part in self._first]

    def exchange(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Add the changes since the last exchange, and return the values with those of all ranks.

        Args:
            arrays: The values on this rank.
        """
        with _reported():
            for (slot, chosen), last in zip(self._parts, self._last, strict=True):
                slot.view[...] = _packed([arrays[i] for i in chosen]) - last
                slot.exchange()
        return self._values(arrays)

    def pull(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the values with the changes of all ranks; those of this one are not added.

        Args:
            arrays: The values on this rank.
        """
        with _reported():
            for slot, _ in self._parts:
                slot.pull()
        return self._values(arrays)

    def _values(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        found = list(arrays)
        for number, (slot, chosen) in enumerate(self._parts):
            values = self._first[number] + (slot.view - self._before[number])
            self._last[number] = values
            start = 0
            for i in chosen:
                stop = start + arrays[i].size
                found[i] = values[start:stop].reshape(arrays[i].shape)
                start = stop
        return found


def _packed(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.reshape(-1) for array in arrays])


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    """Raise errors of MXNet as ksym's."""
    try:
        yield
    except NativeError as error:
        text: Any = str(error).strip().splitlines() or [""]
        raise ParallelError(
            f"the KVStore failed: {text[0]}",
            remedy="use --engine mpi, if this MXNet is built without its distributed KVStore",
        ) from None
