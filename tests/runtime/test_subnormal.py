"""Subnormal numbers: zeros while graphs are computed, and as ever elsewhere."""

import platform
import sys

import numpy as np
import pytest

import ksym
from ksym.runtime.subnormal import FlushedSubnormals

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64",
    reason="processors are told so on Linux on x86-64 only",
)
SMALL = np.full(8, 2.0**-126, "float32")  # the smallest that is normal


def keeps_subnormals():
    """Whether NumPy computes with them on this thread."""
    return bool((SMALL / np.float32(4.0)).all())


@pytest.mark.parametrize("mode", ["native", "interpret"])
def test_results_too_small_to_be_normal_are_zero(mode):
    x = ksym.placeholder((8,), "float32")
    share = ksym.function([x], x / 4.0, mode=mode)
    np.testing.assert_array_equal(share(SMALL), np.zeros(8, "float32"))
    np.testing.assert_array_equal(share(4.0 * SMALL), SMALL)
    assert keeps_subnormals()


def test_gradients_vanish_over_many_steps_without_a_trace_of_subnormals():
    h = ksym.Variable(np.ones((4, 4), "float32"))
    (last,) = ksym.scan(lambda state: ([], ksym.tanh(0.1 * state)), states=[h], steps=40).states
    # 0.1**40 is less than the smallest normal number, and more than the smallest subnormal one.
    (gradient,) = ksym.function([], ksym.gradients(ksym.sum(last), [h]))()
    np.testing.assert_array_equal(gradient, np.zeros((4, 4), "float32"))


def test_a_call_that_fails_leaves_the_thread_as_it_was():
    x = ksym.placeholder((2, 2), "float32")
    function = ksym.function([x], ksym.cholesky(x))
    with pytest.raises(ksym.KsymError):
        function(-np.eye(2, dtype="float32"))
    assert keeps_subnormals()


def test_the_three_steps_are_functions_of_c_which_no_signal_interrupts():
    flushed = FlushedSubnormals()
    for step in (flushed.save, flushed.flush, flushed.restore):
        assert not hasattr(step, "__code__")
    flushed.save()
    flushed.flush()
    assert not keeps_subnormals()
    flushed.restore()
    assert keeps_subnormals()
