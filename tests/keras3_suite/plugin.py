"""A pytest plugin that makes Keras 3's own tests test ksym.

Nothing of Keras or of its tests is edited.

- ksym is plugged in before Keras is imported.
- What Keras's own conftest.py has, which its distribution lacks, is there: markers, a function.
- ``trainer_test.py`` imports the trainer of the backends whose names it knows: while it is being
  imported, the backend has the name by which ksym is known to Keras's list.
- Tests draw random numbers: each starts from a seed of its own, so that a run can be repeated.
- What came of each test is written to the file named in ``KERAS_SUITE_REPORT``, as lines of JSON.
"""

import os
import random
import sys
import types
import zlib

import keras_ksym  # isort: skip - the first, so that Keras finds it

import _pytest.python
import keras
import numpy as np
import pytest
from keras.src.backend import config
from reporting import pytest_collectreport, pytest_runtest_logreport  # noqa: F401 - pytest's hooks

from keras_ksym import hook

POSING = ("trainer_test.py",)


class _Module(_pytest.python.Module):
    """A file of tests, imported under another name of the backend if it asks for one."""

    def _getobj(self):
        if os.path.basename(str(self.path)) not in POSING:
            return super()._getobj()
        config._BACKEND = hook.POSE
        try:
            return super()._getobj()
        finally:
            config._BACKEND = hook.NAME


def _skip_if_backend(given, reason):
    return pytest.mark.skipif(keras.config.backend() == given, reason=reason)


# Tests import it from Keras's conftest.py.
sys.modules["conftest"] = types.ModuleType("conftest")
sys.modules["conftest"].skip_if_backend = _skip_if_backend


def pytest_configure(config):
    for name in ("requires_trainable_backend", "multi_device"):
        config.addinivalue_line("markers", f"{name}: as in Keras's conftest.py")
    assert keras.config.backend() == hook.NAME, keras_ksym


def pytest_pycollect_makemodule(module_path, parent):
    return _Module.from_parent(parent, path=module_path)


def pytest_collection_modifyitems(items):
    for item in items:
        if "multi_device" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="Requires multiple devices"))


def pytest_runtest_setup(item):
    seed = zlib.crc32(item.nodeid.encode())
    random.seed(seed)
    np.random.seed(seed % 2**32)
