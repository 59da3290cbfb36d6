"""A rank: ``python -m ksym.parallel.worker train.py`` is what `ksym.launch` has mpiexec start.

It runs the script as ``python train.py`` would, says every half second what it is doing, and what
an error was.  Whatever ends the script ends the rank: by itself if all is well, and with all others
if not.

The script runs in a child of the process that mpiexec starts, which waits for it.  The
parent says that the child is gone before it ends itself, and so before mpiexec ends the other
ranks: nobody else knows for certain which of the ranks was the first.  If the parent is killed, the
kernel ends the child, and a third process, the witness, says so.
"""

from __future__ import annotations

import io
import json
import os
import platform
import runpy
import signal
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from ksym.errors import KsymError
from ksym.parallel import engine
from ksym.parallel.kvstore import KVStoreEngine
from ksym.parallel.mpi import MpiEngine
from ksym.parallel.nccl import NcclEngine
from ksym.parallel.processes import die_with_parent, started
from ksym.parallel.reports import PERIOD, Reporter
from ksym.runtime.device import has_cuda_build

ENVIRONMENT = "KSYM_JOB"
"""The environment variable by which the launcher tells a rank about the job."""


class Rank:
    """This process, as a rank of a job.

    Args:
        job: What the launcher says of it: ``size``, ``engine``, and for that ``kvstore``.
        script: The script and its arguments.
    """

    def __init__(self, job: dict[str, Any], script: list[str]):
        self._job, self._script = job, script
        number = _told("PMI_RANK", "OMPI_COMM_WORLD_RANK")
        self._reporter = Reporter(int(number))
        self._state = "starting"
        self._engine: MpiEngine | None = None

    def run(self) -> int:
        """Run the script in a child process, and return its exit status."""
        die_with_parent()
        witness = self._witnessed()
        os.register_at_fork(after_in_child=die_with_parent)
        child = os.fork()
        if not child:
            os.close(witness)
            return self._run()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        self._reporter.send("gone")
        os.write(witness, b"said")
        return code if code >= 0 else 128 - code

    def _witnessed(self) -> int:
        """Start the witness of this process.

        Returns:
            The end of a pipe to which this process writes when it has said what there is to say;
            if it ends before, the witness reads that nothing was written.
        """
        reading, writing = os.pipe()
        if os.fork():
            os.close(reading)
            return writing
        os.close(writing)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if not os.read(reading, 1):
            self._reporter.send("gone")
        os._exit(0)

    def _run(self) -> int:
        """Run the script, and return its exit status; a failure does not return."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Whole lines, at once: those of several ranks go to one place.
            sys.stdout.reconfigure(line_buffering=True, write_through=False)
        pid = os.getpid()
        self._reporter.send("here", pid=pid, host=socket.gethostname(), start=started(pid))
        threading.Thread(target=self._report, daemon=True, name="ksym reports").start()
        if has_cuda_build():
            # A GPU for each rank of a machine, the first in each process's eyes.
            own = _told("MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK")
            os.environ.setdefault("CUDA_VISIBLE_DEVICES", own)
        try:
            made = self._engine = _engine(self._job)
            made.agree("versions", versions())
            engine.use(made)
            self._state = "running"
            self._run_script()
            self._state = "done"
            made.exchange("", "the end of the script")
            made.close()
        except KsymError as error:
            self._end(type(error).__name__, str(error))
        self._reporter.send("ended")
        return 0

    def _run_script(self) -> None:
        path = self._script[0]
        sys.argv = list(self._script)
        sys.path[0] = str(Path(path).resolve().parent)
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as error:
            if error.code not in (None, 0):
                code = error.code if isinstance(error.code, int) else 1
                self._end("SystemExit", f"the script ended with {error.code!r}", code)
        except BaseException as error:  # noqa: BLE001 - whatever ends the script
            trace = error.__traceback__
            while trace is not None and trace.tb_frame.f_code.co_filename != path:
                trace = trace.tb_next
            text = "".join(traceback.format_exception(type(error), error, trace))
            self._end(type(error).__name__, text)

    def _end(self, kind: str, text: str, status: int = 1) -> None:
        """Report a failure, and end the job."""
        lines = text.strip().splitlines()
        sys.stdout.flush()
        self._reporter.send("failed", error=kind, text="\n".join(lines[-40:])[-3000:])
        if self._engine is not None:
            time.sleep(PERIOD)  # what others say of the same failure is read, too
            self._engine.end_job(status)
        os._exit(status)

    def _report(self) -> None:
        """Report what the rank is doing, again and again."""
        main = threading.main_thread().ident
        while True:
            made = self._engine
            waiting = None if made is None else made.waiting
            items: dict[str, Any] = {"state": self._state}
            if waiting is not None:
                seconds = time.monotonic() - waiting.since
                items.update(number=waiting.number, what=waiting.what[:400], seconds=seconds)
            items["line"] = _line(sys._current_frames().get(main or 0), self._script[0])
            self._reporter.send("alive", **items)
            time.sleep(PERIOD)


def _told(mpich: str, open_mpi: str) -> str:
    """Return what mpiexec says in an environment variable, of MPICH's name or of Open MPI's."""
    return os.environ.get(mpich, os.environ.get(open_mpi, "0"))


def _engine(job: dict[str, Any]) -> MpiEngine:
    size, name = job["size"], job.get("engine", "mpi")
    if name == "nccl":
        return NcclEngine(size)
    return KVStoreEngine(size, name, **job["kvstore"]) if "kvstore" in job else MpiEngine(size)


def versions() -> dict[str, str]:
    """Return the versions that have to be the same on all ranks."""
    import numpy as np

    import ksym
    from ksym.runtime.library import find
    from ksym.versions import installed

    found = find()
    return {
        "ksym": ksym.__version__,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "Keras": installed("keras") or "not installed",
        "MXNet": str(found) if found else "not installed",
    }


def _line(frame: FrameType | None, script: str) -> str:
    """Return the line of the script that runs."""
    found = ""
    while frame is not None:
        if frame.f_code.co_filename == script:
            found = f"{os.path.basename(script)}:{frame.f_lineno}"
        frame = frame.f_back
    return found


def main() -> int:
    """Run a script as a rank."""
    job = json.loads(os.environ.get(ENVIRONMENT, "{}"))
    if not job or len(sys.argv) < 2:
        print("this is what python -m ksym.launch starts", file=sys.stderr)
        return 2
    return Rank(job, sys.argv[1:]).run()


if __name__ == "__main__":
    sys.exit(main())
