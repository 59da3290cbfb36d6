"""Operators that communicate: on one rank here, on several in a job."""

import numpy as np
import pytest
from jobs import launch, needs_mpi, results

import ksym
from ksym.errors import ArgumentError, DTypeError, GraphError


@needs_mpi
@pytest.mark.parametrize("ranks", [2, 3])
def test_sums_broadcasts_and_their_gradients(tmp_path, ranks):
    run = launch("operators.py", ranks=ranks, folder=tmp_path)
    assert run.returncode == 0, run.stderr
    for rank in range(ranks):
        found = results(tmp_path, rank, ranks)
        assert found["messages"] == [2, 1]
        rows = np.arange(7)[rank : 7 // ranks * ranks : ranks]
        assert found["shard"] == [rows.tolist(), (rows * 2).tolist()]


def test_without_a_launcher_there_is_one_rank():
    assert (ksym.rank(), ksym.size()) == (0, 1)
    ksym.data_parallel()
    x = ksym.placeholder((2,))
    a, b = ksym.function([x], list(ksym.all_reduce([x, x * 2.0])))([1, 2])
    assert (a.tolist(), b.tolist()) == ([1, 2], [2, 4])
    assert len(ksym.all_reduce([x])) == 1
    assert ksym.all_reduce([1.0, 2.0]).shape == (2,)  # a list of numbers is an array


def test_a_communication_is_kept_where_nothing_reads_it():
    x = ksym.placeholder((2,))
    y = ksym.where(ksym.as_tensor(False), ksym.all_reduce(x), x)
    f = ksym.function([x], y, flags="check=1")
    f([1, 2])
    assert [n for n in f.last_graph() if n.operator is ksym.all_reduce]


@pytest.mark.parametrize(
    "make",
    [
        lambda x: ksym.cond(x[0] > 0, lambda: ksym.all_reduce(x), lambda: x),
        lambda x: ksym.scan(lambda e: (ksym.all_reduce(e), []), sequences=x),
        lambda x: ksym.while_loop(lambda a: a[0] < 3, lambda a: ksym.broadcast(a) + 1.0, x),
        lambda x: ksym.map_fn(lambda e: ksym.all_reduce(e), x),
    ],
)
def test_loops_and_branches_have_none_inside(make):
    with pytest.raises(GraphError, match="a rank that takes another branch"):
        make(ksym.placeholder((2,)))


def test_what_cannot_be_communicated():
    x = ksym.placeholder((2,), "bool")
    for operator in (ksym.all_reduce, ksym.broadcast):
        with pytest.raises(DTypeError, match="cast them"):
            operator(x)
    with pytest.raises(ArgumentError, match="rank 1 does not exist: there are 1"):
        ksym.broadcast(1.0, root=1)
    with pytest.raises(ArgumentError, match="not the number of a rank"):
        ksym.broadcast(1.0, root="first")
    with pytest.raises(ArgumentError, match="neither"):
        ksym.data_parallel(batches="all")
    with pytest.raises(ksym.InputError, match="have \\[2, 3\\] rows"):
        ksym.shard(np.zeros(2), np.zeros(3))
