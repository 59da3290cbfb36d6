"""The launcher: what ends a job, and what is no job."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import PROGRAMS, environment, is_running, launch, needs_mpi

from ksym.launch import main
from ksym.parallel.engine import difference
from ksym.parallel.hosts import HostsError, check_hosts, read_hosts
from ksym.parallel.reports import Reader


def processes(run):
    return list(map(int, re.findall("process ([0-9]+)$", run.stdout, re.MULTILINE)))


@needs_mpi
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("killed", r"rank 1 \(process \d+ on .*\) died without a word"),
        ("quiet", r"rank 1 \(process \d+ on .*\) died without a word"),
        ("orphaned", r"rank 1 \(process \d+ on .*\) died without a word"),
        ("frozen", r"rank 1 \(process \d+ on .*\) has given no sign of life for 8 s"),
        ("raising", r"rank 1 \(process \d+ on .*\) failed, ValueError:(.|\n)*bad luck"),
        ("exiting", r"rank 1 \(process \d+ on .*\) failed, SystemExit:\n  .*ended with 7"),
        ("leaving", r"rank 0 at faults.py:\d+: all_reduce of float32(.|\n)*rank 1 at its end"),
        ("others", r"rank 1 at faults.py:\d+: communications: all_reduce of float32\[4\]"),
    ],
)
def test_a_fault_of_a_rank_ends_the_job(fault, message):
    run = launch("faults.py", fault, options=["--timeout", "8"])
    assert run.returncode not in (0, None)
    assert re.search(message, run.stderr), run.stderr
    assert len(processes(run)) == 2
    assert not any(map(is_running, processes(run)))


@needs_mpi
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_launcher_leaves_no_process(number):
    command = [sys.executable, "-m", "ksym.launch", "-n", "2", PROGRAMS / "faults.py", "sleeping"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as job:
        try:
            lines = [job.stdout.readline() for _ in range(4)]
            job.send_signal(number)
            _, errors = job.communicate(timeout=60)
        finally:
            job.kill()
    pids = [int(line.split()[1]) for line in lines if line.startswith("process")]
    assert len(pids) == 2
    for _ in range(600):
        if not any(map(is_running, pids)):
            break
        time.sleep(0.1)
    assert not any(map(is_running, pids))
    if number != signal.SIGKILL:
        assert job.returncode == 128 + number
        assert f"interrupted by {number.name}" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-n", "0", __file__], "give at least 1"),
        (["-n", "2", "missing.py"], "there is no script 'missing.py'"),
        (["-n", "2", "--timeout", "0.1", __file__], "give at least 2 seconds"),
    ],
)
def test_what_is_no_job(capsys, arguments, message):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_missing_mpi_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["-n", "2", __file__]) == 2
    assert "mpi4py is not installed\n  to do: pip install 'ksym[mpi]'" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["-n", "2", __file__]) == 2
    assert "there is no MPI: mpiexec is not found" in capsys.readouterr().err
    monkeypatch.setenv("KSYM_MPIEXEC", "no-such-program")
    assert main(["-n", "2", __file__]) == 2
    assert "'no-such-program', which is no program" in capsys.readouterr().err


@needs_mpi
def test_without_gpus_the_engine_is_refused_on_every_rank():
    run = launch("faults.py", "none", options=["--engine", "nccl"])
    assert run.returncode == 1
    assert "ranks 0, 1 failed, DeviceError" in run.stderr
    assert "rank 1: cpu" in run.stderr
    assert "use --engine mpi" in run.stderr


@needs_mpi
def test_ranks_of_other_versions_are_refused_on_all(tmp_path):
    # Python imports this at its start.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, ksym\n"
        "if '1' in (os.environ.get('PMI_RANK'), os.environ.get('OMPI_COMM_WORLD_RANK')):\n"
        "    ksym.__version__ = '0.0'\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    run = launch("faults.py", "none", PYTHONPATH=path)
    assert run.returncode == 1
    assert "ranks 0, 1 failed, ParallelError" in run.stderr
    assert re.search(r"ksym: .* on rank 0; 0\.0 on rank 1", run.stderr)


@needs_mpi
def test_an_unknown_device_is_refused_on_all():
    run = launch("faults.py", "none", KSYM_DEVICE="tpu")
    assert run.returncode == 1
    assert "ranks 0, 1 failed, DeviceError" in run.stderr
    assert "'tpu' is not a device" in run.stderr


# --- machines -----------------------------------------------------------------------------------


def hosts(tmp_path, text, ranks):
    path = tmp_path / "hosts"
    path.write_text(text)
    return read_hosts(str(path), ranks)


def test_files_of_machines(tmp_path):
    assert hosts(tmp_path, "a:2\nb:2 # the other one\n\n", 3) == {"a": 2, "b": 1}
    assert hosts(tmp_path, "a\nb\n", 5) == {"a": 3, "b": 2}
    assert hosts(tmp_path, "a:1\nb\n", 4) == {"a": 1, "b": 3}
    for text, message in [
        ("a:0\n", "'a:0' is no machine"),
        ("a b\n", "'a b' is no machine"),
        ("-oProxyCommand=x\n", "is no machine"),
        ("a\na\n", "a is listed twice"),
        ("# nothing\n", "lists no machine"),
        ("a:1\nb:1\n", "has places for 2 processes, -n asks for 3"),
    ]:
        with pytest.raises(HostsError, match=re.escape(message)):
            hosts(tmp_path, text, 3)
    with pytest.raises(HostsError, match="cannot be read"):
        read_hosts(str(tmp_path / "missing"), 1)


def program(folder, text):
    """Write a program named ssh, which stands in for the one of the system."""
    folder.mkdir()
    path = folder / "ssh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_machines_that_are_not_reached_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", program(tmp_path / "bin", "echo no route to host >&2; exit 255"))
    with pytest.raises(HostsError, match="far: no route to host\n  farther: no route"):
        check_hosts({"far": 1, "localhost": 1, "farther": 1})


@needs_mpi
def test_ranks_start_on_other_machines(tmp_path):
    # Whatever the name of the machine, its programs run here.
    run_here = (
        'while [ "${1#-}" != "$1" ]; do [ "$1" = -o ] && shift; shift; done; shift; sh -c "$*"'
    )
    path = program(tmp_path / "bin", f'echo "$*" >> {tmp_path}/asked; {run_here}')
    (tmp_path / "hosts").write_text("first\nsecond\n")
    run = launch(
        "faults.py", "raising", options=["--hosts", tmp_path / "hosts"], folder=tmp_path, PATH=path
    )
    assert "ValueError: bad luck" in run.stderr
    asked = (tmp_path / "asked").read_text()
    assert "first true" in asked
    assert "hydra_pmi_proxy" in asked


# --- parts --------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([b"text\n", b'\x1eksym {"rank": 1}\x1e\n', b"\x1f"])), st.data())
def test_reports_are_found_however_they_are_cut(pieces, data):
    whole = b"".join(pieces)
    reader, text, reports = Reader(), b"", []
    while whole:
        count = data.draw(st.integers(1, len(whole)))
        part, found = reader.read(whole[:count])
        text, reports, whole = text + part, reports + found, whole[count:]
    assert text == b"".join(piece for piece in pieces if b"ksym" not in piece)
    assert len(reports) == sum(b"ksym" in piece for piece in pieces)


def test_differences_between_ranks_are_named():
    same = {"ksym": "1.0", "Python": "3.13"}
    assert not difference([same, same])
    assert difference([same, {**same, "ksym": "2.0"}, same]) == [
        "ksym: 1.0 on ranks 0, 2; 2.0 on rank 1"
    ]
    assert difference([same, {"ksym": "1.0"}]) == ["Python: 3.13 on rank 0; nothing on rank 1"]
