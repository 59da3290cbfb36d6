"""A pytest plugin that makes Keras 2.3.1's own tests test a backend they do not know.

Nothing of Keras or of its tests is edited.

- ``backend_test.py`` compares ``keras.backend.tensorflow_backend`` or ``theano_backend`` with
  NumPy: modules of these names stand for the backend that Keras has loaded.
- Three files are skipped where they are imported unless the backend's name is "tensorflow", though
  what they test is there: that is its name while these files are being imported.
- Some tests are skipped one by one for backends not named "tensorflow", though what they test is
  there: they are run.
- Some tests ask NumPy for a name that NumPy 2 dropped, and Keras does not use: it is there.
- Tests draw random numbers: each starts from a seed of its own, so that a run can be repeated.
- A queue of batches that a test does not stop leaves its generator in a table that Keras sends to
  each process that it spawns.  One with a lock cannot be sent, and the next test that spawns
  processes would wait for their results for ever: each test starts with an empty table.
- What came of each test is written to the file named in ``KERAS_SUITE_REPORT``, as lines of JSON.
"""

import importlib
import os
import random
import sys
import types
import zlib

import _pytest.python
import keras
import numpy as np
from keras.utils import data_utils
from reporting import pytest_collectreport, pytest_runtest_logreport  # noqa: F401 - pytest's hooks

NAMED_TENSORFLOW = ("losses_test.py", "metrics_test.py", "metrics_confusion_matrix_test.py")

NOT_SKIPPED = (
    "integration_tests/test_temporal_data_tasks.py::test_embedding_with_clipnorm",
    "keras/backend/backend_test.py::TestBackend::test_batchnorm_cntk",
    "keras/backend/backend_test.py::TestBackend::test_batchnorm_tf",
    "keras/backend/backend_test.py::TestBackend::test_ctc_decode_beam_search",
    "keras/backend/backend_test.py::TestBackend::test_ctc_decode_greedy",
    "keras/backend/backend_test.py::TestBackend::test_logsumexp_optim",
    "keras/backend/backend_test.py::TestBackend::test_none_shape_operations",
    "keras/backend/backend_test.py::TestBackend::test_update",
    "keras/engine/test_training.py::test_training_and_eval_methods_on_symbolic_tensors_multi_io",
    "keras/engine/test_training.py::test_training_and_eval_methods_on_symbolic_tensors_single_io",
    "keras/optimizers_test.py::test_no_grad",
)


if not hasattr(np, "alltrue"):
    np.alltrue = np.all


def _stand_in(slot):
    module = types.ModuleType(f"keras.backend.{slot}")
    for source in ("keras.backend.common", keras.backend.backend()):
        names = vars(importlib.import_module(source))
        module.__dict__.update({k: v for k, v in names.items() if not k.startswith("__")})
    sys.modules[module.__name__] = module
    setattr(keras.backend, slot, module)


class _Module(_pytest.python.Module):
    """A file of tests, imported under another name of the backend if it asks for one."""

    def _importtestmodule(self):
        if os.path.basename(str(self.fspath)) not in NAMED_TENSORFLOW:
            return super()._importtestmodule()
        # They import tensorflow too, for its version and for functions they do not reach.
        tensorflow = types.ModuleType("tensorflow")
        tensorflow.__version__ = "2.0.0"
        backend = keras.backend.backend
        keras.backend.backend = lambda: "tensorflow"
        sys.modules["tensorflow"] = tensorflow
        try:
            return super()._importtestmodule()
        finally:
            keras.backend.backend = backend
            del sys.modules["tensorflow"]


def pytest_configure(config):
    # Two modules, not one twice: the tests turn kernels round for Theano.
    for slot in ("tensorflow_backend", "theano_backend"):
        _stand_in(slot)


def pytest_pycollect_makemodule(path, parent):
    return _Module.from_parent(parent, fspath=path)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.nodeid.partition("[")[0] in NOT_SKIPPED:
            item.own_markers = [mark for mark in item.own_markers if mark.name != "skipif"]


def pytest_runtest_setup(item):
    seed = zlib.crc32(item.nodeid.encode())
    random.seed(seed)
    np.random.seed(seed)
    data_utils._SHARED_SEQUENCES.clear()
