"""Tests of keras_ksym, which `make test-keras-ksym` runs beside Keras 3.

Where Keras is 2.3.1, as in the environment of all other tests, nothing is collected here: the two
are versions of one package.
"""

from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest

try:
    KERAS = version("keras")
except PackageNotFoundError:
    KERAS = "none"

if KERAS.startswith("3."):
    import keras_ksym  # noqa: F401 # isort: skip - before Keras
    import keras
else:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def fresh():
    """Keras's settings and names as at the start; messages whole."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    keras.config.disable_traceback_filtering()
    yield
    keras.mixed_precision.set_dtype_policy("float32")


@pytest.fixture
def rows():
    """32 rows of four numbers, and their sums."""
    x = np.random.default_rng(0).standard_normal((32, 4)).astype("float32")
    return x, x.sum(1, keepdims=True)
