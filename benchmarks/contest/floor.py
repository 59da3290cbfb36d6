"""The floor: just the native matrix products, convolutions and recurrent kernels of a step.

They run back to back through `mx.nd`, each in the layout that suits it, on arrays that are there.
There is no bias, activation, normalisation, loss or optimizer, so nothing on MXNet can be faster.
What a product's gradients are is written here; those of convolutions and recurrent kernels, which
`mx.nd` does not name, are run by `mx.autograd` in one backward pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from contest.workloads import LENGTHS
from ksym.runtime.interop import package

mx = package()
Call = Callable[[], Any]


def _random(*shape: int) -> Any:
    return mx.nd.random.normal(0, 0.1, shape)


def _fastest(calls: Sequence[Call]) -> Call:
    """Return the fastest of equivalent calls."""

    def seconds(call: Call) -> float:
        best = float("inf")
        for _ in range(20):
            start = time.perf_counter()
            call().wait_to_read()
            best = min(best, time.perf_counter() - start)
        return best

    return min(calls, key=seconds)


class Product:
    """A (rows, inner) times (inner, columns) product, and the two or one of its gradients."""

    def __init__(self, rows: int, inner: int, columns: int, first: bool = False) -> None:
        x, w, dy = _random(rows, inner), _random(inner, columns), _random(rows, columns)
        transposed = w.T.copy()
        y, dx, dw = _random(rows, columns), _random(rows, inner), _random(inner, columns)
        dot = mx.nd.dot

        def connected() -> Any:
            options = {"num_hidden": columns, "no_bias": True, "flatten": False, "out": y}
            return mx.nd.FullyConnected(x, transposed, **options)

        self.forward = _fastest([lambda: dot(x, w, out=y), connected])
        to_data = [
            lambda: dot(dy, transposed, out=dx),
            lambda: dot(dy, w, transpose_b=True, out=dx),
        ]
        self.backward = [lambda: dot(x, dy, transpose_a=True, out=dw)]
        if not first:  # nobody asks for the gradient of the input
            self.backward.append(_fastest(to_data))


class Recorded:
    """A kernel whose gradient only `mx.autograd` can run.

    Attributes:
        forward: Runs the kernel and returns its result.
        head: A gradient of the result.
    """

    def __init__(self, forward: Call, weight: Any, data: Any | None) -> None:
        self.forward = forward
        for array in (weight, data):
            if array is not None:
                array.attach_grad()
        self.head = mx.nd.ones_like(forward())


def convolution(
    samples: int,
    channels: int,
    side: int,
    filters: int,
    kernel: int = 3,
    stride: int = 1,
    pad: int = 1,
    first: bool = False,
) -> Recorded:
    """A square convolution, channels first."""
    x, w = _random(samples, channels, side, side), _random(filters, channels, kernel, kernel)
    options = {
        "kernel": (kernel, kernel),
        "stride": (stride, stride),
        "pad": (pad, pad),
        "num_filter": filters,
        "no_bias": True,
    }
    return Recorded(lambda: mx.nd.Convolution(x, w, **options), w, None if first else x)


def recurrent(
    mode: str, length: int, samples: int, features: int, units: int = 128, first: bool = True
) -> Recorded:
    """A fused recurrent layer."""
    gates = {"lstm": 4, "gru": 3}[mode]
    x = _random(length, samples, features)
    parameters = _random(gates * units * (features + units + 2))
    state = [mx.nd.zeros((1, samples, units)) for _ in range(2 if mode == "lstm" else 1)]

    def forward() -> Any:
        return mx.nd.RNN(x, parameters, *state, mode=mode, state_size=units, num_layers=1)

    return Recorded(forward, parameters, None if first else x)


Kernels = list[Any]


def _resnet() -> Kernels:
    kernels, channels, side = [convolution(32, 3, 32, 16, first=True)], 16, 32
    for stack, filters in enumerate((16, 32, 64)):
        for block in range(3):
            stride = 2 if stack > 0 and block == 0 else 1
            kernels.append(convolution(32, channels, side, filters, stride=stride))
            kernels.append(convolution(32, filters, side // stride, filters))
            if stride == 2:
                shortcut = {"kernel": 1, "stride": 2, "pad": 0}
                kernels.append(convolution(32, channels, side, filters, **shortcut))
            channels, side = filters, side // stride
    return [*kernels, Product(32, 64, 10)]


KERNELS: dict[str, Callable[[], Kernels]] = {
    "tiny": lambda: [Product(32, 64, 32, first=True), Product(32, 32, 10)],
    "mlp": lambda: [
        Product(128, 784, 512, first=True),
        Product(128, 512, 512),
        Product(128, 512, 10),
    ],
    "cnn": lambda: [
        convolution(128, 1, 28, 32, pad=0, first=True),
        convolution(128, 32, 26, 64, pad=0),
        Product(128, 9_216, 128),
        Product(128, 128, 10),
    ],
    "resnet": _resnet,
    "lstm": lambda: [recurrent("lstm", 80, 32, 128, first=False), Product(32, 128, 1)],
    "text": lambda: [recurrent("lstm", 40, 128, 57), Product(128, 128, 57)],
}
"""The kernels of each workload; a user's own cell has none."""
for _kind in ("lstm", "gru"):
    for _length in LENGTHS:
        KERNELS[f"{_kind}-{_length}"] = lambda kind=_kind, length=_length: [
            recurrent(kind, length, 32, 32),
            Product(32, 128, 1),
        ]


def steps(workload: str) -> tuple[Call, Call]:
    """Return functions that run the kernels of a training step, and those of a prediction.

    Raises:
        LookupError: The workload is not made of native kernels.
    """
    if workload not in KERNELS:
        raise LookupError("no native kernels")
    kernels = KERNELS[workload]()
    products = [kernel for kernel in kernels if isinstance(kernel, Product)]
    recorded = [kernel for kernel in kernels if isinstance(kernel, Recorded)]
    heads = [kernel.head for kernel in recorded]

    def train() -> None:
        if recorded:
            with mx.autograd.record():
                results = [kernel.forward() for kernel in recorded]
            mx.autograd.backward(results, heads)
        for kernel in products:
            kernel.forward()
            for gradient in kernel.backward:
                gradient()
        mx.nd.waitall()

    def predict() -> None:
        for kernel in kernels:
            kernel.forward()
        mx.nd.waitall()

    return train, predict
