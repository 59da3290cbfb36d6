"""Streams of random numbers, and the drawing of each distribution by NumPy's generators.

A stream draws on the host.  So the same seed gives the same numbers bit for bit, whatever the
device, the number of threads and the order in which a graph runs; and on CPU it is faster than
MXNet's samplers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np

from ksym.background import in_background
from ksym.errors import ArgumentError, GraphError
from ksym.graph import FrozenArray, Tensor, listed_tensors, topological_order
from ksym.locking import reentrant_lock

__all__ = ["RandomStream", "seed", "random_streams"]


class RandomStream:
    """A sequence of random numbers that is continued from one call to the next.

    It can be pickled, and its state can be read and set, so that a run can be resumed where it
    stopped.

    Args:
        seed: A number; equal seeds give equal sequences.  By default the next one from `seed`.

    Raises:
        GraphError: The seed is negative.

    >>> stream = RandomStream(1)
    >>> state = stream.get_state()
    >>> first = stream.draw("uniform", (3,), "float32")
    >>> stream.set_state(state)
    >>> bool((stream.draw("uniform", (3,), "float32") == first).all())
    True
    """

    def __init__(self, seed: int | None = None):
        value = _next_seed() if seed is None else int(seed)
        if value < 0:
            raise GraphError(f"a seed is not negative, unlike {value}")
        self._generator = np.random.Generator(np.random.SFC64(value))
        self._ahead: _Ahead | None = None
        # Taken again by a signal handler that draws in the middle of a draw.
        self._lock = reentrant_lock()

    def draw(
        self, kind: str, shape: Sequence[int], dtype: str, **parameters: FrozenArray
    ) -> np.ndarray:
        """Return an array of random numbers.

        Args:
            kind: One of `DISTRIBUTIONS`.
            shape: The shape.
            dtype: The dtype.
            parameters: The parameters of that distribution.
        """
        values = [parameter.array for parameter in parameters.values()]
        with self._lock:
            if self._ahead is not None:
                found = self._drawn_ahead(_Asked(kind, tuple(shape), dtype, parameters))
                if found is not None:
                    return found
            return DISTRIBUTIONS[kind](self._generator, tuple(shape), dtype, *values)

    def draw_ahead(
        self, kind: str, shape: Sequence[int], dtype: str, **parameters: FrozenArray
    ) -> None:
        """Begin to draw what the next `draw` will be asked for, in a thread.

        If it is asked for something else the sequence is the one that it would have been.

        Args:
            kind: As for `draw`.
            shape: As for `draw`.
            dtype: As for `draw`.
            parameters: As for `draw`.
        """
        asked = _Asked(kind, tuple(shape), dtype, parameters)
        with self._lock:
            if self._ahead is None:
                before = copy.deepcopy(dict(self._generator.bit_generator.state))
                self._ahead = _Ahead(asked, before, in_background(asked.drawn, self._generator))

    def _drawn_ahead(self, asked: _Asked | None) -> np.ndarray | None:
        """Return the numbers that were drawn ahead; if others are asked for, forget them."""
        ahead = self._ahead
        if ahead is None:
            return None
        found = ahead.numbers.result()  # also if they are not asked for: the generator is in use
        wanted = ahead.asked == asked
        if not wanted:
            self._generator.bit_generator.state = ahead.before
        self._ahead = None
        return found if wanted else None

    def get_state(self) -> dict[str, Any]:
        """Return the state of the sequence, without changing it."""
        with self._lock:
            if self._ahead is not None:
                return copy.deepcopy(self._ahead.before)
            return copy.deepcopy(dict(self._generator.bit_generator.state))

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue the sequence from the state that `get_state` returned.

        Raises:
            GraphError: It is not the state of a stream.
        """
        with self._lock:
            self._drawn_ahead(None)
            try:
                self._generator.bit_generator.state = copy.deepcopy(state)
            except (KeyError, TypeError, ValueError):
                raise GraphError("this is not the state of a random stream") from None

    def __getstate__(self) -> dict[str, Any]:
        return self.get_state()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(0)  # type: ignore[misc]
        self.set_state(state)


class _Asked(NamedTuple):
    """The arguments of `RandomStream.draw`."""

    kind: str
    shape: tuple[int, ...]
    dtype: str
    parameters: Mapping[str, FrozenArray]

    def drawn(self, generator: np.random.Generator) -> np.ndarray:
        """Return the numbers."""
        values = [parameter.array for parameter in self.parameters.values()]
        return DISTRIBUTIONS[self.kind](generator, self.shape, self.dtype, *values)


class _Ahead(NamedTuple):
    """Numbers that are drawn before they are asked for.

    Attributes:
        asked: The arguments for which they are drawn.
        before: The state of the sequence before them.
        numbers: The numbers, some time.
    """

    asked: _Asked
    before: dict[str, Any]
    numbers: Future[np.ndarray]


_seeds = np.random.SeedSequence()
_spawned = 0
_seeds_lock = reentrant_lock()


def seed(value: int | None) -> None:
    """Seed the random streams that are created from now on without a seed of their own.

    With the same value, the same program creates streams with the same numbers.

    Args:
        value: An integer of at least zero; None takes another seed at each call.

    Raises:
        ArgumentError: It is something else.
    """
    global _seeds, _spawned
    try:
        seeds = np.random.SeedSequence(value)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"{value!r} is no seed", remedy="give an integer of at least zero, or None"
        ) from None
    with _seeds_lock:
        _seeds, _spawned = seeds, 0


def _next_seed() -> int:
    global _spawned
    with _seeds_lock:
        _spawned += 1
        key = np.random.SeedSequence(_seeds.entropy, spawn_key=(_spawned,))
    return int(key.generate_state(1, np.uint64)[0])


def random_streams(outputs: Tensor | Iterable[Tensor]) -> list[RandomStream]:
    """Return the streams that a graph draws from, each once, in the order of the graph.

    The same program finds them in the same order, so their states can be kept beside the values of
    its variables, and a run be resumed.

    Raises:
        ArgumentError: The outputs are no tensors.
    """
    order = topological_order(listed_tensors(outputs, "the graph"))
    found = [node.attributes.get("stream") for node in order]
    return list(dict.fromkeys(stream for stream in found if isinstance(stream, RandomStream)))


def as_stream(stream: RandomStream | int | None) -> RandomStream:
    """Return a stream as it is, and a new stream for a number, its seed."""
    return stream if isinstance(stream, RandomStream) else RandomStream(stream)


# --- what is drawn -------------------------------------------------------------------------------


def _native(dtype: str) -> Any:
    """Return the dtype NumPy draws in: float16 is rounded from float32."""
    return np.float64 if dtype == "float64" else np.float32


def _uniform(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    if dtype == "float16":
        # Rounding could give 1; these bits are exact, like NumPy's 24 and 53 bits of wider floats.
        return (generator.integers(0, 2**11, shape) / 2**11).astype(dtype)
    return generator.random(shape, _native(dtype))


def _normal(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return generator.standard_normal(shape, _native(dtype)).astype(dtype, copy=False)


def _draw_truncated(
    generator: np.random.Generator, shape: tuple[int, ...], dtype: str
) -> np.ndarray:
    result = generator.standard_normal(shape, _native(dtype))
    while True:
        outside = np.abs(result) > 2.0
        count = int(outside.sum())
        if not count:
            return np.asarray(result).astype(dtype, copy=False)
        result = np.where(outside, 0.0, result).astype(_native(dtype))
        result[outside] = generator.standard_normal(count, _native(dtype))


def _exponential(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return generator.standard_exponential(shape, _native(dtype)).astype(dtype, copy=False)


def _laplace(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.asarray(generator.laplace(size=shape)).astype(dtype)


def _gumbel(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.asarray(generator.gumbel(size=shape)).astype(dtype)


def _gamma(
    generator: np.random.Generator, shape: tuple[int, ...], dtype: str, alpha: np.ndarray
) -> np.ndarray:
    return np.asarray(generator.standard_gamma(alpha, shape)).astype(dtype)


_INT32 = np.iinfo("int32")


def _integers(
    generator: np.random.Generator,
    shape: tuple[int, ...],
    dtype: str,
    low: np.ndarray,
    last: np.ndarray,
) -> np.ndarray:
    if dtype == "int32" and low == _INT32.min and last == _INT32.max:
        # All values of the dtype: the generator's own words, each split into two, at half the cost.
        size = math.prod(shape)
        words = np.asarray(generator.bit_generator.random_raw(-(-size // 2)))
        return words.view(dtype)[:size].reshape(shape)
    return np.asarray(generator.integers(low, last, shape, endpoint=True)).astype(dtype)


def _mask(
    generator: np.random.Generator,
    shape: tuple[int, ...],
    dtype: str,
    low: np.ndarray,
    last: np.ndarray,
    bound: np.ndarray,
) -> np.ndarray:
    return np.asarray(_integers(generator, shape, "int32", low, last) >= bound)


def _permutation(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return generator.permutation(shape[0]).astype(dtype)


DISTRIBUTIONS: dict[str, Callable[..., np.ndarray]] = {
    "uniform": _uniform,
    "normal": _normal,
    "truncated_normal": _draw_truncated,
    "exponential": _exponential,
    "laplace": _laplace,
    "gumbel": _gumbel,
    "gamma": _gamma,
    "integers": _integers,
    "mask": _mask,
    "permutation": _permutation,
}
"""For each distribution the function that draws: ``(generator, shape, dtype, *parameters)``."""
