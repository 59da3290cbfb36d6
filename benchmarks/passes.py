"""What each pass of the compiler saves: the time of a step with it turned off.

For each workload the Keras model is compiled once with all passes, and once without each of them;
they take turns, in another order each round.  A ratio above 1 is what the pass saves.  The model
with all passes is built twice, and the ratio of these two is what noise does; others like it are
noise, or a pass that the workload has no use for.

    python benchmarks/passes.py [--rounds 30] [--workloads mlp,cnn] [--off merge]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ["KERAS_BACKEND"] = "ksym.backend"

import keras
import numpy as np
from contest.report import head, row
from contest.workload import Workload
from contest.workloads import SHOWN, SIX, WORKLOADS

from ksym.compiler import mode
from ksym.runtime import loading

Steps = dict[str, Callable[[], Any]]
KINDS = ("training", "prediction")
ALL, AGAIN = "all", "all, built again"
"""The variant with all passes, and its control."""

loading.library()  # it settles the threads, which are printed


def steps(workload: Workload) -> Steps:
    """Return the steps of both kinds of a new model, after the first ones."""
    model = workload.build(keras)
    x, y = workload.batches()[0]
    calls = (lambda: model.train_on_batch(x, y), lambda: model.predict_on_batch(x))
    for call in calls:
        call()
    return dict(zip(KINDS, calls, strict=True))


def variants(workload: Workload, off: str) -> dict[str, Steps]:
    """Return the steps with all passes, twice, and without each one with `off` in its name."""
    found = {}
    for name in (ALL, AGAIN, *(name for name in mode.names() if off in name)):
        os.environ[mode.ENVIRONMENT] = "" if name in (ALL, AGAIN) else f"{name}=0"
        keras.backend.clear_session()
        found[name] = steps(workload)
    return found


def timed(step: Callable[[], Any], seconds: float) -> float:
    """Return the milliseconds of a step, repeated for at least so long."""
    step()  # caches are as the others left them
    start, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - start < seconds:
        step()
        count += 1
    return (time.perf_counter() - start) / count * 1e3


def measure(
    compared: dict[str, Steps], kind: str, rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Return the milliseconds of each variant's step of a kind, in interleaved rounds."""
    times: dict[str, list[float]] = {name: [] for name in compared}
    order = list(compared)
    shuffle = np.random.default_rng(0).shuffle
    for _ in range(rounds):
        shuffle(order)  # none is always the first, or always behind the same one
        for name in order:
            times[name].append(timed(compared[name][kind], seconds))
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=0.02, help="of a turn, at least")
    parser.add_argument("--workloads", default=",".join([*SIX, "cell-80", *SHOWN]))
    parser.add_argument("--off", default="", help="a part of the names of passes to measure")
    options = parser.parse_args()
    print(
        f"threads {os.environ.get('OMP_NUM_THREADS')}, load {os.getloadavg()[0]:.1f}, "
        f"{options.rounds} interleaved rounds"
    )
    workloads = options.workloads.split(",")
    cells: dict[tuple[str, str], list[str]] = {}
    for workload in workloads:
        compared = variants(WORKLOADS[workload], options.off)
        for kind in KINDS:
            times = measure(compared, kind, options.rounds, options.seconds)
            for name, each in times.items():
                # Neighbours in time are compared, so that what else the machine does hits both.
                ratio = statistics.median(np.divide(each, times[ALL]))
                cell = f"{statistics.median(each):.3g} ms" if name == ALL else f"{ratio:.2f}"
                cells.setdefault((kind, name), []).append(cell)
        print(f"{workload} measured, load {os.getloadavg()[0]:.1f}", flush=True)
    print("\n".join(head("", *workloads)))
    for (kind, name), line in sorted(cells.items(), key=lambda each: KINDS.index(each[0][0])):
        print(row(f"{kind} {'with' if name in (ALL, AGAIN) else 'without'} {name}", *line))


if __name__ == "__main__":
    main()
