"""Building, differentiating and compiling chains of operators that are drawn.

The time for an operator should not depend on the length, and no length may touch the recursion
limit.  Each mixture is some of `STEPS`, drawn with its number as the seed: each operator is applied
to the last result, and to one of the results before it or a variable.

    python benchmarks/chains.py [--mixtures 8] [--lengths 1000,4000]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import ksym

Draw = np.random.Generator
SIDE = 4

STEPS: dict[str, Callable[[Draw, Any, Any], Any]] = {
    "tanh": lambda draw, y, other: ksym.tanh(y),
    "scale": lambda draw, y, other: y * float(draw.random()),
    "sine": lambda draw, y, other: y * 1.0001 + ksym.sin(y) * 0.0001,
    "sum": lambda draw, y, other: y * 0.5 + other,
    "product": lambda draw, y, other: y @ other * 0.1,
    "less the largest": lambda draw, y, other: y - ksym.max(y, axis=1, keepdims=True),
    "softmax": lambda draw, y, other: ksym.softmax(y),
    "transpose": lambda draw, y, other: ksym.transpose(y),
    "flip": lambda draw, y, other: y[::-1],
    "join": lambda draw, y, other: ksym.concatenate([y[:2], other[2:] * 0.5], 0),
    "choose": lambda draw, y, other: ksym.where(y > 0.1, y, -other),
    "sort": lambda draw, y, other: ksym.sort(y, axis=1),
    "add up": lambda draw, y, other: ksym.cumsum(y, axis=1) * 0.1,
}


def chain(names: list[str], length: int) -> tuple[Any, Any, list[Any]]:
    """Return an input, the end of a chain, and the variables in it."""
    draw = np.random.default_rng(length)
    x = ksym.placeholder((SIDE, SIDE))
    variables = [ksym.Variable(np.eye(SIDE, dtype="float32") * 0.5) for _ in range(3)]
    live = [x]
    for _ in range(length):
        others = [*variables, *live]
        step = STEPS[names[draw.integers(len(names))]]
        live = [*live[-2:], step(draw, live[-1], others[draw.integers(len(others))])]
    return x, live[-1], variables


def measure(names: list[str], length: int) -> tuple[int, dict[str, float]]:
    """Return how many nodes are run, and the seconds that each stage takes."""
    marks = [time.perf_counter()]
    x, y, variables = chain(names, length)
    marks.append(time.perf_counter())
    gradients = ksym.gradients(ksym.sum(y), variables, disconnected="zero")
    marks.append(time.perf_counter())
    f = ksym.function([x], [y, *gradients])
    value = np.full((SIDE, SIDE), 0.1, "float32")
    f(value)
    marks.append(time.perf_counter())
    f(value)
    marks.append(time.perf_counter())
    stages = ("build", "gradients", "first call", "call")
    return len(f.last_graph()), dict(zip(stages, np.diff(marks).tolist(), strict=True))


def main() -> None:
    """Print for each mixture and length the seconds of each stage, and those for a node."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mixtures", type=int, default=8)
    parser.add_argument("--lengths", default="1000,4000")
    arguments = parser.parse_args()
    measure(["tanh"], 10)  # loads MXNet
    for seed in range(arguments.mixtures):
        draw = np.random.default_rng(seed)
        names = draw.choice(sorted(STEPS), draw.integers(1, 5), replace=False).tolist()
        print(", ".join(names))
        for length in map(int, arguments.lengths.split(",")):
            nodes, seconds = measure(names, length)
            total = sum(value for stage, value in seconds.items() if stage != "call")
            stages = ", ".join(f"{stage} {value:.2f} s" for stage, value in seconds.items())
            print(
                f"  {length:7,d} steps, {nodes:7,d} nodes: {stages}; "
                f"{total / nodes * 1e6:.0f} us a node"
            )


if __name__ == "__main__":
    main()
