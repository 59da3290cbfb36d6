"""Building, differentiating and compiling chains of 1,000, 10,000 and 100,000 operators.

All three must grow linearly, and none may touch the recursion limit.

    python benchmarks/chains.py
"""

from __future__ import annotations

import time

import numpy as np

import ksym


def measure(length: int) -> dict[str, float]:
    """Return the seconds that each stage takes for a chain."""
    marks = [time.perf_counter()]
    x = ksym.placeholder((4,))
    y = x
    for number in range(length):
        y = ksym.tanh(y) if number % 2 else y * 1.001
    marks.append(time.perf_counter())
    gradient = ksym.gradients(ksym.sum(y), x)
    marks.append(time.perf_counter())
    f = ksym.function([x], [y, gradient])
    f(np.full(4, 0.1))
    marks.append(time.perf_counter())
    f(np.full(4, 0.1))
    marks.append(time.perf_counter())
    stages = ("build", "gradients", "compile and first call", "call")
    return dict(zip(stages, np.diff(marks), strict=True))


def main() -> None:
    """Print the seconds of each stage, and the microseconds for each operator of the chain."""
    measure(10)  # loads MXNet
    for length in (1_000, 10_000, 100_000):
        seconds = measure(length)
        total = sum(value for stage, value in seconds.items() if stage != "call")
        stages = ", ".join(f"{stage} {value:.3f} s" for stage, value in seconds.items())
        print(f"{length:7,d} operators: {stages}; {total / length * 1e6:.0f} us an operator")


if __name__ == "__main__":
    main()
