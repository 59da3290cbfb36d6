"""SciPy is imported when Keras uses it, and works then."""

import subprocess
import sys

import pytest

PROGRAMS = {
    "nothing is imported": """
import sys, keras
assert not {"scipy.sparse", "scipy.ndimage", "scipy.linalg"} & sys.modules.keys()
import scipy
assert "sparse" not in vars(scipy) and "ndimage" not in vars(scipy)
import scipy.sparse, scipy.ndimage
assert scipy.sparse.csr_matrix and scipy.ndimage.shift
""",
    "images are turned": """
import numpy as np, keras
from keras.preprocessing.image import apply_affine_transform
x = np.random.RandomState(0).rand(8, 8, 3)
try:
    apply_affine_transform(x, theta=90)
except AttributeError as error:  # SciPy 1.15 has no ndimage.interpolation
    assert "interpolation" in str(error)
import sys
assert "scipy.ndimage" in sys.modules
""",
    "images are whitened": """
import numpy as np, keras
from keras.preprocessing.image import ImageDataGenerator
g = ImageDataGenerator(zca_whitening=True)
g.fit(np.random.RandomState(0).rand(4, 3, 3, 1))
assert g.principal_components.shape == (9, 9)
""",
    "sparse matrices are trained on": """
import numpy as np, keras
from keras.engine import training_arrays
assert not training_arrays.issparse(np.zeros(3))
import scipy.sparse
x = scipy.sparse.csr_matrix(np.eye(4, dtype="float32"))
assert training_arrays.issparse(x)
m = keras.Sequential([keras.layers.Dense(2, input_shape=(4,))])
m.compile("sgd", "mse")
m.fit(x, np.ones((4, 2)), batch_size=2, epochs=1, verbose=0)
assert m.predict(x).shape == (4, 2)
""",
    "what was imported before stays": """
import scipy.sparse, scipy.ndimage
before = scipy.sparse, scipy.ndimage
import keras, sys
assert (sys.modules["scipy.sparse"], scipy.ndimage) == before
from keras.engine import training_arrays
assert training_arrays.issparse is scipy.sparse.issparse
""",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_parts_of_scipy(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
