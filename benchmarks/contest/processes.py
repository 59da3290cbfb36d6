"""Workers as seen from the command: started, told what to do, given up when they take too long."""

from __future__ import annotations

import json
import select
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contest.environments import PEERS


class PeerError(Exception):
    """A peer cannot do a workload; the message is what its cell of the table says."""


class Process:
    """A worker."""

    def __init__(
        self,
        peer: str,
        setting: str,
        command: Sequence[str],
        folder: Path,
        limit: float,
        patient: bool = False,
    ) -> None:
        """Start it.

        Args:
            peer: A name in `PEERS`.
            setting: The name of one of its settings.
            command: The module of the worker, and its arguments.
            folder: Where the environments and logs are.
            limit: The seconds a command may take.
            patient: Whether the process goes on after a command that failed.
        """
        self.peer, self.setting, self._limit = peer, setting, limit
        self._patient = patient
        logs = folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        with (logs / f"{peer}-{command[-1]}.txt").open("w") as log:
            self._process = subprocess.Popen(
                [PEERS[peer].python(folder), "-m", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=PEERS[peer].checkout,
                env=PEERS[peer].process_environment(folder, setting),
            )

    def do(self, command: str, limit: float | None = None, **options: Any) -> dict[str, float]:
        """Have a command done and return the reply.

        Raises:
            PeerError: It failed, or took longer than the limit.  The process has ended then, unless
                it is patient and has answered.
        """
        limit = limit or self._limit
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write((json.dumps({"do": command, **options}) + "\n").encode())
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._ended() from error
        ready, _, _ = select.select([self._process.stdout], [], [], limit)
        if not ready:
            self.close()
            raise PeerError(f"over {limit:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        reply = json.loads(line)
        if "error" in reply:
            if not self._patient:
                self.close()
            raise PeerError(reply["error"])
        return reply

    def _ended(self) -> PeerError:
        return PeerError(f"died with status {self._process.wait()}")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def started(
    peer: str, setting: str, workload: str, folder: Path, limit: float
) -> tuple[Process, dict]:
    """Start a worker, build its model and train some steps; return it with what it measured.

    Raises:
        PeerError: The peer cannot do it, or not within the limit.
    """
    command = ("contest.worker", PEERS[peer].driver, workload)
    process = Process(peer, setting, command, folder, limit)
    measured = {**process.do("load", max(limit, 120)), **process.do("build")}
    start = time.perf_counter()
    measured |= process.do("warm", seconds=limit / 4)
    measured["warm"] = time.perf_counter() - start
    return process, measured
