"""Long runs take no more than short ones: memory, mappings, files, threads and objects stay.

`make test-soak` runs 100,000 steps, 10,000 functions, 2,000 models and 2,000 shapes; the tests some
hundredth of that, which shows what grows with each.
"""

import ctypes
import gc
import os
import pathlib
import threading
from typing import NamedTuple

import numpy as np
import pytest

import ksym
from ksym.runtime import jit

PROCESS = pathlib.Path("/proc/self")
pytestmark = pytest.mark.skipif(not PROCESS.exists(), reason="only Linux says it of a process")

LONG = os.environ.get("KSYM_SOAK") == "long"


class Footprint(NamedTuple):
    """What the process takes.

    Attributes:
        memory: Its resident memory in MiB, after unused memory was given back.
        code: Its mappings of generated code.
        files: Its open files.
        threads: Its threads.
        objects: The objects that Python's collector knows.
    """

    memory: float
    code: int
    files: int
    threads: int
    objects: int


def footprint():
    gc.collect()
    gc.collect()
    ksym.function(
        [], ksym.Variable(np.zeros(100, "float32")) * 3.3
    )()  # frees code that was dropped
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    maps = (PROCESS / "maps").read_text().splitlines()
    return Footprint(
        int((PROCESS / "statm").read_text().split()[1]) * 4 / 1024,
        sum("r-xp 00000000 00:00 0" in line for line in maps),
        len(list((PROCESS / "fd").iterdir())),
        threading.active_count(),
        len(gc.get_objects()),
    )


def check_flat(act, count, warm):
    """Do something a number of times, and compare the footprint with that after some of them.

    Args:
        act: The function to call, with the number of the call.
        count: The number of calls after which it is compared.
        warm: The number of calls before.
    """
    for number in range(warm):
        act(number)
    before = footprint()
    for number in range(warm, warm + count):
        act(number)
    after = footprint()
    report = f"after {warm}: {before}; after {count} more: {after}"
    print(report)
    assert after.memory - before.memory < (32 if LONG else 12), report
    assert after.code - before.code <= jit.KEPT // 8, report
    assert after.files <= before.files, report
    assert after.threads <= before.threads, report
    # What LLVM made is some eight objects for each mapping.
    assert after.objects - before.objects < 30 + 8 * max(0, after.code - before.code), report


@pytest.fixture
def little_kept(monkeypatch):
    """Keep so little code that the footprint does not depend on how much was asked for before."""
    monkeypatch.setattr(jit, "_kept", jit.deque(maxlen=4))


def sizes(full, short):
    return full if LONG else short


def test_steps_with_changing_batches(rng):
    x, y = ksym.placeholder((None, 8)), ksym.placeholder((None, 1))
    w, steps = ksym.Variable(np.zeros((8, 1), "float32")), ksym.Variable(0.0)
    loss = ksym.mean(ksym.square(ksym.tanh(x @ w) - y))
    (gradient,) = ksym.gradients(loss, [w])
    updates = [w.assign_sub(0.01 * gradient), steps.assign_add(1.0)]
    train = ksym.function([x, y], loss, updates=updates)

    def act(number):
        batch = 1 + number % 16
        train(rng.random((batch, 8), dtype="float32"), rng.random((batch, 1), dtype="float32"))

    count = sizes(100_000, 1000)
    check_flat(act, count, 100)
    assert steps.get_value() == count + 100


@pytest.mark.usefixtures("little_kept")
def test_functions_made_and_dropped(rng):
    choices = [ksym.add, ksym.subtract, ksym.multiply, lambda y, x: x - y]

    def act(number):
        x, v = ksym.placeholder((100,)), ksym.Variable(np.zeros(100, "float32"))
        y = ksym.tanh(x * (1.0 + number / 7919)) + v
        for k in rng.integers(0, 4, 6 if number % 10 == 0 else 0):
            y = choices[k](y, x)
        ksym.function([x], y, updates=[v.assign(y)])(np.ones(100, "float32"))

    check_flat(act, sizes(10_000, 150), 30)


@pytest.mark.usefixtures("little_kept")
def test_models_made_and_dropped():
    keras = pytest.importorskip("keras")
    x, y = np.zeros((4, 5), "float32"), np.zeros((4, 2), "float32")

    def act(number):
        hidden = keras.layers.Dense(3 + number % 4, activation="tanh", input_shape=(5,))
        model = keras.Sequential([hidden, keras.layers.Dense(2)])
        model.compile("adam", "mse")
        model.train_on_batch(x, y)
        model.predict_on_batch(x)
        keras.backend.clear_session()

    check_flat(act, sizes(2000, 12), 8)


@pytest.mark.usefixtures("little_kept")
def test_shapes_without_end(rng):
    x = ksym.placeholder((None, None))
    v = ksym.Variable(0.0)
    updates = [v.assign_add(ksym.mean(x))]
    f = ksym.function([x], ksym.sum(ksym.tanh(x), axis=1), updates=updates, specializations=30)

    def act(number):
        f(np.ones((1 + number % 50, 1 + number // 50), "float32"))

    check_flat(act, sizes(2000, 100), 40)


def test_threads_that_come_and_go():
    """As in a server that starts one for each request, of sizes that are new to it."""
    x = ksym.placeholder((None, 4))
    f = ksym.function(x, [ksym.sort(x), ksym.tanh(x)], specializations=10)
    threads = set()

    def act(number):
        thread = threading.Thread(target=f, args=(np.ones((1 + number % 40, 4)),))
        thread.start()
        thread.join()
        threads.add(threading.active_count())

    check_flat(act, sizes(1000, 40), 20)
    assert len(threads) == 1
