"""The thread that native graphs are bound on.

MXNet keeps what it makes for a thread that binds a graph, 5 MiB of states of random numbers among
it, until the process ends.  A server that starts a thread for each request would grow with every
thread that meets a new shape.  So all threads but the main one have one and the same thread bind
for them; the main one may be interrupted while it waits, and binds by itself.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ksym.locking import busy

R = TypeVar("R")

_pools: dict[int, ThreadPoolExecutor] = {}
"""The pool of this process, by its number: a forked process has none of its parent's threads."""


def bound(bind: Callable[[], R]) -> R:
    """Return what a function returns that binds a native graph, on the thread for that."""
    if threading.current_thread() is threading.main_thread():
        return bind()
    number = os.getpid()
    if number not in _pools:
        _pools.setdefault(number, ThreadPoolExecutor(1, "ksym-binding"))
    try:
        result: Future[R] = _pools[number].submit(_in_the_middle_of_a_call, bind)
    except RuntimeError:  # the interpreter is shutting down, and takes no more work
        return bind()
    return result.result()


def _in_the_middle_of_a_call(bind: Callable[[], R]) -> R:
    """Bind, where no finalizer may wait: the thread that holds the locks waits for this one."""
    me = threading.get_ident()
    busy.add(me)
    try:
        return bind()
    finally:
        busy.discard(me)
