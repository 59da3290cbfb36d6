"""Functions of many shapes: what is kept, and what is bound again."""

import gc
import weakref

import numpy as np
import pytest

import ksym
from ksym.runtime import reclaim, specializations
from ksym.runtime.native import RECURRENT_SHARE


@pytest.fixture
def f():
    x = ksym.placeholder((None, 4))
    total = ksym.Variable(np.zeros(4, "float32"))
    return ksym.function([x], ksym.tanh(x) * 2.0, updates=[total.assign_add(ksym.sum(x, 0))])


def batch(rows):
    return np.linspace(-1.0, 1.0, rows * 4, dtype="float32").reshape(rows, 4)


def bound(f):
    return [entry.prepared is not None for entry in f._programs._entries.values()]


def test_those_used_least_recently_lose_their_arrays_and_are_bound_again(f, monkeypatch):
    monkeypatch.setattr(specializations, "BOUND_BYTES", 0)
    monkeypatch.setattr(specializations, "LEAST_BOUND", 2)
    expected = {rows: f(batch(rows)) for rows in (1, 2, 3, 4)}
    assert bound(f) == [False, False, True, True]
    for rows in (1, 4, 1, 2, 3):
        np.testing.assert_array_equal(f(batch(rows)), expected[rows])
    assert sum(bound(f)) == 2
    assert f.cache_info() == (5, 4, 4, 256)


def test_they_stay_bound_while_they_are_small(f):
    for rows in range(1, 30):
        f(batch(rows))
    assert all(bound(f))


def test_arrays_are_freed_at_once(f, monkeypatch):
    """They are in no cycle, which would wait for the collector."""
    monkeypatch.setattr(specializations, "BOUND_BYTES", 0)
    monkeypatch.setattr(specializations, "LEAST_BOUND", 1)
    f(batch(1))
    program = weakref.ref(f._programs.last[1])
    gc.collect()
    gc.disable()
    try:
        f(batch(2))
        assert program() is None
    finally:
        gc.enable()


def test_plans_of_large_graphs_make_room(f, monkeypatch):
    monkeypatch.setattr(specializations, "NODES", 0)
    monkeypatch.setattr(specializations, "LEAST_PLANS", 3)
    for rows in (1, 2, 3, 4, 1):
        f(batch(rows))
    assert f.cache_info() == (0, 5, 3, 256)


def test_what_is_bound_again_updates_the_same_variables(monkeypatch):
    monkeypatch.setattr(specializations, "BOUND_BYTES", 0)
    monkeypatch.setattr(specializations, "LEAST_BOUND", 1)
    x, count = ksym.placeholder((None,)), ksym.Variable(0)
    f = ksym.function([x], ksym.sum(x), updates=[count.assign_add(1)])
    for rows in (1, 2, 1, 2, 3):
        assert float(f(np.ones(rows))) == rows
    assert int(count.get_value()) == 5


@pytest.mark.parametrize("flags", ["check=1", "nan=1"])
def test_checked_and_guarded_functions_are_bound_again(flags, monkeypatch):
    monkeypatch.setattr(specializations, "BOUND_BYTES", 0)
    monkeypatch.setattr(specializations, "LEAST_BOUND", 1)
    x = ksym.placeholder((None,))
    f = ksym.function([x], ksym.exp(x), flags=flags)
    for rows in (1, 2, 1):
        np.testing.assert_allclose(f(np.ones(rows)), np.exp(np.ones(rows)), rtol=1e-6)
    if flags == "nan=1":
        with pytest.raises(ksym.errors.NonFiniteError):
            f(np.full(2, 1000.0))


@pytest.mark.parametrize("wrong", ["a", None, 1.5, True])
def test_a_limit_that_is_no_integer_is_refused(wrong):
    x = ksym.placeholder((None,))
    with pytest.raises(ksym.ArgumentError, match=r"specializations is .*no integer"):
        ksym.function(x, x, specializations=wrong)


def test_what_follows_a_dynamic_result_is_kept_for_as_many_sizes():
    x = ksym.placeholder((40,))
    f = ksym.function([x], ksym.sum(ksym.boolean_mask(x, x > 0.0) * 2.0))
    for count in range(1, 30):
        assert f(np.where(np.arange(40) < count, 1.0, -1.0)) == 2 * count
    rest = f._programs.last[1]._later
    assert (len(rest), rest.limit) == (29, specializations.SPECIALIZATIONS)
    own = ksym.function([x], ksym.boolean_mask(x, x > 0.0), specializations=256)
    own(np.ones(40))
    assert own._programs.last[1]._later.limit == 256


def test_what_follows_a_dynamic_result_is_bound_again(monkeypatch):
    monkeypatch.setattr(specializations, "BOUND_BYTES", 0)
    monkeypatch.setattr(specializations, "LEAST_BOUND", 1)
    x, total = ksym.placeholder((None,)), ksym.Variable(0.0)
    positive = ksym.sum(ksym.boolean_mask(x, x > 0.0))
    f = ksym.function([x], positive * 2.0, updates=[total.assign_add(positive)])
    for count in (1, 2, 1, 3, 2):
        assert f(np.where(np.arange(8) < count, 1.0, -1.0)) == 2 * count
    assert float(total.get_value()) == 9


def test_the_arrays_of_what_follows_a_dynamic_result_count():
    x = ksym.placeholder((None,))
    f = ksym.function([x], ksym.tanh(ksym.boolean_mask(x, x > 0.0)))
    f(np.ones(8))
    before = f._programs.nbytes
    f(np.concatenate([np.ones(7), [-1.0]]))
    assert f._programs.nbytes > before


def test_a_recurrent_network_counts_what_its_kernel_keeps():
    x, state = ksym.placeholder((None, 4, 8)), ksym.zeros((4, 16))
    kernel, recurrent = (ksym.Variable(np.full((n, 64), 0.1, "float32")) for n in (8, 16))
    found, _, _ = ksym.lstm(x, state, state, kernel, recurrent)
    f = ksym.function([x], ksym.gradients(ksym.sum(found), kernel))
    f(np.ones((500, 4, 8)))
    result = 500 * 4 * 16 * 4
    assert f._programs.nbytes > RECURRENT_SHARE * result


def test_the_collector_runs_after_so_many_nodes(monkeypatch):
    ran = []
    monkeypatch.setattr(reclaim.gc, "collect", lambda: ran.append(None))
    monkeypatch.setitem(reclaim._waiting, "nodes", 0)
    monkeypatch.setattr(reclaim, "NODES", 100)
    for nodes in (60, 39, 1, 99, 1):
        reclaim.collect(nodes)
    assert len(ran) == 2


def test_memory_is_given_back_after_so_many_bytes(monkeypatch):
    trimmed = []
    monkeypatch.setattr(reclaim, "_trim", lambda: trimmed.append)
    monkeypatch.setitem(reclaim._waiting, "bytes", 0)
    for nbytes in (reclaim.BYTES - 1, 1, reclaim.BYTES, 5):
        reclaim.give_back(nbytes)
    assert trimmed == [0, 0]
