"""Compiled code is shared while it is in use, and its memory is freed afterwards."""

import gc
import os
import pathlib
import threading
import weakref

import numpy as np
import pytest

import ksym
from ksym.compiler.codegen.llvm import _is_written
from ksym.errors import ExecutionError
from ksym.runtime import calls, jit

MAPS = pathlib.Path("/proc/self/maps")
VALUE = np.linspace(-2.0, 2.0, 100, dtype="float32")


def function(constant=1.1, operators=()):
    """Return a function of one kernel, whose code is another for other operators."""
    x = ksym.placeholder((100,))
    y = ksym.tanh(x * constant)
    for operator in operators:
        y = operator(y, x)
    return ksym.function([x], y)


def drawn_operators(rng, count=12):
    choices = [ksym.add, ksym.subtract, ksym.multiply, lambda y, x: x - y]
    return [choices[k] for k in rng.integers(0, len(choices), count)]


@pytest.fixture
def nothing_kept(monkeypatch):
    """Have code freed with the last function that uses it."""
    monkeypatch.setattr(jit, "_kept", jit.deque(maxlen=0))
    gc.collect()  # the functions of other tests


def loaded(monkeypatch):
    """Return a list to which each load of a kernel adds the code."""
    loads, load = [], jit.load_functions

    def counted(text, names, hastily):
        loads.append(text)
        return load(text, names, hastily)

    monkeypatch.setattr(jit, "load_functions", counted)
    return loads


def test_functions_that_differ_by_a_constant_share_code(monkeypatch):
    function(1.1)(VALUE)
    loads = loaded(monkeypatch)
    for constant in (1.3, -7.7, 1e-30, 123456.7):
        found = function(constant)(VALUE)
        np.testing.assert_allclose(found, np.tanh(VALUE * np.float32(constant)), rtol=2e-6)
    assert not loads


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_constants_that_make_better_code_are_written_into_it(dtype):
    for known in (0.0, -0.0, 1.0, -1.0, 2.0, 0.5, -0.5, 3.0, 10.0, 1.5, 2.0**-20, np.inf, np.nan):
        assert _is_written(known)
        x = ksym.placeholder((100,), dtype)
        f = ksym.function([x], [x / known + x * 1.1, ksym.maximum(x, known) - 0.3])
        with np.errstate(all="ignore"):
            value = VALUE.astype(dtype)
            expected = [
                value / np.array(known, dtype) + value * np.array(1.1, dtype),
                np.maximum(value, np.array(known, dtype)) - np.array(0.3, dtype),
            ]
        for a, b in zip(f(value), expected, strict=True):
            np.testing.assert_array_equal(a, b)
    assert not any(map(_is_written, (0.1, 1e-3, 1 / 3, 16.25, 17.0, 1e30)))


@pytest.mark.host_access
@pytest.mark.usefixtures("nothing_kept")
def test_code_is_freed_with_its_functions(rng):
    f = function(operators=drawn_operators(rng))
    g = function(operators=drawn_operators(rng))
    expected = f(VALUE), g(VALUE)
    alive = len(jit._alive)
    codes = [weakref.ref(code) for code in jit._alive.values()]
    for _ in range(20):
        function(operators=drawn_operators(rng))(VALUE)
    gc.collect()
    assert len(jit._alive) == alive
    np.testing.assert_array_equal(f(VALUE), expected[0])
    del f
    gc.collect()
    assert len(jit._alive) == alive - 1
    assert sum(code() is None for code in codes) == 1
    np.testing.assert_array_equal(g(VALUE), expected[1])
    last = function(operators=drawn_operators(rng))
    last(VALUE)
    assert not jit._dropped


@pytest.mark.usefixtures("nothing_kept")
def test_code_that_another_function_shares_stays(rng):
    operators = drawn_operators(rng)
    f, g = function(1.1, operators), function(1.3, operators)
    expected = f(VALUE), g(VALUE)
    del f
    gc.collect()
    function(operators=drawn_operators(rng))(VALUE)
    np.testing.assert_array_equal(g(VALUE), expected[1])
    assert not np.array_equal(*expected)


@pytest.mark.usefixtures("nothing_kept")
def test_code_stays_while_a_thread_is_in_it(rng):
    """Threads call functions that are dropped and made again by others."""
    made = [function(operators=drawn_operators(rng)) for _ in range(4)]
    expected = [f(VALUE) for f in made]
    wrong = []

    def call(seed):
        own = np.random.default_rng(seed)
        for _ in range(15):
            f = function(operators=drawn_operators(own))
            first = f(VALUE)
            if not np.array_equal(f(VALUE), first):
                wrong.append(seed)
            k = int(own.integers(0, len(made)))
            if not np.array_equal(made[k](VALUE), expected[k]):
                wrong.append(seed)

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_code_that_was_used_lately_is_kept(monkeypatch, rng):
    operators = drawn_operators(rng)
    function(operators=operators)(VALUE)
    gc.collect()
    loads = loaded(monkeypatch)
    function(operators=operators)(VALUE)
    assert not loads
    assert len(jit._kept) <= jit.KEPT


@pytest.mark.host_access
def test_too_many_loops_are_an_error_that_says_so(monkeypatch, rng):
    kept = function(operators=drawn_operators(rng))
    expected = kept(VALUE)
    monkeypatch.setattr(jit, "_limit", lambda: len(jit._alive))
    f = function(operators=drawn_operators(rng))
    with pytest.raises(ExecutionError, match=r"(?s)mappings.*fuse_loops"):
        f(VALUE)
    np.testing.assert_array_equal(kept(VALUE), expected)
    monkeypatch.undo()
    assert f(VALUE).shape == (100,)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes fork on POSIX systems only")
@pytest.mark.usefixtures("nothing_kept")
def test_a_forked_process_frees_its_own(rng):
    f = function(operators=drawn_operators(rng))
    expected = f(VALUE)
    child = os.fork()
    if not child:
        status = 1
        try:
            f = function(operators=drawn_operators(rng))
            f(VALUE)
            function(operators=drawn_operators(rng))(VALUE)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(f(VALUE), expected)


@pytest.mark.usefixtures("nothing_kept")
@pytest.mark.skipif(not MAPS.exists(), reason="only Linux lists the mappings of a process")
def test_pages_of_code_do_not_grow_with_the_functions_made(rng):
    def mappings():
        gc.collect()
        function(operators=drawn_operators(rng))(VALUE)  # frees what was dropped before
        return sum("r-xp 00000000 00:00 0" in line for line in MAPS.read_text().splitlines())

    for _ in range(10):
        function(operators=drawn_operators(rng))(VALUE)
    before = mappings()
    for _ in range(40):
        function(operators=drawn_operators(rng))(VALUE)
    assert mappings() <= before


@pytest.mark.host_access
def test_a_call_refers_to_the_code_of_its_inner_calls(rng):
    f = function(operators=drawn_operators(rng))
    f(VALUE)
    _, program = f._programs.last
    assert all(isinstance(p.code, calls.Code) for call in program.calls for p in call.parts())
