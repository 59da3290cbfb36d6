"""What a training step pays for its reduction.

``python -m ksym.launch -n 2 benchmarks/parallel.py``: for 0.1, 1 and 10 million parameters, in 20
arrays as the gradients of ten layers are, the sum by the engine alone and by the operator, and a
step of SGD on them without and with it.  Times are medians of the slowest rank, in milliseconds.
"""

import time

import numpy as np

import ksym
from ksym.parallel import engine

ROUNDS = 30
PARAMETERS = (100_000, 1_000_000, 10_000_000)
ARRAYS = 20


def median(call):
    """The median time of a call on the slowest rank."""
    made, taken = engine.current(), []
    call()
    for _ in range(ROUNDS):
        made.exchange("", "the beginning of a round")
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    found = made.exchange(str(np.median(taken) * 1e3), "times")
    return max(map(float, found))


def main():
    if ksym.rank() == 0:
        print(f"{ksym.size()} ranks, engine {engine.current().name}; ms")
        print("| parameters | engine alone | operator | step without | step with |")
        print("| --- | --- | --- | --- | --- |")
    for parameters in PARAMETERS:
        shape = (parameters // ARRAYS,)
        arrays = [np.ones(shape, "float32") for _ in range(ARRAYS)]
        reduce = engine.current().reduction(arrays, [a.copy() for a in arrays])
        weights = [ksym.Variable(np.ones(shape, "float32")) for _ in range(ARRAYS)]
        x = ksym.placeholder(())
        gradients = ksym.gradients(sum(ksym.sum(ksym.square(w) * x) for w in weights), weights)

        def step(gradients, weights=weights, x=x):
            updates = [w.assign_sub(1e-6 * g) for w, g in zip(weights, gradients, strict=True)]
            made = ksym.function([x], x, updates=updates)
            return lambda: made(1.0)

        summed = ksym.function([], [r[0] for r in ksym.all_reduce(weights)])
        row = [
            median(reduce),
            median(summed),
            median(step(gradients)),
            median(step(ksym.all_reduce(gradients))),
        ]
        if ksym.rank() == 0:
            print(f"| {parameters:,} | " + " | ".join(f"{value:.2f}" for value in row) + " |")


if __name__ == "__main__":
    main()
