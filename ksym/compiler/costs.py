"""What things cost on the machine, and how much may be spent: all numbers that decide by measure.

Each field says its unit, what it decides, and what was measured.  `benchmarks/costs.py` takes the
times again and prints them beside these.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """The costs and limits by which graphs are compiled; a field of `ksym.compiler.plan.Target`."""

    native_operator: float = 1.3
    native_element: float = 0.6e-3
    kernel: float = 1.0
    instruction: float = 0.06e-3
    stream: float = 0.05e-3
    native_graph: float = 10.0
    instructions: int = 64
    instructions_in_all: int = 2048
    fusing_rounds: int = 8
    called_elements: int = 256
    summands: int = 1 << 14
    loop_memory: int = 1 << 28
    folded_elements: int = 1024
    simplifying_rounds: int = 32
    shared_instructions: int = 1 << 21
    small_product: int = 8 << 20
    blocked_columns: int = 8
    unoptimised_elements: int = 64


DEFAULT = Costs()
