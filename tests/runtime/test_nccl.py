"""NCCL as far as it goes without a GPU: how it is called, and what its errors become.

A stand-in adds up in the memory of the host: it doubles, as two ranks with equal arrays would.
"""

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest

import ksym
from ksym.parallel import engine
from ksym.runtime import collective, nccl
from ksym.runtime.device import Device

NUMBERS = {number: np.dtype(name) for name, number in nccl.DTYPES.items()}


def memory(address, size, dtype):
    raw = (ctypes.c_char * (size * dtype.itemsize)).from_address(address)
    return np.frombuffer(raw, dtype)


class StandIn:
    """Both libraries in one, as functions of the arguments that ctypes would pass on."""

    def __init__(self, monkeypatch, failing=None):
        self.calls = []
        self.waiting = []
        own = {
            "ncclGetVersion": self.get_version,
            "ncclGetUniqueId": self.get_unique_id,
            "ncclCommInitRank": self.init_rank,
            "ncclAllReduce": self.all_reduce,
            "cudaStreamSynchronize": self.synchronize,
        }
        names = [*own, "ncclGroupStart", "ncclGroupEnd", "ncclCommDestroy"]
        names += ["cudaSetDevice", "cudaStreamCreate", "cudaStreamDestroy"]

        def made(name):
            def function(*arguments):
                self.calls.append(name)
                if name == failing:
                    return 5
                return own.get(name, lambda *_: 0)(*arguments)

            return function

        library = SimpleNamespace(_name="stand-in", **{name: made(name) for name in names})
        library.ncclGetErrorString = lambda status: b"invalid usage"
        library.cudaGetErrorString = lambda status: b"no device"
        monkeypatch.setattr(nccl, "_opened", lambda soname: library)

    def get_version(self, number):
        number._obj.value = 22105
        return 0

    def get_unique_id(self, unique):
        unique._obj.data[:] = range(128)
        return 0

    def init_rank(self, communicator, size, unique, rank):
        assert bytes(unique.data) == bytes(range(128))
        assert (size, rank) == (2, 1)
        communicator._obj.value = 77
        return 0

    def all_reduce(self, source, target, size, dtype, operation, communicator, stream):
        assert (operation, communicator.value) == (0, 77)
        self.waiting.append((source, target, size, NUMBERS[dtype]))
        return 0

    def synchronize(self, stream):
        for source, target, size, dtype in self.waiting:
            memory(target, size, dtype)[...] = 2 * memory(source, size, dtype)
        return 0


def test_sums_of_a_group_are_waited_for(monkeypatch):
    stand_in = StandIn(monkeypatch)
    assert nccl.version() == "2.21.5"
    communicator = nccl.Communicator(1, 2, nccl.unique_id(), 0)
    sources = [np.arange(n).astype(name) for n, name in enumerate(nccl.DTYPES, 1)]
    targets = [np.zeros_like(source) for source in sources]
    described = [
        [engine.Memory(a.ctypes.data, a.size, a.dtype.name) for a in arrays]
        for arrays in (sources, targets)
    ]
    stand_in.calls.clear()
    communicator.sum(*described)
    for source, target in zip(sources, targets, strict=True):
        np.testing.assert_array_equal(target, 2 * source)
    sums = ["ncclAllReduce"] * len(sources)
    expected = ["cudaSetDevice", "ncclGroupStart", *sums, "ncclGroupEnd", "cudaStreamSynchronize"]
    assert stand_in.calls == expected
    communicator.close()
    assert stand_in.calls[-2:] == ["ncclCommDestroy", "cudaStreamDestroy"]


@pytest.mark.parametrize(
    ("failing", "message"),
    [
        ("ncclCommInitRank", "NCCL reports error 5: invalid usage"),
        ("cudaSetDevice", "CUDA reports error 5: no device"),
    ],
)
def test_errors_are_said_in_words(monkeypatch, failing, message):
    StandIn(monkeypatch, failing)
    with pytest.raises(nccl.NcclError, match=message):
        nccl.Communicator(1, 2, bytes(range(128)), 0)


def test_a_failed_sum_leaves_no_group_open(monkeypatch):
    stand_in = StandIn(monkeypatch, "ncclAllReduce")
    communicator = nccl.Communicator(1, 2, bytes(range(128)), 0)
    with pytest.raises(nccl.NcclError, match="invalid usage"):
        communicator.sum([engine.Memory(0, 1, "float32")], [engine.Memory(0, 1, "float32")])
    assert stand_in.calls[-1] == "ncclGroupEnd"


def test_a_library_that_is_missing_or_another(monkeypatch):
    monkeypatch.setattr(nccl, "cuda_libraries", lambda: {nccl.NCCL: "/no/libnccl.so.2"})
    with pytest.raises(nccl.NcclError, match="cannot be loaded: /no/libnccl"):
        nccl.version()
    monkeypatch.setattr(nccl, "_opened", lambda soname: SimpleNamespace(_name="libm.so.6"))
    with pytest.raises(nccl.NcclError, match="is another library"):
        nccl.version()


def test_sums_in_graphs_go_to_the_engine_of_the_device(monkeypatch):
    given = []

    class OnDevice(engine.Engine):
        def device_reduction(self, sources, targets):
            given.append([(m.size, m.dtype) for m in sources])

            def run():
                for source, target in zip(sources, targets, strict=True):
                    dtype = np.dtype(source.dtype)
                    total = 2 * memory(source.address, source.size, dtype)
                    memory(target.address, target.size, dtype)[...] = total

            return run

    monkeypatch.setattr(collective, "is_direct", lambda: False)
    on_gpu = SimpleNamespace(get_device=lambda: Device("gpu"))
    monkeypatch.setattr(collective, "device", on_gpu)
    monkeypatch.setattr(engine, "_current", OnDevice())
    x, empty = ksym.placeholder((2, 3)), ksym.placeholder((0, 4))
    f = ksym.function([x, empty], list(ksym.all_reduce([x * 1.0, empty, ksym.sum(x)])))
    for _ in range(2):
        first, second, third = f(np.ones((2, 3)), np.ones((0, 4)))
    assert given == [[(6, "float32"), (1, "float32")]]
    assert (first.tolist(), second.shape, third) == ([[2.0] * 3] * 2, (0, 4), 12.0)
