"""Mutual exclusion: calls that use the same variables wait for each other.

Every variable and every function belongs to a `Group`, and a group has one lock.  A function joins
its own group with those of its variables when it is made, so all functions that share a variable,
directly or through other functions, end up in one group, and a call takes a single lock however
many variables it reads and writes.  Functions that share nothing run at the same time.

Groups are a disjoint-set forest (Galler and Fischer 1964): a group that was joined to another one
points to it.  After taking a lock, a thread has to check that the group was not joined meanwhile:

    while True:
        group = group.root()
        with group.lock:
            if group.joined_to is None:
                ...  # the call, as if it were alone
                break

A forked process has only the thread that forked.  A lock that another one held at that moment would
never be released there, so `reentrant_lock` makes locks that are free again in the child.
"""

from __future__ import annotations

import contextlib
import itertools
import operator
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from threading import get_ident
from typing import Any

from ksym.errors import GraphError

busy: set[int] = set()
"""The threads that are in the middle of a call, or of reading or setting variables.

A thread that owns a group is one of them.  Whatever else they come to do meanwhile is asked for by
a signal handler or a finalizer, which must not wait: who it waits for may wait for the call that it
has interrupted.
"""


_locks: weakref.WeakSet[Any] = weakref.WeakSet()
_awaited: list[Any] = []
_finishing: list[Callable[[], None]] = []


def reentrant_lock(*, awaited: bool = False) -> Any:
    """Return a `threading.RLock` that no thread but the forking one holds in a forked process.

    Args:
        awaited: Whether a fork waits until the lock is free, as what is done under it would be left
            half done in the child.  A thread that holds several takes those made later first.
    """
    lock: Any = threading.RLock()
    _locks.add(lock)
    if awaited:
        _awaited.append(lock)
    return lock


def before_fork(function: Callable[[], None]) -> None:
    """Have a function called before each fork, once the locks that a fork awaits are held."""
    _finishing.append(function)


_entering = reentrant_lock(awaited=True)  # made first: it may be taken while any other is held
_entered: dict[object, int] = {}
_forking = False


def unforked(function: Callable[[Any], object], argument: object) -> None:
    """Call a function, on as many threads at once as like, and have forks wait until it returns.

    The function takes no lock of Python's, as the thread that forks holds them all.  Whoever is in
    the middle of a product of OpenBLAS's has a buffer, for which the child would wait for ever.
    """
    token = object()
    try:
        _entered[token] = get_ident()
        # A thread that forks sets this before it looks who has entered: one sees the other.  So
        # nobody has to take the lock, which costs a third of all this, while there is no fork.
        if _forking:
            del _entered[token]
            with _entering:
                _entered[token] = get_ident()
        function(argument)
    finally:
        _entered.pop(token, None)


def _wait_for_others() -> None:
    me = get_ident()
    while any(owner != me for owner in list(_entered.values())):
        time.sleep(1e-4)


def _before_fork() -> None:
    global _forking
    for lock in reversed(_awaited):
        lock.acquire()
    _forking = True
    _wait_for_others()
    for function in _finishing:
        function()


def _after_fork() -> None:
    global _forking
    _forking = False
    for lock in _awaited:
        lock.release()


def _after_fork_in_child() -> None:
    _after_fork()
    me = get_ident()
    busy.intersection_update((me,))
    for token, owner in list(_entered.items()):
        if owner != me:  # it was about to wait for the fork
            del _entered[token]
    for lock in list(_locks):
        if not lock._is_owned():
            lock._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
    )


class Group:
    """Variables and functions that are used together, and the lock that they share.

    Attributes:
        lock: The lock, which a thread holds while it uses any of them.  The same thread can acquire
            it again, as a signal handler or a finalizer does; `refuse_reentry` detects this.
        owner: The thread that a call is running on, 0 if there is none.
        joined_to: The group that this one was joined to, None if it is a root.
    """

    __slots__ = ("_number", "joined_to", "lock", "owner")
    _numbers = itertools.count()

    def __init__(self) -> None:
        self.lock = reentrant_lock()
        self.owner = 0
        self.joined_to: Group | None = None
        self._number = next(Group._numbers)

    def root(self) -> Group:
        """Return the root: the group that this one was joined to in the end, or itself."""
        group = self
        while group.joined_to is not None:
            group = group.joined_to
        if group is not self:
            self.joined_to = group  # path compression
        return group

    def refuse_reentry(self, what: str) -> None:
        """Raise an error if a call that uses the group is running on this thread.

        Raises:
            GraphError: There is such a call.
        """
        me = get_ident()
        # In a forked process the owner may be a thread of the parent, whose number is given anew.
        if self.owner == me and me in busy:
            raise GraphError(
                f"{what}, while a function that shares its variables is being computed on this "
                "thread: a signal handler or a finalizer (__del__, a weakref callback) asks for it",
                remedy="have the handler set a flag, and do it after the call",
            )

    @contextlib.contextmanager
    def held(self, what: str = "") -> Iterator[None]:
        """Hold the lock of the group, so that calls on other threads wait.

        Args:
            what: The change that is made inside, in the words of a message; empty if nothing is
                changed.  A change is refused in the middle of a call on the same thread, where only
                a signal handler or a finalizer can ask for it.

        Raises:
            GraphError: As `refuse_reentry`; or another thread holds the lock, and this thread must
                not wait because it is in the middle of a call.
        """
        me = get_ident()
        nested = me in busy
        while True:
            group = self if self.joined_to is None else self.root()
            with group._acquired_without_waiting(what) if nested else group.lock:
                if group.joined_to is None:
                    before = group.owner
                    if what and before == me:
                        group.refuse_reentry(what)
                    try:
                        busy.add(me)
                        group.owner = me
                        yield
                    finally:
                        group.owner = before
                        if not nested:
                            busy.discard(me)
                    return

    @contextlib.contextmanager
    def _acquired_without_waiting(self, what: str) -> Iterator[None]:
        """Hold the lock if it is free.

        Raises:
            GraphError: Another thread holds it.
        """
        if not self.lock.acquire(blocking=False):
            raise GraphError(
                f"{what or 'a variable is read'} by a signal handler or a finalizer (__del__, a "
                "weakref callback) in the middle of a call, while another thread uses the same "
                "variables: that one could be waiting for this one",
                remedy="have the handler set a flag, and do it after the call",
            )
        try:
            yield
        finally:
            self.lock.release()


def joined(groups: Iterable[Group], what: str) -> Group:
    """Join groups, and return their common root.

    Args:
        groups: One group or more.
        what: The reason for joining them, in the words of a message.

    Raises:
        GraphError: A call that uses one of them is running on this thread.
    """
    members = set(groups)
    while True:
        members = {g if g.joined_to is None else g.root() for g in members}
        if len(members) == 1:
            return members.pop()
        first, *others = sorted(members, key=operator.attrgetter("_number"))
        nested = get_ident() in busy
        with contextlib.ExitStack() as held:
            for group in (first, *others):
                group.refuse_reentry(what)
                # All threads acquire locks in the order of the numbers, so no two wait for each
                # other (a deadlock); a call holds one group only.
                held.enter_context(group._acquired_without_waiting(what) if nested else group.lock)
            if all(group.joined_to is None for group in (first, *others)):
                for group in others:
                    group.joined_to = first
                return first
