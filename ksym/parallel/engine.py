"""Engines: the communication between the processes of a job, which are called its ranks.

An engine does little: it adds arrays up over all ranks, copies an array of one rank to all others,
and collects messages.  There is one for each process, `current`; without the launcher it is
`Engine` itself, for a job of one rank.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ksym.errors import ParallelError

LARGE = 1 << 22
"""The number of bytes from which an array is reduced on its own, without being copied.

Copying costs less than another message, for which all ranks have to be there again.  Twenty arrays,
two ranks on two cores that others use too, least of 40 times in ms:

    ==========  ===========  =====  =====  =======
    parameters  from 64 KiB  1 MiB  8 MiB  one buffer
    ==========  ===========  =====  =====  =======
       100,000         0.32   0.30   0.29     0.28
     1,000,000          8.0    2.7    4.5      2.1
    10,000,000          110     95     72       63
    ==========  ===========  =====  =====  =======
"""

SAME = (
    "have all ranks take the same number of steps, and call what communicates on all of them, not "
    "under `if ksym.rank() == 0:`"
)
"""The remedy where ranks do not do the same."""


class Memory(NamedTuple):
    """An array in the memory of a GPU.

    Attributes:
        address: The address of its first element.
        size: The number of its elements.
        dtype: The name of their dtype.
    """

    address: int
    size: int
    dtype: str


class Waiting(NamedTuple):
    """The communication that a rank takes part in at the moment.

    Attributes:
        number: How many came before it.
        what: What it is, and of which arrays: equal on all ranks.
        since: The time when it began, as `time.monotonic` gives it.
    """

    number: int
    what: str
    since: float


class Engine:
    """The engine of a job of one rank, and the base class of all others.

    Attributes:
        rank: The number of this process, from 0.
        size: The number of ranks.
        compresses: Whether sums of what may be rounded are less exact, for less to send.
        is_asynchronous: Whether ranks train without waiting for each other's gradients.
        waiting: The communication that is going on; None if there is none.
    """

    name = "none"
    rank = 0
    size = 1
    compresses = False
    is_asynchronous = False

    def __init__(self) -> None:
        self.waiting: Waiting | None = None
        self._begun = 0
        self._agreed: set[str] = set()

    @contextlib.contextmanager
    def taking_part(self, what: str) -> Iterator[None]:
        """Note for the launcher which communication this rank takes part in."""
        self._begun += 1
        self.waiting = Waiting(self._begun, what, time.monotonic())
        try:
            yield
        finally:
            self.waiting = None

    def exchange(self, message: str, what: str) -> list[str]:
        """Return the messages of all ranks, by rank.

        Args:
            message: That of this rank.
            what: What the messages are about, equal on all ranks.
        """
        return [message]

    def summing(
        self, source: np.ndarray, target: np.ndarray, compressible: bool = False
    ) -> Callable[[], None]:
        """Return a function that writes the sum of an array over all ranks into another.

        Args:
            source: The array of this rank; contiguous.
            target: An array for the sum, of the same shape and dtype, contiguous; or the source.
            compressible: Whether the sum may be rounded, where the engine compresses.
        """
        return lambda: None if target is source else np.copyto(target, source)

    def copy_from(self, root: int, array: np.ndarray) -> None:
        """Replace an array, which is contiguous, by that of one rank."""

    def announce(self, text: str) -> None:
        """Tell all other ranks, of which some may never ask, that rank 0 has done something."""

    def await_announcement(self, text: str) -> None:
        """Wait until rank 0 has announced something, as often as this rank has waited for it."""

    def close(self) -> None:
        """End the communication; all ranks call it."""

    # --- built on these -----------------------------------------------------------------------

    def agree(self, what: str, items: Mapping[str, Any]) -> None:
        """Check that all ranks have the same items, at a moment that is the same for all.

        Raises:
            ParallelError: They differ; the message says in what, on every rank.
        """
        if self.size == 1:
            return
        found = [json.loads(m) for m in self.exchange(json.dumps(items, default=str), what)]
        differing = difference(found)
        if differing:
            raise ParallelError(
                f"the ranks have different {what.partition(':')[0]}", details=differing
            )

    def check(self, key: str) -> None:
        """Check, when a communication comes for the first time, that all ranks begin it."""
        if self.size == 1 or key in self._agreed:
            return
        self.agree(f"communications: {key}", {"communication": key})
        self._agreed.add(key)

    def reduction(
        self,
        sources: Sequence[np.ndarray],
        targets: Sequence[np.ndarray],
        compressible: Sequence[bool] = (),
    ) -> Callable[[], None]:
        """Return a function that writes the sums of arrays over all ranks into others.

        A large array is reduced from where it is to where it is wanted.  Small ones are put into
        one buffer for each dtype, so that there is one message for all of them; where the engine
        compresses, what may be rounded has a buffer of its own.

        Args:
            sources: The arrays of this rank, which stay; contiguous.
            targets: Arrays for the sums; contiguous.
            compressible: Whether each of the first sums may be rounded; no others may.
        """
        key = named_sum([f"{a.dtype}{list(a.shape)}" for a in sources])
        alone: list[Callable[[], None]] = []
        packed: dict[tuple[np.dtype, bool], list[tuple[np.ndarray, np.ndarray]]] = {}
        for i, (source, target) in enumerate(zip(sources, targets, strict=True)):
            if not source.size:
                continue
            rounded = self.compresses and any(compressible[i : i + 1])
            # Nobody adds float16 up but NumPy.
            wide = np.dtype("float32") if source.dtype == np.float16 else source.dtype
            if source.nbytes >= LARGE and wide == source.dtype:
                alone.append(self.summing(source, target, rounded))
            else:
                packed.setdefault((wide, rounded), []).append((source, target))
        buckets = [_Bucket(dtype, pairs) for (dtype, _), pairs in packed.items()]
        sums = [
            self.summing(bucket.buffer, bucket.buffer, rounded)
            for (_, rounded), bucket in zip(packed, buckets, strict=True)
        ]

        def run() -> None:
            self.check(key)
            with self.taking_part(key):
                for add in alone:
                    add()
                for bucket, add in zip(buckets, sums, strict=True):
                    bucket.pack()
                    add()
                    bucket.unpack()

        return run

    def device_reduction(
        self, sources: Sequence[Memory], targets: Sequence[Memory]
    ) -> Callable[[], None] | None:
        """Return a function that writes the sums of arrays on GPUs into others.

        None if the engine does not reach the memory of GPUs: then the arrays are copied to the
        host and back.

        Args:
            sources: The arrays of this rank, which stay.
            targets: Arrays for the sums.
        """
        return None

    def reduced(
        self, arrays: Sequence[np.ndarray], compressible: Sequence[bool] = ()
    ) -> list[np.ndarray]:
        """Return the sums of arrays over all ranks; see `reduction`."""
        sources = [np.ascontiguousarray(a).reshape(np.shape(a)) for a in arrays]
        targets = [np.empty_like(source) for source in sources]
        self.reduction(sources, targets, compressible)()
        return targets

    def broadcast(self, array: np.ndarray, root: int = 0) -> np.ndarray:
        """Return the array of one rank.

        Args:
            array: That of this rank: of the same shape and dtype on all.
            root: The rank whose array is returned.
        """
        result = np.array(array, order="C")
        key = f"broadcast from rank {root} of {result.dtype}{list(result.shape)}"
        self.check(key)
        if result.size:
            with self.taking_part(key):
                # As bytes, which every engine has.
                self.copy_from(root, result.reshape(-1).view(np.uint8))
        return result

    def broadcast_text(self, text: str, what: str) -> str:
        """Return the text of rank 0."""
        return self.exchange(text if self.rank == 0 else "", what)[0]


def named_sum(kinds: Sequence[str]) -> str:
    """Return the name of a sum of arrays, which is the same on ranks that do the same.

    Args:
        kinds: The dtype and the shape of each.
    """
    name = f"all_reduce of {', '.join(kinds[:3])}"
    if len(kinds) > 3:
        digest = hashlib.sha1(";".join(kinds).encode(), usedforsecurity=False).hexdigest()[:8]
        name += f" and {len(kinds) - 3} more ({digest})"
    return name


class _Bucket:
    """Arrays of one dtype in one buffer, each at a multiple of 64 bytes."""

    def __init__(self, dtype: np.dtype, pairs: Sequence[tuple[np.ndarray, np.ndarray]]):
        step = max(1, 64 // dtype.itemsize)
        starts, end = [], 0
        for source, _ in pairs:
            starts.append(end)
            end += -(-source.size // step) * step
        self.buffer = np.zeros(end, dtype)
        slots = [
            self.buffer[start : start + source.size].reshape(source.shape)
            for start, (source, _) in zip(starts, pairs, strict=True)
        ]
        self._in = [(slot, source) for slot, (source, _) in zip(slots, pairs, strict=True)]
        self._out = [(target, slot) for slot, (_, target) in zip(slots, pairs, strict=True)]

    def pack(self) -> None:
        for slot, source in self._in:
            slot[...] = source

    def unpack(self) -> None:
        for target, slot in self._out:
            target[...] = slot


def difference(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each item that is not the same on all ranks.

    >>> difference([{"python": "3.11"}, {"python": "3.12"}, {"python": "3.11"}])
    ['python: 3.11 on ranks 0, 2; 3.12 on rank 1']
    """
    lines = []
    for name in dict.fromkeys(name for items in found for name in items):
        ranks: dict[str, list[int]] = {}
        for rank, items in enumerate(found):
            ranks.setdefault(str(items.get(name, "nothing")), []).append(rank)
        if len(ranks) > 1:
            parts = [f"{value} on {ranks_named(where)}" for value, where in ranks.items()]
            lines.append(f"{name}: {'; '.join(parts)}")
    return lines


def ranks_named(ranks: Sequence[int]) -> str:
    """Return ranks as a message names them.

    >>> ranks_named([1]), ranks_named([0, 2])
    ('rank 1', 'ranks 0, 2')
    """
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"


_current = Engine()


def current() -> Engine:
    """Return the engine of this process."""
    return _current


def use(engine: Engine) -> None:
    """Have this process communicate by an engine."""
    global _current
    _current = engine
