"""``python -m ksym.launch -n 4 train.py``: run a script as several processes that train together.

mpiexec starts them, on this machine or on those of a file; this program starts the servers that
MXNet's KVStore needs, if that is to add up, and watches all of them.  It ends all
of them, with a message that names a rank, when one has died, has failed, is frozen, or waits for
what the others will never do.  See docs/parallel.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ksym.parallel.hosts import HostsError, check_hosts, read_hosts
from ksym.parallel.services import Services, check_port, free_port
from ksym.parallel.watch import Watch
from ksym.runtime.kvstore import address_towards

MPIEXEC = "KSYM_MPIEXEC"
"""The environment variable that names the mpiexec to use."""


ENGINES = {
    "mpi": "MPI adds the gradients up",
    "nccl": "NCCL does, between GPUs",
    "dist_sync": "parameter servers of MXNet's KVStore do",
    "dist_async": "they pass changes of weights on, and no rank waits for another one",
}
"""The names of the engines, and what each does."""

SERVERS = ("dist_sync", "dist_async")
"""The engines that have parameter servers."""


class LaunchError(Exception):
    """A job that cannot be started."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a job, and return its exit status."""
    options = _parsed(arguments)
    try:
        command, environment, services = _prepared(options)
    except (LaunchError, HostsError) as error:
        print(f"ksym.launch: {error}", file=sys.stderr)
        return 2
    return Watch(command, environment, options.ranks, options.timeout, services).run()


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
    parser.add_argument(
        "--engine",
        choices=list(ENGINES),
        default="mpi",
        help="; ".join(f"{name}: {what}" for name, what in ENGINES.items()) + " (mpi)",
    )
    parser.add_argument("--servers", type=int, help="how many parameter servers (1)")
    parser.add_argument("--port", type=int, help="the port of their scheduler (a free one)")
    parser.add_argument(
        "--compression",
        metavar="2bit[:THRESHOLD]",
        help="send the servers two bits for each element of a gradient (threshold 0.5)",
    )
    parser.add_argument("script", help="the script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")
    return parser.parse_args(arguments)


def _check_engine(options: argparse.Namespace) -> None:
    """Check the options of parameter servers.

    Raises:
        LaunchError: They have no meaning, or are for another engine.
    """
    given = [name for name in ("servers", "port", "compression") if vars(options)[name] is not None]
    if given and options.engine not in SERVERS:
        raise LaunchError(
            f"--{given[0]} is for parameter servers, which --engine {options.engine} has not\n"
            f"  to do: give --engine {' or --engine '.join(SERVERS)}"
        )
    if options.servers is not None and options.servers < 1:
        raise LaunchError(f"--servers {options.servers}: give at least 1")
    if options.port is not None and not 0 < options.port < 1 << 16:
        raise LaunchError(f"--port {options.port}: give one from 1 to 65535")
    _threshold(options.compression)


def _prepared(options: argparse.Namespace) -> tuple[list[str], dict[str, str], Services]:
    """Return the command line of mpiexec, its environment, and what runs beside the ranks.

    Raises:
        LaunchError: Something is missing.
        HostsError: A machine is not there.
    """
    if options.ranks < 1:
        raise LaunchError(f"-n {options.ranks}: give at least 1")
    if options.timeout < 2.0:
        raise LaunchError(f"--timeout {options.timeout:g}: give at least 2 seconds")
    _check_engine(options)
    if not Path(options.script).is_file():
        raise LaunchError(f"there is no script {options.script!r}")
    if importlib.util.find_spec("mpi4py") is None:
        raise LaunchError("mpi4py is not installed\n  to do: pip install 'ksym[mpi]'")
    mpiexec = _mpiexec()
    is_openmpi = "Open MPI" in _version(mpiexec) or "OpenRTE" in _version(mpiexec)
    environment = dict(os.environ)
    command = [mpiexec, "-n", str(options.ranks)]
    here = options.ranks
    hosts: dict[str, int] = {}
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
    job: dict[str, Any] = {"size": options.ranks, "engine": options.engine}
    roles = {}
    if options.engine in SERVERS:
        job["kvstore"] = _kvstore(options, hosts)
        roles["the scheduler of the KVStore"] = "scheduler"
        for number in range(job["kvstore"]["servers"]):
            roles[f"server {number} of the KVStore"] = "server"
    environment["KSYM_JOB"] = json.dumps(job)
    if is_openmpi and os.geteuid() == 0:
        for name in ("OMPI", "PRTE"):
            environment[f"{name}_ALLOW_RUN_AS_ROOT"] = "1"
            environment[f"{name}_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
    command += [sys.executable, "-m", "ksym.parallel.worker", options.script, *options.arguments]
    return command, environment, Services(job, roles, environment, options.timeout)


def _kvstore(options: argparse.Namespace, hosts: Mapping[str, int]) -> dict[str, Any]:
    """Return what all processes are told about the KVStore.

    Raises:
        LaunchError: The port is in use.
    """
    remote = [name for name in hosts if name not in ("localhost", socket.gethostname())]
    try:
        address = address_towards(remote[0]) if remote else "127.0.0.1"
    except OSError as error:
        raise LaunchError(f"there is no way to {remote[0]} by IPv4: {error}") from None
    try:
        if options.port is None:
            port = free_port(address)
        else:
            port = options.port
            check_port(address, port)
    except OSError as error:
        raise LaunchError(
            f"the KVStore's scheduler cannot listen at {address}:{options.port}: {error}\n"
            "  to do: give another --port, or none for a free one"
        ) from None
    return {
        "address": address,
        "port": port,
        "servers": 1 if options.servers is None else options.servers,
        "threshold": _threshold(options.compression),
    }


def _threshold(compression: str | None) -> float | None:
    """Return the threshold of a compression, as ``--compression`` names it.

    Raises:
        LaunchError: It names none.
    """
    if compression is None:
        return None
    kind, _, text = compression.partition(":")
    try:
        threshold = float(text or 0.5)
    except ValueError:
        threshold = 0.0
    if kind != "2bit" or not 0.0 < threshold < float("inf"):
        raise LaunchError(
            f"--compression {compression}: MXNet has one kind, give 2bit or 2bit:0.5, where 0.5 is "
            "a positive threshold"
        )
    return threshold


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
