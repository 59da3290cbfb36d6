"""Functions that have the names of NumPy's have NumPy's signatures, but for the listed ones.

A call that both take means the same in both: the parameters that ksym has stand where NumPy's
stand, under the same names, with the same defaults.  The list is in docs/semantics.md.
"""

import inspect
import re
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest

import ksym

PAGE = (Path(__file__).parents[1] / "docs" / "semantics.md").read_text()
TABLE = PAGE.split("## Names that NumPy has too")[1].split("\n## ")[0]

NUMPY_2 = np.lib.NumpyVersion(np.__version__) >= "2.0.0"

LISTED = {
    name: reason
    for names, reason in re.findall(r"^\| (`.*?) \| (.*?) \|$", TABLE, re.MULTILINE)
    for name in re.findall(r"`(\w+)`", names)
}
"""The names that the page lists, with what it says of them."""

# As the docstrings say: those in C have no signature, others hide a part behind **kwargs.
IN_C = {
    "arange": "(start, stop=None, step=1, dtype=None)",
    "bincount": "(x, weights=None, minlength=0)",
    "concatenate": "(tensors, axis=0)",
    "copysign": "(x1, x2)",
    "dot": "(a, b)",
    "einsum": "(subscripts, *operands)",
    "inner": "(a, b)",
    "pad": "(array, pad_width, mode='constant', constant_values=0)",
    "unravel_index": "(indices, shape)",
    "vdot": "(a, b)",
    "where": "(condition, x, y)",
    "zeros": "(shape, dtype=float)",
}


def numpys(name):
    """The function of a name, in NumPy or its linear algebra; None if it has none."""
    for module in (np, np.linalg):
        found = getattr(module, name, None)
        if callable(found) and not isinstance(found, type):
            return found
    return None


NAMES = sorted(
    name
    for name in dir(ksym)
    if not name.startswith("_") and callable(getattr(ksym, name)) and numpys(name) is not None
)


def signature_of(function, name):
    if isinstance(function, np.ufunc):
        operands = ", ".join(f"x{i}" for i in range(function.nin))
        namespace = {}
        exec(f"def ufunc({operands}): pass", namespace)
        return inspect.signature(namespace["ufunc"])
    if name in IN_C:
        namespace = {}
        exec(f"def written{IN_C[name]}: pass", namespace)
        return inspect.signature(namespace["written"])
    return inspect.signature(function)


def differences(name):
    """What of ksym's signature is not NumPy's, one sentence each."""
    ours = list(inspect.signature(getattr(ksym, name)).parameters.values())
    theirs = list(signature_of(numpys(name), name).parameters.values())
    by_name = {p.name.lower(): p for p in theirs}
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    for place, (our, their) in enumerate(zip_longest(ours, theirs)):
        if our is None:
            break
        operand = our.default is our.empty and our.name in ("x", "y", "a", "b", "v", "tensors")
        required = their is not None and their.default is their.empty
        if (
            (operand or isinstance(numpys(name), np.ufunc))
            and required
            and their.kind in positional
        ):
            continue  # operands have ksym's names: they are given by position
        if our.kind is our.VAR_POSITIONAL:
            if their is None or their.kind is not our.kind:
                yield f"{our.name} are several"
            continue
        same = by_name.get(our.name.lower())
        if same is None:
            yield f"NumPy has no {our.name}"
        elif our.kind in positional and (their is None or their.name.lower() != our.name.lower()):
            yield f"{our.name} is parameter {place} here"
        if our.default is our.empty and NUMPY_2:
            continue  # it gave some a default
        if same is not None and not same_default(our.default, same.default):
            yield f"{our.name} is {our.default!r} by default, in NumPy {same.default!r}"


def same_default(ours, theirs):
    if ours == theirs:
        return True
    if ours == "float32":  # what Python's floats are here, in NumPy float64
        return theirs is float or theirs is None
    return theirs is np._NoValue and ours is False


@pytest.mark.parametrize("name", NAMES)
def test_a_function_of_a_name_that_numpy_has_takes_what_numpys_takes(name):
    found = list(differences(name))
    if name in LISTED:
        assert len(LISTED[name].split()) > 4, "a reason is a sentence"
    else:
        assert found == []


def test_only_names_of_numpy_are_listed():
    assert set(LISTED) <= set(NAMES)


@pytest.mark.skipif(NUMPY_2, reason="NumPy 2 took over some of the differences")
def test_no_name_is_listed_in_vain():
    assert [name for name in LISTED if not list(differences(name))] == []


def test_the_names_are_many():
    assert len(NAMES) > 180
    assert {"concatenate", "take", "cross", "unique", "exp", "svd"} <= set(NAMES)


@pytest.mark.parametrize(
    ("name", "arguments", "keywords"),
    [
        ("concatenate", ([np.eye(2), np.ones((1, 2))],), {}),
        ("concatenate", ([np.eye(2), np.ones((1, 2))],), {"axis": None}),
        ("take", (np.eye(3), [0, 4]), {}),
        ("take", (np.eye(3), [0, 2], -1), {}),
        ("take_along_axis", (np.eye(3), np.array([8, 0]), None), {}),
        ("expand_dims", (np.eye(3), (0, -1)), {}),
        ("cross", (np.eye(3), np.arange(9.0).reshape(3, 3)), {"axisa": 0, "axisc": 0}),
        ("cross", (np.eye(3), np.arange(9.0).reshape(3, 3)), {"axis": 0}),
        ("flip", (np.arange(6.0).reshape(2, 3),), {}),
        ("unique", (np.array([3.0, 1.0, 3.0]),), {}),
        ("clip", (np.array([-1.0, 3.0]), None, 2.0), {}),
        ("clip", (np.array([-1, 3], "int8"), 0, None), {}),
        ("round", (np.array([0.125, 2.675, -1.5]), 2), {}),
        ("round", (np.array([15, 25, -35, 1249]), -1), {}),
        ("pad", (np.eye(2), 1), {"constant_values": 3.0}),
        ("pad", (np.eye(2), (1, 2), "edge"), {}),
        ("arange", (0.0, 1.0, 0.1), {}),
        ("arange", (5,), {}),
        ("sort", (np.array([[3.0, 1.0], [2.0, 0.0]]),), {"axis": None}),
        ("argsort", (np.array([[3.0, 1.0], [2.0, 0.0]]), None), {}),
        ("full", ((2,), 3.0), {}),
        ("full_like", (np.eye(2), 3.0), {"dtype": "int32"}),
        ("ones_like", (np.eye(2), "int32"), {}),
        ("identity", (3,), {}),
        ("copy", (np.eye(2),), {}),
        ("tile", (), {"x": np.eye(2), "reps": 2}),
        ("split", (np.eye(4), [1, 3]), {}),
    ],
)
def test_calls_mean_what_they_mean_in_numpy(name, arguments, keywords):
    outputs = getattr(ksym, name)(*arguments, **keywords)
    expected = getattr(np, name)(
        *arguments, **({"A" if k == "x" else k: v for k, v in keywords.items()})
    )
    single = not isinstance(outputs, tuple)
    found = ksym.function([], [outputs] if single else list(outputs))()
    for result, one in zip(found, [expected] if single else expected, strict=True):
        np.testing.assert_allclose(result, one, rtol=1e-6)
        assert result.dtype.kind == np.asarray(one).dtype.kind


def test_several_results_are_asked_for_as_in_numpy():
    x = ksym.placeholder((None,))
    asked = ksym.unique(x, return_inverse=True, return_counts=True)
    found = ksym.function([x], list(asked))([3.0, 1.0, 3.0])
    expected = np.unique([3.0, 1.0, 3.0], return_inverse=True, return_counts=True)
    for result, one in zip(found, expected, strict=True):
        np.testing.assert_array_equal(result, one)
    first, second = ksym.atleast_2d(1.0, x)
    assert (first.shape, second.shape) == ((1, 1), (1, None))


def test_what_stands_elsewhere_in_numpy_is_given_by_its_name():
    x = ksym.placeholder((2, 3))
    for wrong in (lambda: ksym.sum(x, 0, True), lambda: ksym.sort(x, 0, True)):
        with pytest.raises(ksym.ArgumentError, match="too many positional arguments"):
            wrong()


def test_the_identity_of_a_tensor_names_copy():
    with pytest.raises(ksym.DTypeError, match=r"ksym\.copy"):
        ksym.identity(ksym.placeholder((2,)))
