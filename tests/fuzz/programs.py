"""Random graphs of all operators, loops and branches, which hypothesis draws and shrinks.

Operands come from the samples that operators declare; some of them are replaced by results of other
operators, which makes a graph of single samples.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from typing import NamedTuple

import numpy as np
from drawing import KINDS, HypothesisDraw
from evaluating import UnclearError, evaluate

import ksym
from ksym import dtypes
from ksym.errors import KsymError
from ksym.graph import OPERATORS, Tensor, topological_order

LEFT_OUT = {
    "placeholder": "it is a leaf",
    "variable": "it is a leaf",
    "failed": "it stands for an error",
    "print_value": "it prints",
    "check_value": "it raises errors of its own",
    "with_gradient": "its gradient is a rule of the user's, not that of its value",
}
"""The operators that no graph has, and the reasons; those that draw numbers are left out too."""

SIDES = (0, 1, 7, 13, 2053)
"""Sizes that axes of samples are changed to: empty, single, primes, beyond 2^11 for float16."""

LARGEST = 40_000
"""The largest number of elements of an operand."""

STEPS, DEPTH = 8, 2
"""The largest number of steps of a graph, and of loops and branches inside of each other."""


def is_random(operator):
    """Whether an operator draws numbers, anew at each call."""
    return not operator.pure and operator.runs == "native"


NAMES = sorted(
    name
    for name, each in OPERATORS.items()
    # What is a part of gradients comes with them, and need not take other operands.
    if name not in LEFT_OUT and not is_random(each) and not each.internal
)


def extremes(dtype):
    """Return the numbers of a dtype at which arithmetic changes its manner."""
    if dtype == "bool":
        return [False, True]
    if not dtypes.is_float(dtype):
        limits = np.iinfo(dtype)
        borders = [2**24, 2**24 + 1, 2**53, 2**53 + 1, -(2**24) - 1, -(2**53) - 1]
        inside = [b for b in borders if limits.min <= b <= limits.max]
        return [limits.min, limits.max, limits.min + 1, 0, 1, *inside]
    limits = np.finfo(dtype)
    digits = limits.nmant + 1
    borders = [2.0**digits, 2.0**digits + 2.0, -(2.0**digits) - 2.0]
    tiny, big = float(limits.tiny), float(limits.max)
    numbers = [math.inf, -math.inf, math.nan, tiny / 4, -tiny / 2, tiny, big, -big, 0.0, -0.0]
    return [*numbers, *borders]


class Range(NamedTuple):
    """What a sample says of an array that it draws."""

    low: float
    high: float


class Known(NamedTuple):
    """A tensor of a graph, and what it is for the values that the graph is drawn with."""

    tensor: Tensor
    value: np.ndarray


class Recording(HypothesisDraw):
    """Draws a sample, and keeps which range each of its arrays was drawn from."""

    def __init__(self, data):
        super().__init__(data)
        self.ranges = []

    def array(self, shape, low=-2.0, high=2.0, **options):
        drawn = super().array(shape, low, high, **options)
        self.ranges.append((drawn, Range(low, high)))
        return drawn

    def range_of(self, array):
        """The range of an operand; None if it was computed from what was drawn."""
        return next((r for drawn, r in self.ranges if drawn is array), None)


class Graph:
    """A graph that is drawn step by step, with its inputs and their values.

    Attributes:
        inputs: The placeholders.
        values: Their values.
        known: The tensors that further steps take as operands.
        used: How often each operator was applied.
        refused: How many steps were refused.
    """

    def __init__(self, data):
        self._data = data
        self.draw = HypothesisDraw(data)
        self.inputs, self.values, self.known = [], [], []
        self.used, self.refused = Counter(), 0
        self._hide = self.draw.choose(("none", "all", "some"))
        self._extreme = self.draw.choose((False, False, True))

    def grow(self):
        """Draw all steps."""
        for _ in range(self.draw.integer(1, STEPS)):
            self.step(self.known, 0)

    def step(self, known, depth):
        """Add the results of an operator, a loop or a branch to the known tensors."""
        kinds = ["operator"] * 8
        if known and depth < DEPTH:
            kinds += ["scan", "cond", "while_loop", "map_fn"]
        kind = self.draw.choose(kinds)
        sizes = len(self.inputs)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                results = getattr(self, f"_{kind}")(known, depth)
            feeds = {k.tensor: k.value for k in known}
            feeds |= dict(zip(self.inputs, self.values, strict=True))
            found = evaluate(results, feeds)
        except (KsymError, UnclearError):
            # Mistakes are the subject of other tests.  Inputs that were made for it stay unused.
            self.refused += 1
            del self.inputs[sizes:], self.values[sizes:]
            return
        for tensor, value in zip(results, found, strict=True):
            if value.size <= LARGEST:
                known.append(Known(tensor, value))

    # --- leaves and operands ---

    def leaf(self, array, depth):
        """Return a placeholder with a value, its sizes known or not; constants in bodies."""
        if depth or self.draw.choose((False, False, False, True)):
            return ksym.constant(array)
        hide = {"none": lambda: False, "all": lambda: True}.get(
            self._hide, lambda: self.draw.choose((True, False))
        )
        shape = tuple(None if hide() else side for side in array.shape)
        self.inputs.append(ksym.placeholder(shape, array.dtype.name))
        self.values.append(array)
        return self.inputs[-1]

    def _with_extremes(self, array):
        """Replace some elements by extreme numbers."""
        if not self._extreme or not array.size or not self.draw.choose((True, False)):
            return array
        rng = np.random.default_rng(self.draw.integer(0, 2**16))
        changed = array.copy()
        chosen = rng.random(array.shape) < 0.3
        with np.errstate(over="ignore"):
            changed[chosen] = rng.choice(
                np.array(extremes(array.dtype.name), array.dtype), chosen.sum()
            )
        return changed

    def _operand(self, array, limits, operator, known, depth):
        """Return a tensor for an operand: a leaf, or a known tensor that is made to fit."""
        free = limits is not None and (operator.elementwise or array.dtype.kind == "f")
        usable = [k for k in known if k.value.size or not array.size]
        if limits is None or not usable or self.draw.choose((False, False, True)):
            return self.leaf(self._with_extremes(array) if free else array, depth)
        source = self.draw.choose(usable)
        fitting = fitted(source, array.shape, array.dtype.name)
        within = self.draw.choose(("bend", "cut", "leave") if free else ("bend",))
        return bounded(fitting, limits, within)

    def _resized(self, operator, sample):
        """Return the operands with one of their sizes changed wherever it occurs."""
        operands = list(sample.operands)
        sides = sorted({side for a in operands for side in a.shape})
        if not sides or not self.draw.choose((False, False, True)):
            return operands
        old, new = self.draw.choose(sides), self.draw.choose(SIDES)
        changed = []
        for position, array in enumerate(operands):
            shape = tuple(new if side == old else side for side in array.shape)
            fits = (
                math.prod(side or 1 for side in shape) <= LARGEST
                and position not in operator.static_operands
            )
            if shape != array.shape and fits and (array.size or not math.prod(shape)):
                array = np.resize(array, shape) if array.size else np.zeros(shape, array.dtype)
            changed.append(array)
        return changed

    # --- steps ---

    def _operator(self, known, depth):
        name = self.draw.choose(NAMES)
        operator = OPERATORS[name]
        recording = Recording(self._data)
        sample = operator.sample(recording)
        arrays = self._resized(operator, sample)
        operands = []
        for position, (array, drawn) in enumerate(zip(arrays, sample.operands, strict=True)):
            if position in operator.static_operands:
                operands.append(array)
            else:
                limits = recording.range_of(drawn)
                operands.append(self._operand(array, limits, operator, known, depth))
        result = operator.apply(*operands, **sample.attributes)
        self.used[name] += 1
        return [result] if isinstance(result, Tensor) else list(result)

    def _inside(self, known, depth):
        """Draw the steps of a body, and return what they make."""
        inner = list(known)
        for _ in range(self.draw.integer(1, 3)):
            self.step(inner, depth + 1)
        made = [k for k in inner[len(known) :] if None not in k.tensor.shape]
        return made or [k for k in inner if k.value.size] or inner

    def _like(self, choices, value):
        """Return a new tensor of the shape and dtype of a value, from one of several."""
        usable = [k for k in choices if k.value.size or not value.size]
        if not usable:
            return ksym.constant(value)
        source = self.draw.choose(usable)
        return bounded(fitted(source, value.shape, value.dtype.name), Range(-2, 2), "bend")

    def _scan(self, known, depth):
        sequences = [k for k in known if k.value.ndim and k.value.shape[0] in (1, 2, 3, 5, 7)]
        sequence = [self.draw.choose(sequences)] if sequences else []
        states = [
            self.draw.choose(known) for _ in range(self.draw.integer(0 if sequence else 1, 2))
        ]
        steps = None if sequence else self.draw.integer(1, 4)

        def body(*parameters):
            values = [k.value[0] for k in sequence] + [k.value for k in states]
            inner = [Known(t, np.asarray(v)) for t, v in zip(parameters, values, strict=True)]
            # What the body takes from outside: not all, or each loop would have every tensor.
            inner += [k for k in known if self.draw.choose((False, False, True))]
            made = self._inside(inner, depth)
            following = [self._like(made, k.value) for k in states]
            return [self.draw.choose(made).tensor], following

        options = {"reverse": self.draw.choose((False, True))}
        if self.draw.choose((False, False, True)):
            options["checkpoint_every"] = self.draw.integer(1, 3)
        scanned = ksym.scan(
            body, [k.tensor for k in sequence], [k.tensor for k in states], steps=steps, **options
        )
        self.used["scan"] += 1
        return [*scanned.outputs, *scanned.states]

    def _map_fn(self, known, depth):
        sequences = [k for k in known if k.value.ndim and k.value.shape[0] in (1, 2, 3, 5, 7)]
        if not sequences:
            return []
        sequence = self.draw.choose(sequences)

        def body(element):
            made = self._inside([Known(element, np.asarray(sequence.value[0]))], depth)
            return self.draw.choose(made).tensor

        self.used["scan"] += 1
        return [ksym.map_fn(body, sequence.tensor)]

    def _cond(self, known, depth):
        decisive, like = self.draw.choose(known), self.draw.choose(known).value
        condition = ksym.sum(ksym.cast(decisive.tensor, "float32")) > 0.5

        def branch():
            return self._like(self._inside(known, depth), like)

        self.used["cond"] += 1
        return [ksym.cond(condition, branch, branch)]

    def _while_loop(self, known, depth):
        state, steps = self.draw.choose(known), self.draw.integer(0, 3)

        def body(i, s):
            made = self._inside([Known(s, state.value), *known[:2]], depth)
            return [i + 1, self._like(made, state.value)]

        self.used["while_loop"] += 1
        return ksym.while_loop(lambda i, s: i < steps, body, [ksym.constant(0), state.tensor])


def fitted(source, shape, dtype):
    """Return a tensor of a shape and dtype with elements of another, repeated or cut off."""
    tensor, value = source
    if value.shape != tuple(shape) or None in tensor.shape:
        size = math.prod(shape)
        flat = ksym.reshape(tensor, (-1,))
        if value.size < size:
            flat = ksym.tile(flat, (-(-size // value.size),))
        tensor = ksym.reshape(flat[:size] if value.size != size else flat, tuple(shape))
    if tensor.dtype == dtype:
        return tensor
    if dtype == "bool":
        return tensor > 0
    if tensor.dtype == "bool" or dtypes.is_float(dtype):
        return ksym.cast(tensor, dtype)
    if dtypes.is_float(tensor.dtype):
        return ksym.cast(ksym.clip(ksym.nan_to_num(tensor), 0.0, 100.0), dtype)
    return ksym.cast(tensor, dtype)


def bounded(tensor, limits, how):
    """Return a tensor with elements in a range, or as they are."""
    if how == "leave" or tensor.dtype == "bool":
        return tensor
    low, high = limits
    if not dtypes.is_float(tensor.dtype):
        low, high = max(math.ceil(low), np.iinfo(tensor.dtype).min), math.floor(high)
        low, high = max(low, -100), min(high, 100)
        low = max(low, 0) if tensor.dtype == "uint8" else low
        return ksym.mod(tensor, high - low + 1) + low
    if how == "cut":
        return ksym.clip(tensor, low, high)
    return ksym.sigmoid(tensor) * (high - low) + low


def operators_of(outputs):
    """Return how often each operator is in a graph."""
    return Counter(node.operator.name for node in topological_order(outputs))


__all__ = ["KINDS", "Graph", "Known", "operators_of"]
