"""The machines of a job: a file that lists them, and whether they can be reached."""

from __future__ import annotations

import re
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SSH = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]


class HostsError(Exception):
    """A file of machines that has no meaning, or a machine that is not reached."""


def read_hosts(path: str, ranks: int) -> dict[str, int]:
    """Return the machines that a file lists, and how many ranks each gets.

    Args:
        path: A file with a machine in each line, ``name`` or ``name:processes``; what follows a #
            is a comment.
        ranks: The number of ranks, which have to fit; machines that get none are left out.

    Raises:
        HostsError: The file cannot be read, has a line that is none of these, or too few machines.
    """
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise HostsError(f"the file of machines cannot be read: {error}") from None
    places: dict[str, int] = {}
    unnumbered: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        match = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?::([1-9][0-9]*))?", entry)
        if match is None:
            raise HostsError(
                f"{path}:{number}: {entry!r} is no machine\n"
                "  to do: write its name, or name:number of processes"
            )
        if match[1] in places:
            raise HostsError(f"{path}:{number}: {match[1]} is listed twice")
        places[match[1]] = int(match[2] or 0)
        unnumbered += [] if match[2] else [match[1]]
    if not places:
        raise HostsError(f"{path} lists no machine")
    # Machines without a number share what the others leave, evenly.
    left = max(0, ranks - sum(places.values()))
    for position, name in enumerate(unnumbered):
        share, extra = divmod(left, len(unnumbered))
        places[name] = share + (position < extra)
    used: dict[str, int] = {}
    for name, count in places.items():
        taken = min(count, ranks - sum(used.values()))
        if taken > 0:
            used[name] = taken
    if sum(used.values()) < ranks:
        raise HostsError(
            f"{path} has places for {sum(used.values())} processes, -n asks for {ranks}\n"
            "  to do: list more machines, or raise their numbers"
        )
    return used


def check_hosts(hosts: dict[str, int]) -> None:
    """Check that all machines are reached by ssh without a password.

    Raises:
        HostsError: Some are not; the message names each, and the reason.
    """
    remote = [name for name in hosts if name not in ("localhost", socket.gethostname())]
    with ThreadPoolExecutor(max(1, len(remote))) as pool:
        problems = [p for p in pool.map(_problem, remote) if p]
    if problems:
        raise HostsError(
            "not all machines can be reached:\n  "
            + "\n  ".join(problems)
            + "\n  to do: `ssh NAME true` has to work without a password"
        )


def _problem(host: str) -> str:
    try:
        done = subprocess.run(
            [*SSH, host, "true"],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=20,
            check=False,
        )
    except FileNotFoundError:
        return f"{host}: there is no program ssh"
    except subprocess.TimeoutExpired:
        return f"{host}: no answer within 20 s"
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return f"{host}: {lines[-1] if lines else 'ssh failed'}" if done.returncode else ""
