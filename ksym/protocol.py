"""NumPy's functions on tensors: the functions of ksym that have the same names.

NumPy asks an operand that is no array of its own what a function is to do (`__array_ufunc__` of
NEP 13, `__array_function__` of NEP 18).  Where ksym has the function, a call of NumPy's is one of
ksym's; where it has not, the error says so.
"""

from __future__ import annotations

import functools
import warnings

import numpy as np

from ksym.graph import NUMPY, Tensor
from ksym.ops import public
from ksym.ops.elementwise.rounding import round_
from ksym.ops.elementwise.unary import abs_
from ksym.ops.reductions.reduction import all_, any_, max_, min_, sum_

OTHER_MEANING = ("resize", "svd")
"""Functions that mean something else in NumPy, or return something else by default."""

ON_LAST_AXES = ("diagonal", "trace")
"""Functions of numpy.linalg, since NumPy 2.0, that mean the last two axes, not the first two."""


def _fill() -> None:
    ours = {name: getattr(public, name) for name in dir(public) if not name.startswith("_")}
    for function in (abs_, all_, any_, max_, min_, round_, sum_):
        ours[function.name] = function
    for name, function in ours.items():
        if name in OTHER_MEANING or not callable(function):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for module in (np, np.linalg):
                theirs = getattr(module, name, None)
                if module is np.linalg and name in ON_LAST_AXES:
                    continue
                if callable(theirs) and not isinstance(theirs, type):
                    NUMPY[theirs] = function
    NUMPY[np.around] = NUMPY[np.round]
    NUMPY[np.amax], NUMPY[np.amin] = max_, min_
    NUMPY[np.shape] = lambda x: x.shape if isinstance(x, Tensor) else np.shape(x)
    NUMPY[np.ndim] = lambda x: x.rank if isinstance(x, Tensor) else np.ndim(x)
    # What NumPy 2 added or renamed.
    if hasattr(np, "trapezoid"):
        NUMPY[np.trapezoid] = public.trapz
    if hasattr(np, "astype"):
        NUMPY[np.astype] = lambda x, dtype, /, *, copy=True: public.cast(x, dtype)
    for name in ON_LAST_AXES:
        if hasattr(np.linalg, name):
            function = getattr(public, name)
            NUMPY[getattr(np.linalg, name)] = functools.partial(function, axis1=-2, axis2=-1)


_fill()
