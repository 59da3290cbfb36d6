"""MXNet's own Python package, as those have it who load what ksym exports."""

import warnings

import pytest

import ksym

pytest.importorskip("mxnet", reason="it wants a NumPy that this Python does not have")
ksym.evaluate(ksym.constant(1.0))  # ksym decides how MXNet is loaded, if it is the first to do so

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # names that NumPy deprecates
    import mxnet as mxnet
