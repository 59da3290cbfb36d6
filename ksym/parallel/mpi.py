"""Communication by MPI, through mpi4py."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import numpy as np

from ksym.errors import ParallelError
from ksym.extras import require
from ksym.parallel.engine import SAME, Engine

INSTALL = "pip install 'ksym[mpi]', which has mpi4py and MPICH; or use an MPI of the system"


class MpiEngine(Engine):
    """The engine of a job that mpiexec has started.

    Args:
        expected: The number of ranks that were started.

    Raises:
        MissingPackageError: mpi4py is not installed.
        ParallelError: There is no MPI, or another one than that whose mpiexec started the ranks.
    """

    name = "mpi"

    def __init__(self, expected: int):
        super().__init__()
        mpi = load()
        world = mpi.COMM_WORLD
        if world.Get_size() != expected:
            version = mpi.Get_library_version().strip().split("\n")[0]
            raise ParallelError(
                f"{expected} ranks were started, and mpi4py's MPI, {version}, sees "
                f"{world.Get_size()}: it is another MPI than that of the mpiexec that started them",
                remedy="name the mpiexec of that MPI by KSYM_MPIEXEC, or uninstall one of the two",
            )
        self.rank, self.size = world.Get_rank(), world.Get_size()
        self._mpi, self._world = mpi, world
        # Checks go over a communicator of their own: a rank that checks and one that already sums
        # wait for each other, which the launcher sees, instead of reading each other's messages.
        self._sums, self._checks = world.Dup(), world.Dup()
        self._sent: list[Any] = []
        self._heard: collections.Counter[str] = collections.Counter()

    def exchange(self, message: str, what: str) -> list[str]:
        with self.taking_part(what):
            found: list[tuple[str, str]] = self._checks.allgather((what, message))
        if any(other != what for other, _ in found):
            raise ParallelError(
                "the ranks have come to different things",
                details=[f"rank {rank}: {other}" for rank, (other, _) in enumerate(found)],
                remedy=SAME,
            )
        return [text for _, text in found]

    def summing(
        self, source: np.ndarray, target: np.ndarray, compressible: bool = False
    ) -> Callable[[], None]:
        given = self._mpi.IN_PLACE if target is source else source
        return lambda: self._sums.Allreduce(given, target)

    def copy_from(self, root: int, array: np.ndarray) -> None:
        self._sums.Bcast(array, root)

    def announce(self, text: str) -> None:
        self._sent = [request for request in self._sent if not request.Test()]
        self._sent += [self._checks.isend(text, rank) for rank in range(1, self.size)]

    def await_announcement(self, text: str) -> None:
        with self.taking_part(f"rank 0: {text}"):
            while not self._heard[text]:
                self._heard[self._checks.recv(source=0)] += 1
        self._heard[text] -= 1

    def close(self) -> None:
        self._sums.Free()
        self._checks.Free()
        self._mpi.Finalize()

    def end_job(self, status: int) -> None:
        """End all ranks of the job at once."""
        self._world.Abort(status)


def load() -> Any:
    """Return mpi4py's module ``MPI``, which starts MPI.

    Raises:
        MissingPackageError: mpi4py is not installed.
        ParallelError: There is no MPI.
    """
    require("mpi4py", "mpi", "training by several processes")
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError, OSError) as error:
        raise ParallelError(
            f"mpi4py cannot load an MPI: {str(error).splitlines()[0]}", remedy=INSTALL
        ) from None
    return MPI
