"""Parts of SciPy that Keras imports, and hardly ever uses: they are imported when it does.

They take 0.25 of the 0.85 s of processor time that ``import keras`` takes, on one core.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

PARTS = {
    # module of Keras: part of SciPy that it imports
    "keras.engine.training_arrays": "sparse",
    "keras_preprocessing.image.affine_transformations": "ndimage",
    "keras_preprocessing.image.image_data_generator": "linalg",
}


class Deferred(ModuleType):
    """A module that is imported when it is first asked for something."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system asks for these
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def _is_sparse(x: Any) -> bool:
    """Return whether a value is a sparse matrix, which there is none of before SciPy made it."""
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and type(sparse) is ModuleType and bool(sparse.issparse(x))


@contextlib.contextmanager
def provided(name: str) -> Iterator[None]:
    """Have a module of Keras import a `Deferred` inside the block, unless the part is loaded."""
    part = PARTS.get(name)
    whole = f"scipy.{part}"
    if part is None or whole in sys.modules or importlib.util.find_spec("scipy") is None:
        yield
        return
    import scipy

    deferred = Deferred(whole)
    if part == "sparse":
        vars(deferred)["issparse"] = _is_sparse
        sys.modules[whole] = deferred  # for ``from scipy.sparse import issparse``
    else:
        vars(scipy)[part] = deferred  # for ``from scipy import ndimage``
    try:
        yield
    finally:
        if sys.modules.get(whole) is deferred:
            del sys.modules[whole]
        if vars(scipy).get(part) is deferred:
            del vars(scipy)[part]
