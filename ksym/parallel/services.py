"""The servers and the scheduler of MXNet's KVStore: as what the launcher starts and watches them.

ps-lite by itself waits for ever for one that is gone.  They are children of the launcher, so it
knows at once that one has ended, and a thread of each says twice a second that it is not frozen.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ksym.parallel.processes import die_with_parent
from ksym.parallel.reports import STARTING, Reader

ROLE = "KSYM_ROLE"
"""The environment variable that tells a process whether it is a server or the scheduler."""


@dataclass
class _Service:
    """A process that is no rank."""

    name: str
    process: subprocess.Popen[bytes]
    heard: float
    reader: Reader = field(default_factory=Reader)
    failed: str = ""
    is_here: bool = False

    @property
    def descriptor(self) -> int:
        assert self.process.stderr is not None
        return self.process.stderr.fileno()

    def ended(self) -> str:
        """Return how it has ended, if that was no regular end."""
        status = self.process.poll()
        if status is None or status == 0:
            return ""
        if status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        return f"failed: {self.failed}" if self.failed else f"ended with status {status}"


class Services:
    """The processes of a job that are no ranks.

    Args:
        job: What all processes are told about the job.
        roles: The role of each of them by its name.
        environment: Their environment.
        timeout: After how many seconds of silence one is taken for frozen.
    """

    def __init__(
        self,
        job: Mapping[str, Any],
        roles: Mapping[str, str],
        environment: Mapping[str, str],
        timeout: float,
    ):
        self._job, self._roles, self._environment = job, roles, environment
        self._timeout = timeout
        self._services: list[_Service] = []
        self._open: dict[int, _Service] = {}

    def start(self) -> None:
        """Start them."""
        for name, role in self._roles.items():
            environment = {
                # The engine that MXNet has for servers, which handle several messages at once.
                "MXNET_ENGINE_TYPE": "ThreadedEnginePerDevice",
                **self._environment,
                "KSYM_JOB": json.dumps(self._job),
                "KSYM_DEVICE": "cpu",
                ROLE: role,
            }
            process = subprocess.Popen(
                [sys.executable, "-m", "ksym.parallel.server"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
            service = _Service(name, process, time.monotonic())
            self._services.append(service)
            self._open[service.descriptor] = service

    def descriptors(self) -> Sequence[int]:
        """Return the file descriptors that can be read when one of them says something."""
        return list(self._open)

    def read(self, descriptor: int) -> None:
        """Hand on what one of them writes to its standard error, and take in its reports."""
        service = self._open[descriptor]
        data = os.read(descriptor, 1 << 16)
        if not data:
            del self._open[descriptor]
            with contextlib.suppress(subprocess.TimeoutExpired):
                service.process.wait(1.0)
        text, reports = service.reader.read(data)
        if text:
            with contextlib.suppress(OSError):
                os.write(2, text)
        for report in reports:
            service.heard, service.is_here = time.monotonic(), True
            service.failed = report.get("text", service.failed)

    def problem(self, now: float) -> str:
        """Return what is the matter with them, if anything is."""
        lines = []
        for service in self._services:
            name = f"{service.name} (process {service.process.pid} on {socket.gethostname()})"
            if service.process.poll() is not None:
                while service.descriptor in self._open:
                    self.read(service.descriptor)  # it may have said why
            ended = service.ended()
            if ended:
                lines.append(f"{name} {ended}")
                continue
            limit = self._timeout if service.is_here else max(self._timeout, STARTING)
            if service.process.returncode is None and now - service.heard > limit:
                problem = "it is frozen" if service.is_here else "it has not started"
                lines.append(f"{name} has given no sign of life for {limit:g} s: {problem}")
        return "\n".join(lines)

    def end(self, seconds: float) -> None:
        """End them: after some seconds, in which those that have nothing to do end themselves."""
        limit = time.monotonic() + seconds
        for service in self._services:
            with contextlib.suppress(subprocess.TimeoutExpired):
                service.process.wait(max(0.0, limit - time.monotonic()))
        for service in self._services:
            service.process.kill()
            service.process.wait()
            if service.process.stderr is not None:
                service.process.stderr.close()


def free_port(address: str) -> int:
    """Return a port at which nobody listens.

    Raises:
        OSError: The address is none of this machine.
    """
    return _bound(address, 0)


def check_port(address: str, port: int) -> None:
    """Check that nobody listens at a port.

    Raises:
        OSError: Somebody does, or the address is none of this machine.
    """
    _bound(address, port)


def _bound(address: str, port: int) -> int:
    with socket.socket() as tried:
        tried.bind((address, port))
        number: int = tried.getsockname()[1]
    return number
