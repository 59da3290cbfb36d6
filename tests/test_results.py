"""Results do not depend on the version of NumPy: dtypes, shapes and values are those of a file.

`results.txt` has what each operator gives for the samples that `tools/reference.py` draws of its
declaration, as scalars and as vectors, of floats and of integers.  ``python
tests/test_results.py`` writes it anew; the tests hold every version of NumPy to it.
"""

import functools
import sys
from pathlib import Path

import numpy as np
import pytest

import ksym
from ksym.graph import OPERATORS, Tensor

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import reference

FILE = Path(__file__).with_name("results.txt")
HEAD = f"# Written by tests/{Path(__file__).name}, which says how; not to be edited."
NAMES = sorted(n for n, o in OPERATORS.items() if o.pure and n not in reference.LEAVES)
KINDS = {"float32": ("float", "int32"), "float16": ("float", "int8"), "uint8": ("integer", "uint8")}
SHOWN = 12
"""How many elements of a result are kept."""

TOLERANCE = {"float16": 2e-3, "float32": 2e-5, "float64": 2e-6}
"""By how much values may differ: NumPy's functions and LAPACK change their last digits."""


class Example(reference._Example):
    """Draws the same always, of a rank and of a dtype where the operator leaves them open."""

    def __init__(self, rank, dtype):
        self.rank, self.own = rank, dtype
        self.first, self.integer_dtype = KINDS[dtype]

    def shape(self, min_rank=0, max_rank=None, min_side=1):
        return (2,) * max(min_rank, self.rank if max_rank is None else min(self.rank, max_rank))

    def dtype(self, *kinds):
        names = {"float": "float32", "integer": self.integer_dtype, "bool": "bool"}
        if self.first == "float":
            names["float"] = self.own
        return names[min(kinds, key=lambda kind: (kind != self.first, list(names).index(kind)))]

    def array(self, shape, low=-2.0, high=2.0, *, dtype=None, apart=0.0, kinks=()):
        dtype = dtype or (self.own if self.first == "float" else "float32")
        low = max(low, 0) if dtype == "uint8" else low
        return super().array(shape, low, high, dtype=dtype)


def compute(name, rank, dtype):
    """Return what an operator gives for a sample."""
    sample = OPERATORS[name].sample(Example(rank, dtype))
    made = OPERATORS[name].apply(*sample.operands, **sample.attributes)
    return ksym.evaluate([made] if isinstance(made, Tensor) else list(made))


def lines(name):
    """Yield a line for each result of an operator."""
    for dtype in KINDS:
        for rank in (0, 1):
            for array in compute(name, rank, dtype):
                shown = " ".join(f"{float(value):.7g}" for value in array.flat[:SHOWN])
                shape = "x".join(map(str, array.shape)) or "scalar"
                yield f"{name} {dtype} {rank}: {array.dtype.name} {shape}: {shown}"


@functools.cache
def kept():
    found = {}
    for line in FILE.read_text().splitlines()[1:]:
        found.setdefault(line.split(" ", 1)[0], []).append(line)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_results_are_those_of_every_numpy(name):
    for found, expected in zip(lines(name), kept()[name], strict=True):
        (about, kind, values), (*same, others) = (t.split(":") for t in (found, expected))
        assert [about, kind] == same
        mine, theirs = ([float(value) for value in text.split()] for text in (values, others))
        bound = TOLERANCE.get(kind.split()[0], 0)
        np.testing.assert_allclose(mine, theirs, rtol=bound, atol=bound / 10, err_msg=about)


def test_every_operator_is_in_the_file_and_nothing_else():
    assert sorted(kept()) == NAMES


if __name__ == "__main__":
    FILE.write_text("\n".join([HEAD, *(line for name in NAMES for line in lines(name))]) + "\n")
