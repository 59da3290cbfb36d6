"""Parameter servers: what they compute, and how a job ends when one of them does."""

import itertools
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import PROGRAMS, environment, is_running, launch, needs_mpi, results

from ksym.launch import main
from ksym.parallel.kvstore import Parameters

SYNC = ["--engine", "dist_sync"]


@needs_mpi
def test_sums_of_servers(tmp_path):
    # ps-lite would listen at the port that PORT names, all processes at the same one.
    run = launch("operators.py", options=[*SYNC, "--servers", "2"], folder=tmp_path, PORT="9092")
    assert run.returncode == 0, run.stderr
    assert results(tmp_path, 0, 2)["messages"] == results(tmp_path, 1, 2)["messages"] == [2, 1]


@needs_mpi
def test_training_without_waiting(tmp_path):
    options = ["--engine", "dist_async", "--servers", "2"]
    run = launch("served.py", options=options, folder=tmp_path)
    assert run.returncode == 0, run.stderr
    first, second = (results(tmp_path, rank, 2) for rank in range(2))
    assert first == second
    assert first["engine"] == "dist_async"
    assert first["losses"][-1] < first["losses"][0] / 2
    assert first["rate"] < 0.02
    assert first["exact"] == pytest.approx([0.2, 6.0])
    assert first["compressed"] == first["exact"]


class Served:
    """A slot as of a rank of a server in this process, which keeps sums by their numbers."""

    def __init__(self, sums, number, value):
        self._sums, self._number = sums, number
        self._sums.setdefault(number, np.zeros_like(value))
        self.view = np.zeros_like(value)

    def exchange(self):
        self._sums[self._number] = self._sums[self._number] + self.view
        self.pull()

    def pull(self):
        self.view[...] = self._sums[self._number]


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(-9, 9)), max_size=20))
def test_each_change_comes_once_to_each_rank(steps):
    # Two ranks train two models in turns that share their weights, of two dtypes.
    sums = {}
    weights = [[np.ones((2, 3), "float32"), np.ones(4), np.zeros((), "float32")] for _ in range(2)]
    made = []
    for rank in range(2):
        made.append([])
        for model in range(2):
            counter = itertools.count(10 * model)
            make = lambda value, counter=counter: Served(sums, next(counter), 0 * value)  # noqa: E731
            made[rank].append(Parameters(make, weights[rank]))
    for rank, model, change in steps:
        before = weights[rank]
        weights[rank] = made[rank][model].exchange(before, [w + change for w in before])
    for rank in range(2):
        for model in range(2):
            weights[rank] = made[rank][model].pull(weights[rank])
    total = sum(change for _, _, change in steps)
    for rank in range(2):
        for value, first in zip(weights[rank], (1.0, 1.0, 0.0), strict=True):
            np.testing.assert_allclose(value, first + total, rtol=1e-6)
        assert [w.dtype for w in weights[rank]] == ["float32", "float64", "float32"]


@needs_mpi
def test_gradients_of_two_bits(tmp_path):
    options = [*SYNC, "--compression", "2bit:0.25"]
    run = launch("served.py", options=options, folder=tmp_path)
    assert run.returncode == 0, run.stderr
    first, second = (results(tmp_path, rank, 2) for rank in range(2))
    assert first == second
    assert first["losses"][-1] < first["losses"][0] / 2
    assert first["exact"] == pytest.approx([0.2, 6.0])
    assert first["compressed"] == [0.0, 0.5]  # the threshold for each rank


@needs_mpi
@pytest.mark.parametrize("role", ["server", "scheduler"])
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_fault_of_a_server_ends_the_job(role, fault):
    command = [sys.executable, "-m", "ksym.launch", "-n", "2", *SYNC, "--timeout", "8"]
    with subprocess.Popen(
        [*command, str(PROGRAMS / "faults.py"), "none", "1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as job:
        try:
            pids = [int(job.stdout.readline().split()[1]) for _ in range(2)]
            served = services(job.pid)
            os.kill(served[role], fault)
            _, errors = job.communicate(timeout=60)
        finally:
            job.kill()
    name = {"server": "server 0", "scheduler": "the scheduler"}[role]
    end = {
        signal.SIGKILL: "was killed by SIGKILL",
        signal.SIGSTOP: "has given no sign of life for 8 s: it is frozen",
    }[fault]
    message = rf"ksym.launch: {name} of the KVStore \(process {served[role]} on .*\) {end}"
    assert re.search(message, errors), errors
    assert job.returncode == 1
    assert not any(map(is_running, [*pids, *served.values()]))


def services(launcher):
    """The processes of a launcher that are no ranks, by their roles."""
    found = {}
    for pid in map(int, Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()):
        role = re.search(rb"KSYM_ROLE=(\w+)", Path(f"/proc/{pid}/environ").read_bytes())
        if role is not None:
            found[role[1].decode()] = pid
    return found


@needs_mpi
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("killed", r"rank 1 \(process \d+ on .*\) died without a word"),
        ("frozen", r"rank 1 \(process \d+ on .*\) has given no sign of life for 8 s"),
        ("raising", r"rank 1 \(process \d+ on .*\) failed, ValueError:(.|\n)*bad luck"),
        ("leaving", r"rank 0 at faults.py:\d+: all_reduce of float32(.|\n)*rank 1 at its end"),
        ("others", r"rank 1 at faults.py:\d+: communications: all_reduce of float32\[4\]"),
    ],
)
def test_a_fault_of_a_rank_ends_the_job(fault, message):
    run = launch("faults.py", fault, options=[*SYNC, "--timeout", "8"])
    assert run.returncode not in (0, None)
    assert re.search(message, run.stderr), run.stderr


@needs_mpi
@pytest.mark.parametrize(
    ("engine", "mistake", "message"),
    [
        ("dist_sync", "small batch", "a batch of 1 row(s) cannot be divided among 2 ranks"),
        ("dist_sync", "models", "the ranks have different models or optimizers"),
        ("dist_async", "batches", "the ranks are given different batches"),
        ("dist_async", "one rank", "the ranks have come to different things"),
        ("dist_async", "synchronised", "sync_batch_norm=True has the ranks wait"),
    ],
)
def test_mistakes_end_the_job(tmp_path, engine, mistake, message):
    run = launch("mistakes.py", mistake, options=["--engine", engine], folder=tmp_path)
    assert run.returncode == 1
    assert message in run.stderr
    for rank in range(2):
        assert re.search(f"ranks 0, 1 failed|rank {rank} \\(.*\\) failed", run.stderr)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--servers", "2"], "--servers is for parameter servers, which --engine mpi has not"),
        (["--compression", "2bit"], "--compression is for parameter servers"),
        ([*SYNC, "--servers", "0"], "--servers 0: give at least 1"),
        ([*SYNC, "--port", "70000"], "--port 70000: give one from 1 to 65535"),
        ([*SYNC, "--compression", "1bit"], "give 2bit or 2bit:0.5"),
        ([*SYNC, "--compression", "2bit:-1"], "give 2bit or 2bit:0.5"),
        ([*SYNC, "--compression", "2bit:nan"], "give 2bit or 2bit:0.5"),
    ],
)
def test_options_that_have_no_meaning(capsys, options, message):
    assert main(["-n", "2", *options, __file__]) == 2
    assert message in capsys.readouterr().err


@needs_mpi
def test_a_port_in_use(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["-n", "2", *SYNC, "--port", str(port), __file__]) == 2
    errors = capsys.readouterr().err
    assert f"cannot listen at 127.0.0.1:{port}: [Errno 98] Address already in use" in errors
    assert "to do: give another --port" in errors
