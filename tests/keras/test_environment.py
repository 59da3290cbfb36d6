"""Keras on an MXNet that is missing or does not load, and other orders of imports."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ksym.runtime import library

ROOT = Path(__file__).parents[2]
MODEL = """
import keras
import numpy as np
model = keras.Sequential([keras.layers.Dense(1, input_shape=(2,))])
model.compile('sgd', 'mse')
print(model.train_on_batch(np.ones((4, 2)), np.ones(4)))
"""


def run(code, folder, **environment):
    """Run code in a fresh process that finds the modules in a folder first."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("KERAS", "KSYM"))}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={
            **inherited,
            "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
            "KERAS_BACKEND": "ksym.backend",
            "KERAS_HOME": str(folder),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("imported", ["ksym", "ksym.backend"])
def test_ksym_is_imported_after_keras(imported, tmp_path):
    done = run(f"import keras, {imported}\n{MODEL}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) >= 0


def test_a_broken_mxnet_says_why_it_does_not_load(tmp_path):
    (tmp_path / "mxnet").mkdir()
    (tmp_path / "mxnet" / "__init__.py").touch()
    (tmp_path / "mxnet" / "libmxnet.so").write_text("no library")
    done = run(MODEL, tmp_path)
    assert done.returncode == 1
    assert "MissingMXNetError" in done.stderr
    assert "file too short" in done.stderr
    assert "Unable to import backend" not in done.stderr


def test_a_missing_mxnet_says_what_to_install(tmp_path):
    hidden = "".join(f"sys.modules[{name!r}] = None\n" for name in library.PACKAGES)
    done = run(f"import sys\n{hidden}{MODEL}", tmp_path)
    assert done.returncode == 1
    assert "MXNet is not installed" in done.stderr
    assert "pip install ./libmxnet" in done.stderr
    assert "Unable to import backend" not in done.stderr
