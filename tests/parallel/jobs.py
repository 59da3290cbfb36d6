"""Runs programs as jobs of several ranks, as a user does."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "programs"

needs_mpi = pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None, reason="mpi4py is not installed: ksym[mpi]"
)


def environment(**more):
    return {**os.environ, "KERAS_BACKEND": "ksym.backend", "OMP_NUM_THREADS": "1", **more}


def launch(program, *arguments, ranks=2, options=(), folder=None, **more):
    """Run a program on some ranks; the limit of time is for what hangs, against which it tests."""
    command = [sys.executable, "-m", "ksym.launch", "-n", str(ranks), *options]
    return subprocess.run(
        [*command, str(PROGRAMS / program), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(**more),
        timeout=300,
    )


def alone(program, *arguments, folder=None):
    """Run a program without the launcher."""
    run = subprocess.run(
        [sys.executable, str(PROGRAMS / program), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(),
        timeout=300,
    )
    assert run.returncode == 0, run.stderr


def results(folder, rank, size):
    """The results that a program has written on a rank."""
    return json.loads((Path(folder) / f"{rank}-of-{size}.json").read_text())


def is_running(pid):
    """Whether a process runs; those that nobody has waited for do not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
