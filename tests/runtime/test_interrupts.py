"""Calls that are interrupted at any point: all updates or none, locks free, the thread as before.

An exception is raised where CPython looks for signals: when a function begins, and behind each
call.  `make test-faults` does so at every such point, the tests at a sample of them.
"""

import ctypes
import dis
import gc
import os
import pathlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest

import ksym
from ksym import locking
from ksym.runtime import loading

# An exception in a finalizer goes nowhere: Python prints it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

EVERY = os.environ.get("KSYM_FAULTS") == "all"
PACKAGE = str(pathlib.Path(ksym.__file__).parent)
VALUE = np.linspace(-1.0, 1.0, 16, dtype="float32").reshape(4, 4)


# One for all calls: MXNet keeps 5 MiB of each thread that it computed on.
OTHER_THREAD = ThreadPoolExecutor(1)


class Injection:
    """Counts the points of a call, and raises an exception at one of them.

    Args:
        at: The number of the point, None to count only.
        error: The exception.
    """

    def __init__(self, at=None, error=KeyboardInterrupt):
        self.points = 0
        self._at, self._error = at, error
        self._before = {}

    def __call__(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        if event == "call":
            self._point()
        elif event == "opcode":
            before = self._before.get(frame, "")
            self._before[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if before.startswith("CALL"):
                self._point()
        else:
            self._before.pop(frame, None)
        return self

    def _point(self):
        self.points += 1
        if self.points - 1 == self._at:
            raise self._error


def injected(f, at=None, error=KeyboardInterrupt):
    """Call a function with an injection; return the number of points, and what was raised."""
    injection, raised, before = Injection(at, error), None, sys.gettrace()
    sys.settrace(injection)
    try:
        f(VALUE)
    except (KeyboardInterrupt, MemoryError, ksym.ExecutionError) as caught:
        raised = caught
    finally:
        sys.settrace(before)
    return injection.points, raised


def made(mode):
    """Return a function with several updates, and its variables."""
    x = ksym.placeholder((4, 4))
    variables = [ksym.Variable(np.zeros((4, 4), "float32")) for _ in range(4)]
    updates = [v.assign(v + 1.0 + 0.0 * ksym.tanh(x @ v)) for v in variables[:2]]
    updates += [v.assign(v + ksym.maximum(ksym.det(x), 1.0)) for v in variables[2:]]
    return ksym.function([x], ksym.sum(x), updates=updates, mode=mode), variables


def flags():
    """The state of the thread that a call changes for a while."""
    shapes = ctypes.c_int()
    loading.library().MXIsNumpyShape(ctypes.byref(shapes))
    small = bool((np.full(8, 2.0**-126, "float32") / np.float32(4.0)).all())
    return shapes.value, small, gc.isenabled(), threading.get_ident() in locking.busy


def steps_done(variables):
    """The number of steps that all variables have done, which is the same for each element."""
    (steps,) = {float(item) for v in variables for item in np.unique(v.get_value())}
    return steps


def points(count, sample):
    return (
        range(count) if EVERY or count <= sample else np.linspace(0, count - 1, sample, dtype=int)
    )


def check(f, variables, at, error, before):
    steps = steps_done(variables)
    _, raised = injected(f, at, error)
    assert flags() == before, at
    done = steps_done(variables)
    assert done in ((steps, steps + 1) if raised is not None else (steps + 1,)), at
    other = OTHER_THREAD.submit(f, VALUE)
    assert other in wait([other], 60).done, f"a lock is held after an exception at point {at}"
    other.result()
    assert steps_done(variables) == done + 1, at
    # Not the exception: its traceback keeps every frame of the call, of thousands of calls.
    return raised is not None


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("mode", ["native", "interpret"])
def test_a_warm_call(mode, error):
    f, variables = made(mode)
    f(VALUE)
    before = flags()
    count, _ = injected(f)
    raised = sum(check(f, variables, at, error, before) for at in points(count, 100))
    assert count > 10
    assert raised > 10


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("mode", ["native", "interpret"])
def test_a_first_call(mode, error):
    f, _ = made(mode)
    before = flags()
    count, _ = injected(f)
    assert count > 1000
    for at in points(count, 10):
        check(*made(mode), at, error, before)


def test_a_warm_call_where_each_update_is_a_copy():
    """On an asynchronous engine, as on a GPU, new values are copied one by one."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    asynchronous = {**os.environ, "MXNET_ENGINE_TYPE": "ThreadedEnginePerDevice"}
    result = subprocess.run(
        [*command, "-k", "test_a_warm_call and native and not copy"],
        env=asynchronous,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert "2 passed" in result.stdout, result.stdout
