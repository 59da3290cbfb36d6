"""MXNet's KVStore over several processes, which are workers, servers and a scheduler of ps-lite.

Arrays are kept by servers under keys, which are numbers.  Workers push arrays and pull what the
servers have made of them: the sum over all workers (``dist_sync``), or what the server's updater
keeps (``dist_async``).  The scheduler is where all of them meet.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Mapping
from ctypes import byref, c_char_p, c_int, c_void_p
from typing import Any, Literal, NamedTuple

import numpy as np

from ksym.runtime import loading
from ksym.runtime.capi import Context, NDArray, invoke
from ksym.runtime.library import CONTROLLER, UPDATER
from ksym.runtime.loading import check, check_wait, library

_ADD = 0
"""The command that has servers add up what is pushed, instead of the workers' sum replacing it."""

Role = Literal["worker", "server", "scheduler"]


class Meeting(NamedTuple):
    """Where the processes of a KVStore meet, and how many they are.

    Attributes:
        address: The IP address of the scheduler's machine.
        port: The port at which the scheduler listens.
        workers: The number of workers.
        servers: The number of servers.
    """

    address: str
    port: int
    workers: int
    servers: int


class KVStore:
    """A process's part in a KVStore; a worker is there once all processes are.

    Args:
        kind: ``"dist_sync"`` or ``"dist_async"``.
        role: The part that this process plays.
        meeting: Where all of them meet.

    Raises:
        NativeError: MXNet is built without it, or ps-lite cannot listen at its address.
    """

    def __init__(self, kind: str, role: Role, meeting: Meeting):
        lib = library()
        settings = {
            "DMLC_ROLE": role,
            "DMLC_PS_ROOT_URI": meeting.address,
            "DMLC_PS_ROOT_PORT": str(meeting.port),
            "DMLC_NUM_WORKER": str(meeting.workers),
            "DMLC_NUM_SERVER": str(meeting.servers),
            "DMLC_NODE_HOST": _own_address(meeting),
        }
        # These go past the environment, where `import mxnet` would take them for its own.
        check(lib.MXInitPSEnv(len(settings), *_texts(settings)))
        self._handle = c_void_p()
        # ps-lite would listen at the port that this names, each process at the same one.
        own_port = os.environ.pop("PORT", None)
        try:
            check(lib.MXKVStoreCreate(kind.encode(), byref(self._handle)))
        finally:
            if own_port is not None:
                os.environ["PORT"] = own_port
        if kind == "dist_async" and role == "worker":
            rank = c_int()
            check(lib.MXKVStoreGetRank(self._handle, byref(rank)))
            if not rank.value:  # those who need it wait in `slot` for this worker
                check(lib.MXKVStoreSendCommmandToServers(self._handle, _ADD, b""))

    def serve(self) -> None:
        """Do what a server or a scheduler does, until the workers have ended.

        Raises:
            NativeError: The scheduler's port is in use, or its address is of another machine.
        """
        lib = library()
        updater = UPDATER(_add)

        def controlled(command: int, body: bytes, _: int) -> None:
            # Before the server runs there is none whose updater could be set.
            check(lib.MXKVStoreSetUpdater(self._handle, updater, None))

        controller = CONTROLLER(controlled)
        own_port = os.environ.pop("PORT", None)
        check(lib.MXKVStoreRunServer(self._handle, controller, None))
        if own_port is not None:
            os.environ["PORT"] = own_port
        self.close()

    def compress(self, threshold: float) -> None:
        """Have arrays of float32 be pushed as two bits for each element, from now on.

        An element is sent as the threshold, its negative or zero; what is left of it is added to
        the next one that is pushed under its key.
        """
        settings = {"type": "2bit", "threshold": str(threshold)}
        lib = library()
        check(lib.MXKVStoreSetGradientCompression(self._handle, len(settings), *_texts(settings)))

    def slot(self, key: int, value: np.ndarray) -> Slot:
        """Return a slot, which the servers keep under a key from now on; all workers call it.

        Args:
            key: A number that has no slot yet.
            value: A vector of float32 or float64; that of rank 0 is kept.
        """
        return Slot(self._handle, key, value)

    def close(self) -> None:
        """End this process's part; a worker waits for all workers, and the servers end."""
        check(library().MXKVStoreFree(self._handle))


class Slot:
    """A vector that servers keep.

    Attributes:
        view: What is pushed next, or was pulled last, in memory that the slot owns.
    """

    def __init__(self, store: c_void_p, key: int, value: np.ndarray):
        array = self._array = NDArray.empty(value.shape, value.dtype.name, Context("cpu", 0))
        memory = (ctypes.c_char * value.nbytes).from_address(array.address())
        self.view = np.frombuffer(memory, value.dtype)
        self.view[...] = value
        self._arguments = (store, 1, (c_int * 1)(key), (c_void_p * 1)(array.handle))
        self._call(library().MXKVStoreInit)

    def exchange(self) -> None:
        """Push the vector, and replace it by what the servers make of it."""
        lib = library()
        self._call(lib.MXKVStorePush, 0)
        self._call(lib.MXKVStorePull, 0)
        with loading.running:
            check_wait(lib.MXNDArrayWaitToRead(self._array.handle))

    def pull(self) -> None:
        """Replace the vector by that of the servers."""
        lib = library()
        self._call(lib.MXKVStorePull, 0)
        with loading.running:
            check_wait(lib.MXNDArrayWaitToRead(self._array.handle))

    def _call(self, function: Any, *more: int) -> None:
        with loading.running:
            check(function(*self._arguments, *more))


def _add(key: int, given: int, kept: int, _: int) -> None:
    """Add what a worker has pushed to what the server keeps; both handles are this function's."""
    addend, total = NDArray(given), NDArray(kept)
    invoke("elemwise_add", [total, addend], {}, into=[total])


def _own_address(meeting: Meeting) -> str:
    """Return the address of this machine in the network in which the scheduler is."""
    named = os.environ.get("DMLC_NODE_HOST")
    return named or address_towards(meeting.address)


def address_towards(host: str) -> str:
    """Return the IP address by which this machine is known to another one; nothing is sent.

    Raises:
        OSError: There is no such machine, or no way to it.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.connect((host, 9))
        address: str = asked.getsockname()[0]
    return address


def _texts(settings: Mapping[str, str]) -> tuple[ctypes.Array[c_char_p], ctypes.Array[c_char_p]]:
    names, values = [*settings], [*settings.values()]
    kind = c_char_p * len(names)
    return kind(*(n.encode() for n in names)), kind(*(v.encode() for v in values))
