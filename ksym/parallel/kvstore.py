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
        """Return what shares the changes of arrays by ``dist_async``; all ranks call it.

        Args:
            arrays: Arrays of float32 or float64, of the same shapes on all ranks.
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
    """The changes of arrays by all ranks, which servers add up.

    A rank sends what it has changed, and adds what others have changed since.  So arrays may have
    several of these, as the weights of two models that share layers.

    Args:
        slot: Makes a slot of zeros for a vector.
        arrays: Arrays of the shapes and dtypes.
    """

    def __init__(self, slot: Callable[[np.ndarray], Slot], arrays: Sequence[np.ndarray]):
        self._parts: list[tuple[Slot, list[int]]] = []
        for dtype in dict.fromkeys(array.dtype for array in arrays):
            chosen = [i for i, array in enumerate(arrays) if array.dtype == dtype]
            self._parts.append((slot(_packed([arrays[i] for i in chosen])), chosen))
        self.restart()

    def restart(self) -> None:
        """Forget what others have changed until now."""
        with _reported():
            for slot, _ in self._parts:
                slot.pull()
        self._seen = [slot.view.copy() for slot, _ in self._parts]

    def exchange(
        self, before: Sequence[np.ndarray], after: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Send a change, and return the arrays with the changes of others since the last time.

        Args:
            before: The arrays as they were.
            after: The arrays as this rank has changed them.
        """
        found = list(after)
        with _reported():
            for number, (slot, chosen) in enumerate(self._parts):
                values = _packed([after[i] for i in chosen])
                change = values - _packed([before[i] for i in chosen])
                slot.view[...] = change
                slot.exchange()
                self._add(found, number, values, change)
        return found

    def pull(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the arrays with the changes of others since the last time.

        Args:
            arrays: The arrays as they are on this rank.
        """
        found = list(arrays)
        with _reported():
            for number, (slot, chosen) in enumerate(self._parts):
                slot.pull()
                self._add(found, number, _packed([arrays[i] for i in chosen]), 0.0)
        return found

    def _add(
        self, found: list[np.ndarray], number: int, values: np.ndarray, own: np.ndarray | float
    ) -> None:
        """Put the values of a part, with what others have changed, where they belong."""
        slot, chosen = self._parts[number]
        values = values + (slot.view - self._seen[number] - own)
        self._seen[number] = slot.view.copy()
        start = 0
        for i in chosen:
            stop = start + found[i].size
            found[i] = values[start:stop].reshape(found[i].shape)
            start = stop


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
