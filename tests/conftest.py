import inspect
import os
import sys
import tempfile

# Settled before anything imports Keras or loads MXNet.
os.environ["KERAS_BACKEND"] = "ksym.backend"
os.environ.setdefault("KSYM_DEVICE", "cpu")
# On a GPU: no search for the fastest kernels at each new shape, and repeatable ones.
os.environ.setdefault("MXNET_CUDNN_AUTOTUNE_DEFAULT", "0")
os.environ.setdefault("MXNET_ENFORCE_DETERMINISM", "1")
# Keras keeps its settings in a folder, and ksym compiled code; not the user's.
os.environ["KERAS_HOME"] = tempfile.mkdtemp(prefix="ksym-tests-")
os.environ["KSYM_CACHE"] = os.path.join(os.environ["KERAS_HOME"], "code")

import coverage_table
import hypothesis
import numpy as np
import pytest

hypothesis.settings.register_profile("ci", max_examples=25, deadline=None, derandomize=True)
# 2000 examples, over four checks, for each of 300 operators take two processes an hour and a half:
# some 17 ms an example.
hypothesis.settings.register_profile(
    "deep",
    max_examples=500,
    deadline=None,
    database=None,  # two processes would write to one
    print_blob=True,  # in its stead, what repeats a failure
    suppress_health_check=[hypothesis.HealthCheck.too_slow],  # a busy machine is no failure
)
# Few drawn cases, for what `make test` has tested already in another way.
hypothesis.settings.register_profile(
    "brief", max_examples=3, deadline=None, derandomize=True, database=None
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "host_access: needs arrays that the host can access, and so compiled kernels"
    )


def pytest_runtest_setup(item):
    if item.get_closest_marker("host_access"):
        from ksym.runtime.arrays import is_direct

        if not is_direct():
            pytest.skip("on a GPU, or an asynchronous engine, the host cannot access arrays")


@pytest.fixture(autouse=True)
def seeded():
    np.random.seed(0)


@pytest.fixture
def shallow_stack():
    """Little room for recursion, so that a recursive walk over a deep graph fails."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 200)
    yield
    sys.setrecursionlimit(limit)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# What the property tests covered is printed at the end, summed over all processes.


def pytest_sessionfinish(session):
    output = getattr(session.config, "workeroutput", None)
    if output is not None:  # one of several processes: what it counted goes to the one that prints
        output["coverage_table"] = coverage_table.counts()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    coverage_table.add(getattr(node, "workeroutput", {}).get("coverage_table", {}))


def pytest_terminal_summary(terminalreporter):
    for line in coverage_table.lines(full=os.environ.get("HYPOTHESIS_PROFILE") == "deep"):
        terminalreporter.write_line(line)
