"""``python -m ksym.launch -n 4 train.py``: run a script as several processes that train together.

mpiexec starts them, on this machine or on those of a file; this program watches them.  It ends all
of them, with a message that names a rank, when one has died, has failed, is frozen, or waits for
what the others will never do.  See docs/parallel.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ksym.parallel.hosts import HostsError, check_hosts, read_hosts
from ksym.parallel.watch import Watch

MPIEXEC = "KSYM_MPIEXEC"
"""The environment variable that names the mpiexec to use."""


class LaunchError(Exception):
    """A job that cannot be started."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a job, and return its exit status."""
    options = _parsed(arguments)
    try:
        command, environment = _prepared(options)
    except (LaunchError, HostsError) as error:
        print(f"ksym.launch: {error}", file=sys.stderr)
        return 2
    return Watch(command, environment, options.ranks, options.timeout).run()


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ksym.launch",
        description="Run a Python script as several processes that train together.",
    )
    parser.add_argument("-n", type=int, required=True, dest="ranks", help="how many processes")
    parser.add_argument(
        "--hosts", help="a file with a machine in each line: NAME, or NAME:PROCESSES"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        help="seconds after which a process that gives no sign of life is taken for frozen (30)",
    )
    parser.add_argument("script", help="the script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")
    return parser.parse_args(arguments)


def _prepared(options: argparse.Namespace) -> tuple[list[str], dict[str, str]]:
    """Return the command line of mpiexec, and its environment.

    Raises:
        LaunchError: Something is missing.
        HostsError: A machine is not there.
    """
    if options.ranks < 1:
        raise LaunchError(f"-n {options.ranks}: give at least 1")
    if options.timeout < 2.0:
        raise LaunchError(f"--timeout {options.timeout:g}: give at least 2 seconds")
    if not Path(options.script).is_file():
        raise LaunchError(f"there is no script {options.script!r}")
    if importlib.util.find_spec("mpi4py") is None:
        raise LaunchError("mpi4py is not installed\n  to do: pip install 'ksym[mpi]'")
    mpiexec = _mpiexec()
    is_openmpi = "Open MPI" in _version(mpiexec) or "OpenRTE" in _version(mpiexec)
    environment = dict(os.environ)
    command = [mpiexec, "-n", str(options.ranks)]
    here = options.ranks
    if options.hosts is not None:
        hosts = read_hosts(options.hosts, options.ranks)
        check_hosts(hosts)
        here = max(hosts.values())
        command += ["--host" if is_openmpi else "-hosts", _listed(hosts)]
        # No password can be asked for.
        environment["HYDRA_LAUNCHER_EXTRA_ARGS"] = "-o BatchMode=yes -o ConnectTimeout=10"
    elif is_openmpi:
        command += ["--oversubscribe"]
    cores = len(os.sched_getaffinity(0))
    environment.setdefault("OMP_NUM_THREADS", str(max(1, cores // here)))
    environment["KSYM_JOB"] = json.dumps({"size": options.ranks})
    if is_openmpi and os.geteuid() == 0:
        for name in ("OMPI", "PRTE"):
            environment[f"{name}_ALLOW_RUN_AS_ROOT"] = "1"
            environment[f"{name}_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
    command += [sys.executable, "-m", "ksym.parallel.worker", options.script, *options.arguments]
    return command, environment


def _listed(hosts: dict[str, int]) -> str:
    return ",".join(f"{name}:{count}" for name, count in hosts.items())


def _mpiexec() -> str:
    """Return the mpiexec to use: one that is named, of this environment, or of the system.

    Raises:
        LaunchError: There is none.
    """
    named = os.environ.get(MPIEXEC)
    if named:
        if shutil.which(named) is None:
            raise LaunchError(f"{MPIEXEC} is {named!r}, which is no program")
        return named
    own = Path(sys.executable).parent / "mpiexec"
    found = str(own) if own.exists() else shutil.which("mpiexec")
    if found is None:
        raise LaunchError(
            "there is no MPI: mpiexec is not found\n  to do: pip install 'ksym[mpi]', which has "
            f"MPICH; or install an MPI, and name its mpiexec by {MPIEXEC} if it is not on the "
            "search path"
        )
    return found


def _version(mpiexec: str) -> str:
    try:
        done = subprocess.run([mpiexec, "--version"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LaunchError(f"{mpiexec} does not run: {error}") from None
    return done.stdout.decode(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
