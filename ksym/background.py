"""Work in the background: one thread, which a fork waits for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from ksym.locking import before_fork, reentrant_lock

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_lock = reentrant_lock(awaited=True)
_thread: ThreadPoolExecutor | None = None


def in_background(
    function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Future[Result]:
    """Call a function in the thread, after what was asked of it before, and return its result.

    The function takes no locks: a fork holds them while it waits for the thread.

    >>> in_background(sum, [1, 2]).result()
    3
    """
    global _thread
    with _lock:
        if _thread is None:
            _thread = ThreadPoolExecutor(1, "ksym")
        try:
            return _thread.submit(function, *args, **kwargs)
        except RuntimeError:  # the process ends, and threads with it
            result: Future[Result] = Future()
            result.set_result(function(*args, **kwargs))
            return result


def _finish() -> None:
    """Wait for the thread, which a child would not have; the next work starts another one."""
    global _thread
    if _thread is not None:
        _thread.shutdown()
        _thread = None


before_fork(_finish)
