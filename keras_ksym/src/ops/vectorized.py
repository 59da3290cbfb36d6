"""The function that applies another one element by element."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_ksym.src.tensor import has_tensors, numpy_functions


def vectorized(pyfunc: Callable[..., Any], excluded: Any, signature: str | None) -> Any:
    """Make a function that applies pyfunc to the elements of its arguments, which broadcast.

    Args:
        pyfunc: The function.
        excluded: Positions and names of arguments that it gets as they are.
        signature: The axes of one element, as ``"(n),(n)->()"``; scalars without it.
    """
    if not callable(pyfunc):
        raise ValueError(f"pyfunc must be callable. Received: {pyfunc}")
    left_out = set(excluded or ())
    if signature is None:
        ranks = None
    else:
        before = signature.replace(" ", "").split("->")[0]
        ranks = [
            len([n for n in part.split(",") if n]) for part in re.findall(r"\((.*?)\)", before)
        ]

    @functools.wraps(pyfunc)
    def call(*args: Any, **kwargs: Any) -> Any:
        from keras_ksym.src.ops import core

        knp = numpy_functions()

        places = [i for i in range(len(args)) if i not in left_out]
        given = [
            args[i] if has_tensors(args[i]) else core.convert_to_tensor(args[i]) for i in places
        ]
        inner = ranks or [0] * len(given)
        outer = np.broadcast_shapes(
            *(_known(x)[: len(x.shape) - rank] for x, rank in zip(given, inner, strict=True))
        )
        count = int(np.prod(outer, dtype=int))
        rows = [
            knp.reshape(
                knp.broadcast_to(x, (*outer, *x.shape[len(x.shape) - rank :])),
                (count, *x.shape[len(x.shape) - rank :]),
            )
            for x, rank in zip(given, inner, strict=True)
        ]

        def one(elements: Any) -> Any:
            whole = list(args)
            for place, element in zip(places, elements, strict=True):
                whole[place] = element
            return pyfunc(*whole, **kwargs)

        if not outer:
            return one([knp.get_item(row, 0) for row in rows])
        result = core.map(one, rows)
        if isinstance(result, tuple | list):
            return tuple(knp.reshape(r, (*outer, *r.shape[1:])) for r in result)
        return knp.reshape(result, (*outer, *result.shape[1:]))

    return call


def _known(x: Any) -> tuple[int, ...]:
    if None in x.shape:
        raise ValueError(
            f"vectorize needs sizes that are known when it is traced, unlike {x.shape}"
        )
    return tuple(x.shape)
