"""Processes that a job consists of, as the kernel sees them."""

from __future__ import annotations

import ctypes
import signal
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when the one that started it ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, number)


def started(pid: int) -> int:
    """Return when a process started, which tells it from another with its number; -1 for none."""
    return _state(pid)[1]


def is_running(pid: int, start: int) -> bool:
    """Return whether the process that started then still runs: is there, and no zombie."""
    state, since = _state(pid)
    return state not in ("", "Z") and since == start


def _state(pid: int) -> tuple[str, int]:
    """Return the state of a process, a letter, and when it started; -1 if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return fields[0], int(fields[19])
    except (OSError, IndexError, ValueError):
        return "", -1
