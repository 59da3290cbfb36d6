"""Failures outside of operators: each names an operator, a size and a line, and changes nothing."""

import numpy as np
import pytest

import ksym
from ksym.errors import ExecutionError
from ksym.runtime.arrays import is_direct
from ksym.runtime.capi import NDArray
from ksym.runtime.loading import NativeError


def made(mode):
    """Return a function with native work, kernels and updates, and its variables."""
    x = ksym.placeholder((8, 8))
    v, w = ksym.Variable(np.ones((8, 8), "float32")), ksym.Variable(1.0)
    noise = ksym.random_normal((8, 8))
    y = ksym.tanh(x @ v) + ksym.det(x) + noise
    f = ksym.function([x], [y], updates=[v.assign(v + y), w.assign_add(1.0)], mode=mode)
    return f, (v, w)


def failure(f, value):
    """Return the error of a call, None if it succeeds."""
    try:
        f(value)
    except ExecutionError as error:
        return error
    return None


@pytest.mark.parametrize("mode", ["native", "interpret"])
def test_memory_that_ends_names_operator_size_and_line(mode, monkeypatch):
    allocate, value = NDArray.empty, np.eye(8, dtype="float32")
    left = [0]

    def empty(shape, dtype, context):
        left[0] -= 1
        if left[0] < 0:
            raise NativeError("MXNetError: Failed to allocate CPU Memory")
        return allocate(shape, dtype, context)

    monkeypatch.setattr(NDArray, "empty", empty)
    failures = 0
    while True:
        left[0] = failures
        f, variables = made(mode)
        error = failure(f, value)
        if error is not None:
            text = str(error)
            assert "MXNet cannot allocate float32" in text
            assert "MiB" in text
            assert "Failed to allocate CPU Memory" in text
            assert f"made at: {__file__}" in text
            assert error.operator
            left[0] = 10**6
            np.testing.assert_array_equal(variables[0].get_value(), np.ones((8, 8)))
            assert variables[1].get_value() == 1.0
            f(value)
            assert variables[1].get_value() == 2.0
            failures += 1
            continue
        break
    assert failures > (5 if is_direct() else 4)  # a kernel has an array more


def test_memory_that_ends_in_python_names_the_largest_result(monkeypatch):
    f, variables = made("native")
    f(np.eye(8, dtype="float32"))
    _, program = f._programs.last

    def run():
        raise MemoryError("Unable to allocate 8.00 GiB")

    monkeypatch.setattr(program, "run", run)
    with pytest.raises(
        ExecutionError, match=r"memory ended: Unable to allocate 8.00 GiB"
    ) as caught:
        f(np.eye(8, dtype="float32"))
    assert __file__ in str(caught.value)
    assert variables[1].get_value() == 2.0


SINGULAR = np.zeros((3, 3), "float32")


@pytest.mark.parametrize("mode", ["native", "interpret"])
@pytest.mark.parametrize("make", [ksym.constant, ksym.Variable])
@pytest.mark.parametrize("factorise", [ksym.inv, ksym.cholesky, lambda a: ksym.solve(a, a[:, :1])])
def test_matrices_that_cannot_be_factorised_are_execution_errors(mode, make, factorise):
    result = factorise(make(SINGULAR))
    with pytest.raises(ExecutionError, match=r"MXNet failed") as caught:
        ksym.function([], result, mode=mode)()
    assert __file__ in str(caught.value)
