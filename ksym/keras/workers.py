"""The threads and processes that prepare Keras's batches: their order, and their failures."""

from __future__ import annotations

import contextlib
import functools
import queue
import sys
import threading
from collections.abc import Callable
from multiprocessing.pool import ThreadPool
from typing import Any

from ksym.errors import GraphError


def mend(data_utils: Any) -> None:
    """Adapt Keras's module of queues of batches: see `ksym.keras.shims`."""
    _start_tasks_in_order(data_utils)
    _report_failures(data_utils)


class OrderedThreadPool(ThreadPool):
    """A pool of threads whose tasks start in the order in which they are submitted."""

    def __init__(self, *arguments: Any, **options: Any):
        self._submitting = threading.Lock()
        self._last = threading.Event()
        self._last.set()
        super().__init__(*arguments, **options)

    def apply_async(self, func: Any, *arguments: Any, **options: Any) -> Any:
        """Submit a task, as `ThreadPool.apply_async` does."""
        with self._submitting:  # no task may come between this one and the one it waits for
            previous, started = self._last, threading.Event()

            def run(*arguments: Any, **options: Any) -> Any:
                previous.wait()
                started.set()
                return func(*arguments, **options)

            result = super().apply_async(run, *arguments, **options)
            self._last = started
        return result


def _start_tasks_in_order(data_utils: Any) -> None:
    """Have a module see a ``ThreadPool`` whose tasks start in the order of their submission.

    A queue of CPython 3.13 gives its items to the threads that wait for them, and these run in any
    order.  Of a generator that raises an error, the first thread gets that and the others
    StopIteration; Keras, which looks at the first task first, took that for the generator's end.
    """
    if sys.version_info >= (3, 13):
        vars(data_utils)["ThreadPool"] = OrderedThreadPool


class _Failure:
    """The result that a consumer of batches gets where the thread that asks for them has failed."""

    idx = 0

    def __init__(self, error: BaseException):
        self._error = error

    def get(self, timeout: float | None = None) -> Any:
        raise GraphError(
            "the workers that prepare batches cannot be used: "
            f"{type(self._error).__name__}: {self._error}",
            remedy="what they are given must be pickled where processes are not forked: give a "
            "keras.utils.Sequence that is defined in a module, use_multiprocessing=False, or "
            'multiprocessing.set_start_method("fork")',
        ) from self._error

    def wait(self, timeout: float | None = None) -> None:
        """Return at once."""

    def successful(self) -> bool:
        return False


def _report_failures(data_utils: Any) -> None:
    """Hand errors of the threads that ask workers for batches to who waits for these."""

    def reporting(run: Callable[[Any], None]) -> Callable[[Any], None]:
        @functools.wraps(run)
        def reported(self: Any) -> None:
            try:
                run(self)
            except Exception as error:  # noqa: BLE001 - raised by who waits
                while not self.stop_signal.is_set():
                    with contextlib.suppress(queue.Full):
                        return self.queue.put(_Failure(error), timeout=0.1)

        return reported

    for enqueuer in (data_utils.OrderedEnqueuer, data_utils.GeneratorEnqueuer):
        enqueuer._run = reporting(enqueuer._run)
