"""The functions that a script calls to train together with other processes."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from ksym.errors import ArgumentError, InputError
from ksym.parallel import engine


class Settings(NamedTuple):
    """How a script trains together with others.

    Attributes:
        batches: ``"global"`` or ``"local"``, as for `data_parallel`.
        sync_batch_norm: As for `data_parallel`.
        share_evaluation: As for `data_parallel`.
    """

    batches: str
    sync_batch_norm: bool
    share_evaluation: bool


_settings: Settings | None = None


def settings() -> Settings | None:
    """Return how the script trains together with others; None if it trains alone."""
    return _settings


def data_parallel(
    batches: Literal["global", "local"] = "global",
    sync_batch_norm: bool = False,
    share_evaluation: bool = True,
) -> None:
    """Have Keras models train on all ranks of a job together, from now on.

    Under ``python -m ksym.launch -n 4 train.py`` each of four processes runs the script.  After
    this call they train as one would: ``fit``, ``fit_generator`` and ``train_on_batch`` take a
    batch, each rank computes the gradient of its part of the rows, and the optimizer gets that of
    all rows.  Without the launcher, and for one rank, the call does nothing.  It stands before any
    model is compiled.  It makes the random numbers of NumPy and of Python's ``random`` those of
    rank 0.  docs/parallel.md says what is the same as with one process, and what is not.

    Args:
        batches: ``"global"`` if every rank is given the same batch, of which it takes its rows, so
            that scripts stay as they are; ``"local"`` if each is given other rows, as by `shard`,
            and the batch is all of them together.
        sync_batch_norm: Whether batch normalisation takes the mean and variance of the rows of all
            ranks, at the price of four small messages for each such layer, or of those of each
            rank.
        share_evaluation: Whether each rank computes some batches of ``evaluate``, and of the
            validation of ``fit``, which all ranks have to call then; or all of them by itself.

    Raises:
        ArgumentError: The batches are neither; or batch normalisation is to be synchronised where
            the ranks do not wait for each other (``--engine dist_async``).
        ParallelError: The ranks give other arguments.

    >>> data_parallel()
    """
    global _settings
    if batches not in ("global", "local"):
        raise ArgumentError(f'batches is {batches!r}, neither "global" nor "local"')
    made = engine.current()
    if made.size == 1:
        return
    if sync_batch_norm and made.is_asynchronous:
        raise ArgumentError(
            f"sync_batch_norm=True has the ranks wait for each other, --engine {made.name} has not",
            remedy="take another engine, or leave sync_batch_norm out",
        )
    chosen = Settings(batches, bool(sync_batch_norm), bool(share_evaluation))
    made.agree("arguments of data_parallel", chosen._asdict())
    share_random_state()
    _settings = chosen


def share_random_state() -> None:
    """Give NumPy's and Python's global random numbers on all ranks the state that rank 0 has."""
    made = engine.current()
    kind, keys, position, has_normal, normal = np.random.get_state()
    state = random.getstate()
    own = json.dumps([kind, np.asarray(keys).tolist(), position, has_normal, float(normal), state])
    shared = json.loads(made.broadcast_text(own, "the state of random numbers"))
    kind, keys, position, has_normal, normal, (version, words, last) = shared
    np.random.set_state((kind, np.array(keys, "uint32"), position, has_normal, normal))
    random.setstate((version, tuple(words), last))


def rank() -> int:
    """Return the number of this process among those that train together, from 0.

    >>> rank()
    0
    """
    return engine.current().rank


def size() -> int:
    """Return how many processes train together: 1 without the launcher.

    >>> size()
    1
    """
    return engine.current().size


def bounds(rows: int) -> tuple[int, int]:
    """Return the first of this rank's rows of a batch, and the one behind its last.

    The ranks' numbers of rows differ by at most one.
    """
    made = engine.current()
    return rows * made.rank // made.size, rows * (made.rank + 1) // made.size


def shard(*arrays: Any) -> Any:
    """Return this rank's rows of arrays: as many on each rank, so that all take the same steps.

    For ``data_parallel(batches="local")``.  Rank r of n has the rows r, r + n, ... ; up to n - 1
    rows at the end, which would be one more for some ranks, are left out.

    Args:
        arrays: NumPy arrays, or what indexes like one, with the same number of rows.

    Returns:
        The rows of each array, as a view where it is a NumPy array; one if there was one.

    Raises:
        InputError: There are no arrays, their numbers of rows differ, or there are fewer rows than
            ranks.

    >>> x, y = shard(np.arange(3), np.arange(3) * 2)
    >>> x, y
    (array([0, 1, 2]), array([0, 2, 4]))
    """
    made = engine.current()
    counts = [len(array) for array in arrays]
    if not arrays or len(set(counts)) > 1:
        raise InputError(f"arrays to share have {counts} rows", remedy="give as many of each")
    each = counts[0] // made.size
    if not each:
        raise InputError(
            f"{counts[0]} row(s) cannot be divided among {made.size} ranks",
            remedy="start fewer processes, or give more rows",
        )
    parts: Sequence[Any] = [a[made.rank : each * made.size : made.size] for a in arrays]
    return parts[0] if len(parts) == 1 else tuple(parts)
