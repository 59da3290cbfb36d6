"""Watching a job: its end within a stated time, whatever happens to a rank.

The launcher reads the reports of all ranks.  It ends the job when

- a rank has failed, and has said why; or has died, and said nothing;
- a rank has been silent for `timeout` seconds: it is frozen, or its machine is gone;
- all ranks wait, for different things: none will ever get what it waits for;
- a server or the scheduler of the KVStore has ended, or is silent.

A rank that is busy is not frozen: a thread of it reports.  All is over `GRACE` seconds later.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from ksym.parallel.engine import SAME, ranks_named
from ksym.parallel.processes import die_with_parent, is_running
from ksym.parallel.reports import STARTING, Reader
from ksym.parallel.services import Services

GRACE = 3.0
"""The seconds that mpiexec has for ending all ranks, before they are killed one by one."""

DEADLOCK = 3.0
"""The seconds for which ranks may wait for different things: reports come every half second."""

NOTE = 60.0
"""The seconds after which a rank that keeps others waiting is named."""


@dataclass
class _Seen:
    """The last that is known of a rank."""

    heard: float
    pid: int = 0
    host: str = ""
    start: int = 0
    is_here: bool = False
    last: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, Any] | None = None
    ended: bool = False

    def name(self) -> str:
        """Return the process and the machine."""
        return f"(process {self.pid} on {self.host})" if self.pid else ""


class Watch:
    """A job under watch.

    Args:
        command: The command line of mpiexec.
        environment: Its environment.
        ranks: How many ranks there are.
        timeout: After how many seconds of silence a rank is taken for frozen.
        services: The processes that are no ranks.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: dict[str, str],
        ranks: int,
        timeout: float,
        services: Services,
    ):
        self._command, self._environment, self._timeout = command, environment, timeout
        now = time.monotonic()
        self._ranks = [_Seen(now) for _ in range(ranks)]
        self._host = socket.gethostname()
        self._services = services
        self._problem = ""
        self._problem_of_services = ""
        self._signal = 0
        self._noted = now
        self._reader = Reader()
        self._first_dead: int | None = None
        self._said = b""

    def run(self) -> int:
        """Run the job to its end, and return its exit status."""
        wake, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._interrupted)
        self._services.start()
        with subprocess.Popen(
            list(self._command),
            env=self._environment,
            stderr=subprocess.PIPE,
            # Ctrl-C is for the launcher, which sees to it that all end.
            start_new_session=True,
            preexec_fn=functools.partial(die_with_parent, signal.SIGTERM),
        ) as process:
            assert process.stderr is not None
            try:
                self._watch(process, process.stderr.fileno(), wake)
            finally:
                self._end(process, process.stderr.fileno())
        return self._conclude(process.returncode)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        self._signal = number

    def _watch(self, process: subprocess.Popen[bytes], errors: int, wake: int) -> None:
        """Read reports until the job has ended, or has to be."""
        while not (self._signal or self._problem or self._problem_of_services):
            talking = self._services.descriptors()
            ready, _, _ = select.select([errors, wake, *talking], [], [], 0.5)
            for descriptor in talking:
                if descriptor in ready:
                    self._services.read(descriptor)
            now = time.monotonic()
            self._problem_of_services = self._services.problem(now)
            if errors in ready and not self._read(errors):
                return
            self._judge(now)

    def _read(self, errors: int) -> bool:
        """Hand on what ranks write to their standard errors, and take in their reports."""
        data = os.read(errors, 1 << 16)
        text, reports = self._reader.read(data)
        if text:
            self._said = (self._said + text)[-(1 << 16) :]
            with contextlib.suppress(OSError):
                os.write(2, text)
        for report in reports:
            self._take(report)
        return bool(data)

    def _take(self, report: dict[str, Any]) -> None:
        rank = report.get("rank")
        if not isinstance(rank, int) or not 0 <= rank < len(self._ranks):
            return
        seen = self._ranks[rank]
        seen.heard = time.monotonic()
        kind = report.get("kind")
        if kind == "here":
            seen.is_here = True
            seen.pid, seen.host, seen.start = report["pid"], report["host"], report["start"]
        elif kind == "alive":
            seen.last = report
        elif kind == "failed":
            seen.failed = report
        elif kind == "ended":
            seen.ended = True
        elif kind == "gone" and self._first_dead is None:
            # The first that did so without a word is to blame.
            self._first_dead = None if seen.failed or seen.ended else rank

    # --- judging --------------------------------------------------------------------------------

    def _judge(self, now: float) -> None:
        """Note the problem of a job that will not go on."""
        silent = [
            rank
            for rank, seen in enumerate(self._ranks)
            if not seen.ended and now - seen.heard > self._limit(seen)
        ]
        failed = any(seen.failed for seen in self._ranks)
        if silent and not failed and self._first_dead is None:
            lines = [
                f"rank {rank} {self._ranks[rank].name()} has given no sign of life for "
                f"{self._limit(self._ranks[rank]):g} s: "
                + (
                    "it is frozen, or its machine is gone"
                    if self._ranks[rank].is_here
                    else "it has not started"
                )
                for rank in silent
            ]
            self._problem = "\n".join(lines)
        elif not failed:
            self._judge_waiting(now)

    def _limit(self, seen: _Seen) -> float:
        """Return after how many seconds of silence a rank is taken for frozen."""
        return self._timeout if seen.is_here else max(self._timeout, STARTING)

    def _judge_waiting(self, now: float) -> None:
        """Note that all ranks wait for different things; name one that others wait for."""
        if not all(seen.last for seen in self._ranks):
            return
        waiting = {rank: seen.last for rank, seen in enumerate(self._ranks) if "what" in seen.last}
        if not waiting or any(seen.ended for seen in self._ranks):
            return
        longest = max(report["seconds"] for report in waiting.values())
        busy = [rank for rank in range(len(self._ranks)) if rank not in waiting]
        if busy:
            if longest > NOTE and now - self._noted > NOTE:
                self._noted = now
                where = ", ".join(
                    f"rank {rank} at {self._ranks[rank].last.get('line')}" for rank in busy
                )
                say(f"{ranks_named(list(waiting))} waited {longest:.0f} s, still busy: {where}")
            return
        kinds = {(report["number"], report["what"]) for report in waiting.values()}
        if len(kinds) > 1 and min(report["seconds"] for report in waiting.values()) > DEADLOCK:
            lines = ["the ranks wait for different things, so none goes on:"]
            lines += [
                f"  rank {rank} at {report.get('line') or 'its end'}: {report['what']}, its "
                f"communication number {report['number']}"
                for rank, report in waiting.items()
            ]
            lines.append(f"  to do: {SAME}")
            self._problem = "\n".join(lines)

    # --- the end --------------------------------------------------------------------------------

    def _end(self, process: subprocess.Popen[bytes], errors: int) -> None:
        """End what is left of the job: by mpiexec, and what that leaves one by one."""
        stopped = bool(self._problem or self._signal or self._problem_of_services)
        if stopped:
            with contextlib.suppress(OSError):
                process.terminate()
        limit = time.monotonic() + GRACE
        while time.monotonic() < limit:
            ready, _, _ = select.select([errors], [], [], 0.1)
            if ready and not self._read(errors):
                break
            if process.poll() is not None and not ready:
                break
        here = [(s.pid, s.start) for s in self._ranks if s.pid and s.host == self._host]
        for pid, start in here:
            if is_running(pid, start):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # A process that is killed ends when the kernel has taken back its memory.
        limit = time.monotonic() + GRACE
        while any(is_running(*each) for each in here) and time.monotonic() < limit:
            time.sleep(0.01)
        self._services.end(0.0 if stopped or process.returncode else GRACE)

    def _conclude(self, status: int) -> int:
        """Say how the job ended, and return its exit status."""
        failed = {rank: seen.failed for rank, seen in enumerate(self._ranks) if seen.failed}
        if self._signal:
            say(f"interrupted by {signal.Signals(self._signal).name}; all ranks were ended")
            return 128 + self._signal
        if self._problem_of_services:
            say(f"{self._problem_of_services}\nall ranks were ended")
            return 1
        if failed:
            texts: dict[str, list[int]] = {}
            for rank, report in failed.items():
                texts.setdefault(report["text"], []).append(rank)
            for text, ranks in texts.items():
                error = failed[ranks[0]]["error"]
                indented = "\n".join(f"  {line}" for line in text.splitlines())
                names = "" if len(ranks) > 1 else f" {self._ranks[ranks[0]].name()}"
                say(f"{ranks_named(ranks)}{names} failed, {error}:\n{indented}")
            say("all ranks were ended")
            return status if status > 0 else 1
        if self._problem:
            say(f"{self._problem}\nall ranks were ended")
            return 1
        if status:
            dead = self._dead()
            if dead is None:
                say(f"mpiexec ended with status {status}; all ranks were ended")
            else:
                seen = self._ranks[dead]
                where = seen.last.get("line")
                say(
                    f"rank {dead} {seen.name()} died without a word"
                    + (f", at {where} or after it" if where else "")
                    + ": it was killed, or crashed; all ranks were ended"
                )
            return status if status > 0 else 128 - status
        return 0

    def _dead(self) -> int | None:
        """Return the rank that has died, and not been ended because another one had.

        Where the process that waits for it was killed as well, Open MPI names one.
        """
        match = re.search(rb"noticed that process rank (\d+) ", self._said)
        return int(match[1]) if match is not None else self._first_dead


def say(text: str) -> None:
    """Write a message of the launcher."""
    print(f"ksym.launch: {text}", file=sys.stderr, flush=True)
