"""Calls from several threads, signal handlers and finalizers: each is as if it were alone."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import ksym
from ksym.errors import GraphError
from ksym.locking import Group, joined

ROOT = Path(__file__).parents[1]


@pytest.fixture
def often():
    """Threads take turns after every few instructions, so what may interleave does."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def together(*tasks):
    """Run tasks in threads of their own that begin at one moment; raise what one of them raises."""
    barrier, errors = threading.Barrier(len(tasks)), []

    def run(task):
        barrier.wait()
        try:
            task()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error


FIRST_CALLS = """
import sys, threading
import numpy as np
import ksym

sys.setswitchinterval(1e-5)
barrier = threading.Barrier(8)

def work(number):
    x = ksym.placeholder((None,))
    wave = ksym.tanh(x)
    f = ksym.function([x], [ksym.sum(ksym.exp(x) * number), wave @ wave])
    barrier.wait()
    found = f(np.arange(50.0) / 50)
    expected = np.arange(50, dtype="float32") / 50
    np.testing.assert_allclose(found[0], (np.exp(expected) * number).sum(), rtol=1e-4)
    np.testing.assert_allclose(found[1], (np.tanh(expected) ** 2).sum(), rtol=1e-4)
    done.append(number)

done = []
threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sorted(done))
"""


def test_the_first_calls_of_a_process_may_come_from_several_threads():
    for _ in range(3):  # of processes in which they race, half died
        result = subprocess.run(
            [sys.executable, "-c", FIRST_CALLS],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.stdout.strip() == str(list(range(8))), result.stderr


def test_graphs_are_built_on_several_threads_at_once(often):
    x = ksym.placeholder((None, 3))
    common = ksym.tanh(x) * 2.0
    names, results = [], {}

    def build(number):
        for _ in range(15):
            with ksym.name_scope(f"part{number}"):
                w = ksym.Variable(np.full((3, 1), number + 1.0), name="w")
                loss = ksym.sum(common @ w) + ksym.sum(
                    ksym.scan(lambda s: (s * number, s + 1.0), [], [ksym.sum(w)], steps=3).outputs
                )
            slope = ksym.gradients(loss, w)
            names.append(w.name)
            results[number] = ksym.function(x, slope)(np.ones((2, 3)))

    together(*(lambda number=number: build(number) for number in range(6)))
    assert len(set(names)) == len(names) == 90
    for number, slope in results.items():
        expected = np.full((3, 1), 4 * np.tanh(1.0) + 3 * number)
        np.testing.assert_allclose(slope, expected, rtol=1e-5)


def test_functions_that_first_use_a_variable_at_once_share_it(often):
    for _ in range(60):
        w = ksym.Variable(np.zeros(3, "float32"))
        steps = [ksym.function([], w * 1.0, updates=[w.assign_add(np.ones(3))]) for _ in range(2)]
        together(*steps, w.get_value)
        np.testing.assert_array_equal(w.get_value(), [2, 2, 2])


def test_a_value_set_during_the_first_call_is_not_lost(often):
    for _ in range(60):
        w = ksym.Variable(np.zeros(3, "float32"))
        read = ksym.function([], w * 1.0)
        together(read, lambda w=w: w.set_value([5, 5, 5]))
        np.testing.assert_array_equal(w.get_value(), [5, 5, 5])
        np.testing.assert_array_equal(read(), [5, 5, 5])


@pytest.mark.parametrize("read", ["function", "get_values", "get_value"])
def test_updates_are_seen_all_or_none(read, often):
    size = 50_000
    a, b = ksym.Variable(np.zeros(size)), ksym.Variable(np.zeros(size))
    more = [v.assign_add(np.ones(size)) for v in (a, b)]
    update = ksym.function([], [], updates=more)
    both = ksym.function([], [a, b])
    reads = {
        "function": both,
        "get_values": lambda: ksym.get_values([a, b]),
        "get_value": lambda: [a.get_value()] * 2,
    }
    stop = threading.Event()

    def keep_updating():
        while not stop.is_set():
            update()

    def keep_reading():
        try:
            for _ in range(60):
                first, second = reads[read]()
                assert (first == second[0]).all()
                assert (second == first[0]).all()
        finally:
            stop.set()

    together(keep_updating, keep_reading)


def test_values_that_are_set_together_are_seen_together(often):
    size = 50_000
    a, b = ksym.Variable(np.zeros(size)), ksym.Variable(np.zeros(size))
    total = ksym.function([], [ksym.min(a - b), ksym.max(a - b), a[0], a[-1]])
    stop = threading.Event()

    def keep_setting():
        number = 0
        while not stop.is_set():
            number += 1
            ksym.set_values([(v, np.full(size, float(number))) for v in (a, b)])

    def keep_computing():
        try:
            for _ in range(60):
                low, high, first, last = total()
                assert low == high == 0
                assert first == last
        finally:
            stop.set()

    together(keep_setting, keep_computing)


def test_one_refused_value_leaves_all_variables_as_they_were():
    a, b = ksym.Variable([1.0, 2.0]), ksym.Variable([3.0])
    with pytest.raises(ksym.KsymError):
        ksym.set_values([(a, [5.0, 6.0]), (b, [7.0, 8.0])])
    assert [v.tolist() for v in ksym.get_values([a, b])] == [[1, 2], [3]]


@pytest.mark.parametrize("mode", ["native", "interpret"])
def test_functions_that_share_nothing_do_not_share_working_memory_either(mode, rng):
    # Sorting takes working memory, which MXNet keeps for each thread that binds, not each graph.
    def build(width):
        x = ksym.placeholder((None, width))
        results = [ksym.sort(x, -1), ksym.argsort(x, -1), ksym.cumsum(x, 0)]
        return ksym.function([x], results, mode=mode)

    widths = (50, 1000, 333, 20_000)
    functions = [build(width) for width in widths]
    values = [rng.normal(size=(20, width)).astype("float32") for width in widths]
    expected = [f(x) for f, x in zip(functions, values, strict=True)]

    def check(number):
        for _ in range(15):
            found = functions[number](values[number])
            for array, right in zip(found, expected[number], strict=True):
                np.testing.assert_array_equal(array, right)

    together(*(lambda number=number: check(number) for number in range(len(widths))))


@pytest.fixture
def alarm():
    """Call a handler again and again in the middle of what the main thread does."""
    before = signal.getsignal(signal.SIGALRM)

    def start(handler):
        signal.signal(signal.SIGALRM, lambda *_: handler())
        signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_signal_handler_does_not_get_into_the_middle_of_a_call(alarm):
    x, total = ksym.placeholder((500,)), ksym.Variable(0.0)
    add = ksym.function([x], x * 2.0, updates=[total.assign_add(ksym.sum(x))])
    value, other = np.ones(500, "float32"), np.zeros(500, "float32")
    add(value)
    done, refused = [], []

    def handler():
        try:
            done.append(add(other))
        except GraphError as error:
            refused.append(str(error))
        assert total.get_value() % 500 == 0  # a handler may look

    alarm(handler)
    calls = 1
    while len(refused) < 5 and calls < 200_000:
        assert (add(value) == 2).all()
        calls += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert refused
    assert "signal handler" in refused[0]
    assert all((result == 0).all() for result in done)
    assert total.get_value() == 500 * calls


class _Finalized:
    """An argument that calls a function when it is collected."""

    def __init__(self, call):
        self.call = call

    def __array__(self, *_, **__):
        return np.ones(2, "float32")

    def __del__(self):
        self.call()


def test_finalizers_run_before_and_after_a_call_but_not_inside():
    seen = []
    x, w = ksym.placeholder((2,)), ksym.Variable([1.0, 1.0])
    f = ksym.function([x], x + w)

    def call():
        try:
            seen.append(f([0, 0]).tolist())
        except GraphError:
            seen.append("refused")

    for _ in range(3):
        assert f(_Finalized(call)).tolist() == [2, 2]
    assert set(map(str, seen)) <= {"[1.0, 1.0]", "refused"}
    assert len(seen) == 3


@hypothesis.given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), max_size=12), st.data()
)
def test_groups_are_one_where_a_chain_of_functions_connects_them(functions, data):
    groups = [Group() for _ in range(10)]
    component = {number: {number} for number in range(10)}
    for used in functions:
        joined([groups[number] for number in used], "a function is made")
        union = set().union(*(component[number] for number in used))
        component.update(dict.fromkeys(union, union))
    first, second = (data.draw(st.integers(0, 9)) for _ in range(2))
    same = groups[first].root() is groups[second].root()
    assert same == (second in component[first])


def test_functions_without_common_variables_run_at_once():
    entered, leave = threading.Event(), threading.Event()
    first, second = ksym.Variable(1.0), ksym.Variable(2.0)
    slow, quick = ksym.function([], first + 0.0), ksym.function([], second + 0.0)
    original = slow._program

    def held(values):
        entered.set()
        assert leave.wait(30)
        return original(values)

    slow._program = held
    thread = threading.Thread(target=slow)
    thread.start()
    assert entered.wait(30)
    assert quick() == 2.0  # while the other one is in the middle of its call
    assert second.get_value() == 2.0
    leave.set()
    thread.join()


@pytest.mark.parametrize("what", ["set_values", "get_values"])
def test_a_signal_handler_does_not_get_into_the_middle_of_several_values(alarm, what):
    a, b = ksym.Variable(np.zeros(500)), ksym.Variable(np.zeros(500))
    more = [v.assign_add(np.ones(500)) for v in (a, b)]
    both = ksym.function([], [a[0], b[0]], updates=more if what == "get_values" else None)
    both()
    torn, refused = [], []

    def handler():
        try:
            first, second = both()
            torn.append(first != second)
        except GraphError:
            refused.append(1)

    alarm(handler)
    for number in range(200_000):
        if what == "set_values":
            ksym.set_values([(v, np.full(500, float(number))) for v in (a, b)])
        else:
            first, second = ksym.get_values([a, b])
            torn.append(first[0] != second[0])
        if len(refused) >= 20 or sum(torn):
            break
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert not sum(torn)
    assert refused


HANDLERS = """
import os, signal, sys, threading, time
import numpy as np
import ksym

variables = [ksym.Variable(0.0) for _ in range(2)]
x = ksym.placeholder((60,))
f, g = (
    ksym.function(
        [x], [ksym.sort(x), ksym.cumsum(x, 0)], updates=[v.assign_add(1.0)], mode=sys.argv[1]
    )
    for v in variables
)
stream = ksym.RandomStream(3)
many, few = (
    ksym.function([], ksym.random_truncated_normal((size,), stream=stream)) for size in (2000, 20)
)
value = np.ones(60, "float32")
f(value), g(value), many(), few()
counts = {"read": 0, "called": 0, "drawn": 0, "made": 0, "refused": 0}
tasks = {
    "read": variables[1].get_value,
    "called": lambda: g(value),
    "drawn": few,
    "made": lambda: ksym.function([], sum(variables)),
}

def work():
    while True:
        g(value)

def handler(*_):
    for name, task in tasks.items():
        try:
            task()
            counts[name] += 1
        except ksym.errors.GraphError:
            counts["refused"] += 1
    signal.setitimer(signal.ITIMER_REAL, 1e-3)

threading.Thread(target=work, daemon=True).start()
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 1e-3)
begin = time.monotonic()
while time.monotonic() < begin + 2 or sum(counts.values()) <= 100:  # on a busy machine, longer
    f(value), many()
signal.setitimer(signal.ITIMER_REAL, 0)
print("done", flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("mode", ["native", "interpret"])
def test_a_signal_handler_never_waits_for_what_waits_for_its_thread(mode):
    command = [sys.executable, "-c", HANDLERS, mode]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.stdout.split() == ["done"], result.stderr
