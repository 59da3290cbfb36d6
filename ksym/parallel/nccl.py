"""Communication by NCCL, between the GPUs of the ranks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from ksym.errors import DeviceError, ParallelError
from ksym.parallel.engine import Memory, named_sum
from ksym.parallel.mpi import MpiEngine
from ksym.runtime import device
from ksym.runtime.nccl import Communicator, NcclError, unique_id, version

REMEDY = (
    "the extra cu112 has NCCL 2.21; with NCCL_DEBUG=INFO it says more; --engine mpi does without it"
)


class NcclEngine(MpiEngine):
    """The engine of a job whose ranks have a GPU each.

    MPI starts the ranks, and carries messages, NCCL's id and what is in the host's memory; NCCL
    adds up what is on the GPUs.  It has not run on a GPU yet.

    Args:
        expected: The number of ranks that were started.

    Raises:
        MissingPackageError: mpi4py is not installed.
        DeviceError: A rank uses no GPU.
        ParallelError: As for `MpiEngine`; or NCCL cannot be loaded, or refuses.
    """

    name = "nccl"

    def __init__(self, expected: int):
        super().__init__(expected)
        used = device.get_device()
        found = self.exchange(str(used), "the devices")
        if any(not name.startswith("gpu") for name in found):
            raise DeviceError(
                "--engine nccl adds up on GPUs, and not every rank uses one",
                details=[f"rank {rank}: {name}" for rank, name in enumerate(found)],
                remedy="use --engine mpi; `python -m ksym` says which devices can be used",
            )
        problem, own = "", ""
        try:
            own = version() if self.rank else f"{version()} {unique_id().hex()}"
        except NcclError as error:
            problem = str(error)
        # All ranks say it, as none goes on.
        self.agree("NCCL", {"version": own.partition(" ")[0], "problem": problem})
        if problem:
            raise ParallelError(problem, remedy=REMEDY)
        unique = bytes.fromhex(self.broadcast_text(own, "NCCL's id").partition(" ")[2])
        with self.taking_part("the beginning of NCCL"), _reported():
            self._communicator = Communicator(self.rank, self.size, unique, used.number)

    def device_reduction(
        self, sources: Sequence[Memory], targets: Sequence[Memory]
    ) -> Callable[[], None]:
        key = named_sum([f"{memory.dtype}[{memory.size}]" for memory in sources])

        def run() -> None:
            self.check(key)
            with self.taking_part(key), _reported():
                self._communicator.sum(sources, targets)

        return run

    def close(self) -> None:
        with _reported():
            self._communicator.close()
        super().close()


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    """Raise errors of NCCL as ksym's."""
    try:
        yield
    except NcclError as error:
        raise ParallelError(str(error), remedy=REMEDY) from None
