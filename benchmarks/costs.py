"""Measures each cost that is a time, and prints it beside its value in `ksym.compiler.costs`.

What is fused is not to change from machine to machine, so nothing reads what is printed here but
who looks after these values.  Times are the shortest of many, in microseconds; those of one thread
are to be compared with `Costs`, and only what threads share is measured on several.

    OMP_NUM_THREADS=1 python benchmarks/costs.py
    OMP_NUM_THREADS=2 python benchmarks/costs.py
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from contest.report import head, row

import ksym
from ksym import ops, shapes
from ksym.compiler.compile import compile_graph
from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.fusion.kernel import Kernel, describe
from ksym.compiler.fusion.products import product_of
from ksym.compiler.mode import Mode, names
from ksym.compiler.plan import FrozenGraph, Target
from ksym.graph import Tensor, topological_order
from ksym.runtime import loading
from ksym.runtime.arrays import DeviceArray
from ksym.runtime.calls import Call, Tape, kernel_calls, product_call
from ksym.runtime.program import Program

LITTLE, MUCH = 16, 1 << 16
"""Elements for which fixed costs are measured, and costs for each element."""

FORCED = replace(DEFAULT, kernel=-1e9, native_graph=-1e9)
"""Costs by which everything that can be in kernels is in them."""

UNFUSED = replace(DEFAULT, kernel=1e9)
"""Costs by which nothing is."""

OPTIMISED = replace(DEFAULT, unoptimised_elements=0)
NEVER = 1 << 62

COLD = "after 1 MiB of other work"


class Measured(NamedTuple):
    """A row of the table: a field of `Costs`, what was measured, its value in words, and how."""

    field: str
    what: str
    value: str
    how: str


def microseconds(run: Callable[[], object], seconds: float = 0.25) -> float:
    """Return the shortest time of a call, of many batches of some calls."""
    count, found = 1, float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(count):
            run()
        taken = time.perf_counter() - start
        found = min(found, taken / count)
        if taken < 1e-3:
            count *= 2
    return found * 1e6


def cold(runs: Sequence[Callable[[], object]], rounds: int = 1000) -> list[float]:
    """Return the usual time of each call where memory was used for something else before."""
    other = np.zeros(1 << 18, "float32")
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, taken in zip(runs, times, strict=True):
            other += 1
            start = time.perf_counter()
            run()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) * 1e6 for taken in times]


def filled(tensors: Sequence[Tensor]) -> dict[Tensor, DeviceArray]:
    """Return an array of random numbers for each tensor."""
    rng = np.random.default_rng(0)
    values = [rng.uniform(0.5, 1.0, shapes.known(t.shape)).astype(t.dtype) for t in tensors]
    return {t: DeviceArray.of(v) for t, v in zip(tensors, values, strict=True)}


def program(outputs: Sequence[Tensor], costs: Costs) -> Program:
    """Return a graph compiled without passes over it, so that nothing is simplified."""
    off = frozenset(names()) - {"fuse_loops"}
    graph = FrozenGraph(outputs, (), Mode(off=off), Target(kernels=True, costs=costs))
    given = [n.outputs[0] for n in topological_order(outputs) if not n.inputs]
    inputs = [tensor for tensor in given if tensor.node.operator is ops.placeholder]
    return Program(compile_graph(graph, {}), filled(inputs))


def native(length: int, elements: int, step: Callable[[Tensor, Tensor], Tensor]) -> float:
    """Return the time of a native graph that is a chain of `length` operators."""
    x = y = ksym.placeholder((elements,))
    for _ in range(length):
        y = step(y, x)
    return microseconds(program([y], UNFUSED).run)


def kernel_of(outputs: Sequence[Tensor]) -> Kernel:
    """Return the one kernel that computes outputs."""
    nodes = {node for node in topological_order(outputs) if node.inputs}
    return describe(nodes, outputs)


def taped(calls: Sequence[Call]) -> float:
    """Return the time of calls, without that of entering the tape."""
    return (microseconds(Tape([*calls] * 11).run) - microseconds(Tape(calls).run)) / 10


def calls_of(outputs: Sequence[Tensor], costs: Costs = DEFAULT) -> list[Call]:
    """Return the calls of the kernel that computes outputs."""
    kernel = kernel_of(outputs)
    return kernel_calls(kernel, filled([*kernel.operands, *kernel.results]), costs)


def kernel_time(outputs: Sequence[Tensor], costs: Costs = DEFAULT) -> float:
    """Return the time of the kernel that computes outputs."""
    return taped(calls_of(outputs, costs))


def product_calls(rows: int, inner: int, columns: int, costs: Costs = DEFAULT) -> list[Call]:
    """Return the call for a product."""
    a, b = ksym.placeholder((rows, inner)), ksym.placeholder((inner, columns))
    product = product_of((a @ b).node)
    return [product_call(product, filled([a, b, product.result]), costs)]


def chain(length: int, elements: int) -> list[Tensor]:
    """Return the result of that many multiplications and additions by turns."""
    y = ksym.placeholder((elements,))
    for number in range(length):
        y = y + 0.25 if number % 2 else y * 0.75
    return [y]


def summed(count: int, elements: int) -> list[Tensor]:
    """Return the sum of so many arrays."""
    first, *rest = (ksym.placeholder((elements,)) for _ in range(count))
    for tensor in rest:
        first = first + tensor
    return [first]


STEPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "addition": lambda y, x: y + x,
    "multiplication": lambda y, x: y * x,
    "tanh": lambda y, x: ksym.tanh(y),
    "exp": lambda y, x: ksym.exp(y),
}
CALLED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sin": lambda y, x: ksym.sin(y),
    "power": lambda y, x: y**x,
}


def native_operators() -> list[Measured]:
    """Measure operators of a native graph."""
    found = []
    for name, step in STEPS.items():
        fixed = (native(40, LITTLE, step) - native(10, LITTLE, step)) / 30
        each = (native(8, MUCH, step) - native(4, MUCH, step)) / 4 / MUCH
        found += [
            Measured("native_operator", name, f"{fixed:.2f} us", f"{LITTLE} elements"),
            Measured("native_element", name, f"{each * 1e3:.3f} ns", f"{MUCH:,d} elements"),
        ]
    return found


def kernels() -> list[Measured]:
    """Measure what a kernel takes."""
    calls = calls_of(chain(2, LITTLE), OPTIMISED)
    other = calls_of([ksym.sqrt(ksym.placeholder((LITTLE,))) * 0.75], OPTIMISED)
    alone, together = cold([Tape(calls).run, Tape([*calls, *other]).run])
    entered = microseconds(Tape(calls).run)
    found = [
        Measured("kernel", "on a tape", f"{taped(calls):.2f} us", f"{LITTLE} elements"),
        Measured("kernel", "and entering the tape", f"{entered:.2f} us", ""),
        Measured("kernel", "the same, cold", f"{alone:.2f} us", COLD),
        Measured("kernel", "another one, cold", f"{together - alone:.2f} us", COLD),
    ]
    for elements in (4096, MUCH, 1 << 22):
        each = (kernel_time(chain(34, elements)) - kernel_time(chain(4, elements))) / 30
        function = kernel_time([ksym.tanh(ksym.placeholder((elements,)))])
        streams = (kernel_time(summed(9, elements)) - kernel_time(summed(3, elements))) / 6 - each
        size = f"{elements:,d} elements"
        found += [
            Measured("instruction", "arithmetic", f"{each / elements * 1e3:.3f} ns", size),
            Measured("instruction", "tanh", f"{function / elements * 1e3:.3f} ns", size),
            Measured("stream", "an array read", f"{streams / elements * 1e3:.3f} ns", size),
        ]
    return found


def divided_graphs() -> list[Measured]:
    """Measure a native graph, and what it takes to divide one.

    A kernel of three instructions is put between two running totals, which stay native.  What the
    kernel takes itself and what its operators take natively is left out of it.
    """
    found = []
    for shape in ((4, 4), (64, 64)):
        before = ksym.cumsum(ksym.placeholder(shape), 0)
        after = [ksym.cumsum(_three(before), 0)]
        graphs = [program(after, costs) for costs in (UNFUSED, FORCED)]
        assert [len(each.parts) for each in graphs] == [1, 3]
        y = ksym.placeholder(shape)
        once, thrice = (program([each], UNFUSED) for each in (_three(y), _three(_three(_three(y)))))
        kernel = kernel_time([_three(y)])
        runs = [each.run for each in (*graphs, once, thrice)]
        for how, times in (
            (f"{shape}", [*map(microseconds, runs)]),
            (f"{shape}, {COLD}", cold(runs)),
        ):
            cost = times[1] - times[0] + (times[3] - times[2]) / 2 - kernel
            found.append(Measured("native_graph", "dividing one", f"{cost:.1f} us", how))
    entered = native(1, LITTLE, STEPS["addition"])
    found.append(Measured("native_graph", "entering one", f"{entered:.1f} us", "of one operator"))
    return found


def _three(y: Tensor) -> Tensor:
    return ksym.tanh(y * 0.75 + 0.25)


def products() -> list[Measured]:
    """Measure products, by blocks and by BLAS."""
    small = taped(product_calls(8, 16, 16))
    x = ksym.placeholder((16, 16))
    graphs = []
    for count in (4, 24):
        y = x
        for _ in range(count):
            y = y @ x
        graphs.append(microseconds(program([y], UNFUSED).run))
    found = [
        Measured("kernel", "a product on a tape", f"{small:.2f} us", "(8, 16) @ (16, 16)"),
        Measured(
            "native_operator", "a product", f"{(graphs[1] - graphs[0]) / 20:.2f} us", "(16, 16)"
        ),
    ]
    blocks = replace(DEFAULT, small_product=NEVER, blocked_columns=1)
    blas = replace(DEFAULT, blocked_columns=NEVER)
    found += [
        _compared("blocked_columns", (32, 128, columns), blocks, blas) for columns in (1, 4, 8, 16)
    ]
    found += [
        _compared("small_product", (side, side, side), blocks, blas)
        for side in (64, 128, 192, 256, 384)
    ]
    return found


def _compared(field: str, sizes: tuple[int, int, int], blocks: Costs, blas: Costs) -> Measured:
    times = [microseconds(Tape(product_calls(*sizes, costs)).run) for costs in (blocks, blas)]
    rows, inner, columns = sizes
    return Measured(
        field,
        f"({rows}, {inner}) @ ({inner}, {columns})",
        f"{times[0]:.1f} and {times[1]:.1f} us",
        f"blocks on a thread, and BLAS; {rows * inner * columns:,d} multiplications",
    )


def threads() -> list[Measured]:
    """Measure kernels on one thread and on all."""
    if loading.library().omp_get_max_threads() == 1:
        return [Measured("shared_instructions", "waking threads", "not measured", "one thread")]
    alone = replace(OPTIMISED, shared_instructions=NEVER)
    together = replace(OPTIMISED, shared_instructions=0)
    waking = microseconds(Tape(calls_of(chain(8, LITTLE), together)).run)
    found = [Measured("shared_instructions", "waking threads", f"{waking:.1f} us", "")]
    for elements in (1 << 14, 1 << 16, 1 << 18, 1 << 20):
        kernels = [calls_of(chain(8, elements), costs) for costs in (alone, together)]
        times = [microseconds(Tape(calls).run) for calls in kernels]
        found.append(
            Measured(
                "shared_instructions",
                f"{8 * elements:,d}",
                f"{times[0]:.0f} and {times[1]:.0f} us",
                "8 instructions on one thread, and on all",
            )
        )
    return found


def code() -> list[Measured]:
    """Measure compiling with and without optimisation, and what functions that are called take."""
    found = []
    for what, limit in (("optimised", 0), ("not optimised", NEVER)):
        costs = replace(DEFAULT, unoptimised_elements=limit)
        times = []
        for count in (1, 17):
            # Of a structure that nothing else here has, since code is kept.
            y = ksym.placeholder((8, 8)) - 0.125
            for _ in range(count):
                y = ksym.tanh(y)
            start = time.perf_counter()
            calls = calls_of([y], costs)
            times.append((time.perf_counter() - start) * 1e3)
            if count == 1:
                run = taped(calls)
        each = (times[1] - times[0]) / 16
        found += [
            Measured("instructions", f"{what} code", f"{each:.2f} ms", "to compile a tanh more"),
            Measured(
                "unoptimised_elements",
                f"{what} code",
                f"{times[0]:.1f} ms and {run:.2f} us",
                "to compile a tanh, and to run it on 64 elements",
            ),
        ]
    for name, function in CALLED.items():
        for elements in (64, 256, 4096):
            x = ksym.placeholder((elements,))
            called = kernel_time([function(x, x)])
            operator = (native(9, elements, function) - native(1, elements, function)) / 8
            found.append(
                Measured(
                    "called_elements",
                    f"{name} of {elements:,d}",
                    f"{called:.2f} and {operator:.2f} us",
                    "in a kernel, and natively",
                )
            )
    return found


def main() -> None:
    """Measure and print."""
    loading.library()  # it settles the threads
    print(f"threads {os.environ.get('OMP_NUM_THREADS')}, load {os.getloadavg()[0]:.1f}")
    found: list[Measured] = []
    for measure in (native_operators, kernels, divided_graphs, products, threads, code):
        found += measure()
    print("\n".join(head("", "of", "in `Costs`", "measured", "how")))
    for each in sorted(found, key=lambda each: [*vars(DEFAULT)].index(each.field)):
        print(row(f"`{each.field}`", each.what, _printed(each.field), each.value, each.how))


def _printed(field: str) -> str:
    value = getattr(DEFAULT, field)
    if isinstance(value, int):
        return f"{value:,d}"
    return f"{value} us" if value > 0.1 else f"{value * 1e3:.3g} ns"


if __name__ == "__main__":
    main()
