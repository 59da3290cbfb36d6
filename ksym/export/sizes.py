"""How numbers depend on sizes that are not known before a call.

A graph is made for several combinations of sizes, the *points*: one that all others differ from in
one size, and one that differs in all.  What is a number at one point is a `Varying` over all.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

Varying = tuple[Any, ...]
"""The values of a number at all points."""

MOST_FACTORS = 3
"""The largest number of sizes whose product a number can be."""


def points_of(names: Sequence[str], first: int) -> list[dict[str, int]]:
    """Return the combinations of sizes that a graph is made for.

    Args:
        names: The names of the sizes.
        first: The first size at the first point; the others are larger, and all are different.
    """
    base = {name: first + 2 * i for i, name in enumerate(names)}
    varied = [{**base, name: base[name] + 6 + i} for i, name in enumerate(names)]
    last = {name: size + 10 + 3 * i for i, (name, size) in enumerate(base.items())}
    return [base, *varied, last] if names else [base]


def varies(values: Sequence[Any]) -> bool:
    """Return whether a number differs from point to point."""
    return any(value != values[0] for value in values)


class Product(NamedTuple):
    """A number as a product of sizes and a factor, or of a factor divided by sizes.

    Attributes:
        factor: The factor.
        sizes: The sizes.
        inverse: Whether it is divided by them.
    """

    factor: float
    sizes: tuple[Varying, ...]
    inverse: bool


def product_of(values: Varying, known: Iterable[Varying]) -> Product | None:
    """Return a number as a product of sizes that tensors have, None if it is none.

    >>> product_of((10, 14), [(5, 7)])
    Product(factor=2.0, sizes=((5, 7),), inverse=False)
    """
    sizes = list(known)
    for count in range(1, MOST_FACTORS + 1):
        for chosen in itertools.combinations_with_replacement(sizes, count):
            whole = [math.prod(at) for at in zip(*chosen, strict=True)]
            for inverse in (False, True):
                pairs = zip(values, whole, strict=True)
                factors = [v * w if inverse else v / w for v, w in pairs]
                if all(abs(f - factors[0]) <= 1e-6 * abs(factors[0]) for f in factors):
                    near = round(factors[0])
                    exact = near if math.isclose(near, factors[0], rel_tol=1e-9) else factors[0]
                    return Product(float(exact), chosen, inverse)
    return None


def difference_of(values: Varying, known: Iterable[Varying]) -> tuple[Varying, int] | None:
    """Return a number as a size that a tensor has and what is added to it, None if it is none.

    >>> difference_of((4, 6), [(9, 9), (5, 7)])
    ((5, 7), -1)
    """
    for size in known:
        found = [value - side for value, side in zip(values, size, strict=True)]
        if varies(size) and not varies(found):
            return size, found[0]
    return None


def runs_of(shape: Sequence[Varying]) -> Iterator[tuple[int, int]]:
    """Return the parts of a shape that hold all sizes that vary, as start and stop."""
    places = [i for i, side in enumerate(shape) if varies(side)]
    starts, stops = range(places[0], -1, -1), range(places[-1] + 1, len(shape) + 1)
    yield from itertools.product(starts, stops)
