"""What a training step pays for its reduction.

``python -m ksym.launch -n 2 benchmarks/parallel.py``: for 0.1, 1 and 10 million parameters, in 20
arrays as the gradients of ten layers are, the sum by the engine alone and by the operator, and a
step of SGD on them without and with it.  Times are the least and the median of the slowest rank,
in milliseconds.
"""

import time

import numpy as np

import ksym
from ksym.parallel import engine

ROUNDS = 40
PARAMETERS = (100_000, 1_000_000, 10_000_000)
ARRAYS = 20


def time_of(call):
    """The least and the median time of a call on the slowest rank."""
    made, taken = engine.current(), []
    call()
    for _ in range(ROUNDS):
        made.exchange("", "the beginning of a round")
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    least, median = (
        max(map(float, made.exchange(str(value * 1e3), "times")))
        for value in (min(taken), np.median(taken))
    )
    return f"{least:.2f}, {median:.2f}"


def main():
    if ksym.rank() == 0:
        print(f"{ksym.size()} ranks, engine {engine.current().name}; least and median, ms")
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
            time_of(reduce),
            time_of(summed),
            time_of(step(gradients)),
            time_of(step(ksym.all_reduce(gradients))),
        ]
        if ksym.rank() == 0:
            print(f"| {parameters:,} | " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
