"""Shims that unmodified Keras 2.3.1 needs on a current Python, NumPy and h5py.

Each is as narrow as it can be: it changes what one module of Keras sees, as soon as that is loaded,
and is left out where nothing is missing.  KSYM_KERAS_SHIMS=0 switches all of them off:

* Names that newer versions took away: of ``collections`` (Python 3.10), and of NumPy (1.24 and
  2.0).  `GONE` and `IMPORTED` say which modules of Keras ask for which.
* ``skipgrams`` draws from 0 to 10e6, a float, which ``random.randint`` refuses since Python 3.12.
* Queues of batches that several threads make expect that the tasks of a pool start in their order,
  which they do not since Python 3.13: a generator's error was lost behind a ``StopIteration``.
* The data sets of texts are rows of several lengths, which NumPy makes no array of since 1.24.
* h5py 3 returns text attributes as `str`, on which Keras calls ``decode``; opens files for reading
  by default; and has no ``File.fid``.  Text attributes become a subclass of `str` with ``decode``,
  for all users of h5py.  The rest is changed in the h5py that ``keras.utils.io_utils`` sees.
* The step of ``TimeDistributed`` reads a global that Keras does not define.
* Files name the backend that wrote them, and Keras on Theano turns the kernels of convolutions
  round if it knows that one.  ksym's kernels are TensorFlow's, whose name is in its files.
* Models and weights are written beside the former file, which they replace when complete.
* Where batches cannot be handed to worker processes, who waits for them gets an error.
* ``Lambda`` infers its output's shape by a call, which Keras does for backends that it knows; and a
  shape that Keras takes from the input, because a layer says nothing, is marked as such.
* Tensors have the attributes of TensorFlow's that Keras's users read: see
  `ksym.keras.attributes`.
* Parts of SciPy that Keras imports are imported when it uses them: see `ksym.keras.deferred`.
* Models train on several processes together, if a script asks for it: see `ksym.keras.ranks`.
"""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import functools
import importlib.abc
import importlib.machinery
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from ksym.keras import attributes, deferred, files, ranks, workers
from ksym.keras.namespaces import Namespace
from ksym.keras.tensors import Undeclared

ENVIRONMENT = "KSYM_KERAS_SHIMS"

GONE: dict[str, dict[str, dict[str, Any]]] = {
    # module of Keras: global in it: what it asks that for
    "keras.backend.numpy_backend": {"np": {"bool": np.bool_, "int": int}},
    "keras.callbacks.callbacks": {"np": {"Inf": np.inf}},
    "keras.engine.training_utils": {
        "collections": {
            "Container": collections.abc.Container,
            "Mapping": collections.abc.Mapping,
            "Sequence": collections.abc.Sequence,
        }
    },
    "keras.utils.io_utils": {"np": {"string_": np.bytes_}},
    "keras_preprocessing.sequence": {"np": {"unicode_": np.str_}},
    # Keras 2.2.4
    "keras.callbacks": {"np": {"Inf": np.inf}},
}

IMPORTED = {
    # module of Keras: what it imports from collections
    name: {"Iterable": collections.abc.Iterable}
    for name in ("keras.callbacks.callbacks", "keras.callbacks")
}


def install() -> None:
    """Install the shims: now in the modules that are loaded, in others when they are."""
    if os.environ.get(ENVIRONMENT) == "0":
        return
    attributes.install()
    with contextlib.suppress(ImportError):  # Keras does without h5py, until a model is to be saved
        adapt_h5py()
    for name in _adapted():
        module = sys.modules.get(name)
        if module is not None and not _is_being_loaded(module):
            _adapt(module)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def adapt_h5py() -> None:
    """Install the shims that are for h5py only, which Keras needs on every backend.

    Raises:
        ImportError: h5py is not installed.
    """
    import h5py

    if int(h5py.__version__.split(".")[0]) >= 3:
        _decode_attributes(h5py)
        io_utils = sys.modules.get("keras.utils.io_utils")
        if io_utils is not None and not _is_being_loaded(io_utils):
            _adapt_files(io_utils)


# --- when modules are loaded ----------------------------------------------------------------------


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules that have shims by the other finders, and has them adapted when loaded."""

    def find_spec(
        self, name: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _adapted():
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                loader: Any = spec.loader
                loader.exec_module = functools.partial(_load, name, loader.exec_module)
                return spec
        return None


def _load(name: str, execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    with _provided(collections, IMPORTED.get(name, {})), deferred.provided(name):
        execute(module)
    _adapt(module)


@contextlib.contextmanager
def _provided(module: ModuleType, names: dict[str, Any]) -> Iterator[None]:
    """Give a module the names that it lacks, inside the block only."""
    lacking = _lacking(module, names)
    vars(module).update(lacking)
    try:
        yield
    finally:
        for name in lacking:
            vars(module).pop(name, None)


def _lacking(module: Any, names: dict[str, Any]) -> dict[str, Any]:
    """Return those names that a module does not have."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, about names that it still has
        return {name: value for name, value in names.items() if not hasattr(module, name)}


def _is_being_loaded(module: ModuleType) -> bool:
    return bool(getattr(module.__spec__, "_initializing", False))


def _adapted() -> set[str]:
    return {*GONE, *_AFTER, *deferred.PARTS, *ranks.names()}


def _adapt(module: ModuleType) -> None:
    """Apply the shims of a module that has been loaded; once more changes nothing."""
    if vars(module).get("_adapted_by_ksym"):
        return
    vars(module)["_adapted_by_ksym"] = True
    for name, gone in GONE.get(module.__name__, {}).items():
        asked = vars(module).get(name)
        lacking = _lacking(asked, gone)
        if asked is not None and lacking:
            vars(module)[name] = Namespace(asked, lacking)
    if module.__name__ in _AFTER:
        _AFTER[module.__name__](module)
    ranks.adapt(module)


# --- modules of Keras -----------------------------------------------------------------------------


def _define_uses_learning_phase(wrappers: ModuleType) -> None:
    """Define the name that ``TimeDistributed`` declares global, and reads first."""
    vars(wrappers).setdefault("uses_learning_phase", False)


def _draw_to_whole_floats(sequence: Any) -> None:
    """Have a module see a ``random`` that takes floats for whole numbers, as before Python 3.12.

    Older ones warn of them.
    """
    original = sequence.random

    def randint(a: float, b: float) -> int:
        return int(original.randint(int(a), int(b)))

    vars(sequence)["random"] = Namespace(original, {"randint": randint})


def _keep_ragged_rows(datasets: Any) -> None:
    """Have a module see an ``array`` that makes objects of rows of several lengths.

    NumPy refuses such rows from 1.24 on.
    """
    original = datasets.np

    def array(rows: Any, *arguments: Any, **options: Any) -> np.ndarray:
        try:
            return np.array(rows, *arguments, **options)
        except ValueError:
            result = np.empty(len(rows), object)
            for position, row in enumerate(rows):
                result[position] = row
            return result

    vars(datasets)["np"] = Namespace(original, {"array": array})


def _name_tensorflow(module: Any) -> None:
    """Have a module see the backend whose kernels have the same layout by name: TensorFlow's."""
    vars(module)["K"] = Namespace(module.K, {"backend": lambda: "tensorflow"})


def _infer_shapes_of_functions(core: Any) -> None:
    _name_tensorflow(core)
    _infer_shapes(core.Layer, core.Lambda)


def _infer_shapes(layer: Any, function: Any) -> None:
    """Mark the shapes that layers do not declare; let those of ``Lambda`` be inferred."""
    default, infer = layer.compute_output_shape, function.compute_output_shape

    def compute_output_shape(self: Any, input_shape: Any) -> Any:
        shape = default(self, input_shape)
        if isinstance(shape, list):
            return [Undeclared(s) if isinstance(s, tuple) else s for s in shape]
        return Undeclared(shape) if isinstance(shape, tuple) else shape

    def inferred(self: Any, input_shape: Any) -> Any:
        state = np.random.get_state()  # the seeds of what it draws are not to be used up
        try:
            return infer(self, input_shape)
        finally:
            np.random.set_state(state)

    layer.compute_output_shape = functools.wraps(default)(compute_output_shape)
    function.compute_output_shape = functools.wraps(infer)(inferred)


def _save_whole_models(saving: Any) -> None:
    _name_tensorflow(saving)
    if hasattr(saving, "H5Dict"):  # Keras 2.2.4 calls it otherwise, and closes it itself
        vars(saving)["H5Dict"] = files.whole_models(saving.H5Dict)


def _save_whole_weights(network: Any) -> None:
    if network.h5py is not None:
        whole = {"File": files.whole_files(network.h5py)}
        vars(network)["h5py"] = Namespace(network.h5py, whole)


# --- h5py -----------------------------------------------------------------------------------------


class H5Text(str):
    """A text attribute as h5py 3 returns it, with the ``decode`` that h5py 2's bytes had."""

    __slots__ = ()

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the text."""
        return str(self)

    def __reduce__(self) -> Any:
        return str, (str(self),)


def _as_text(value: Any) -> Any:
    if type(value) is str:
        return H5Text(value)
    is_list = isinstance(value, np.ndarray) and value.dtype == object and value.size
    if is_list and all(type(item) is str for item in value.flat):
        return np.vectorize(H5Text, otypes=[object])(value)
    return value


def _decode_attributes(h5py: Any) -> None:
    original = h5py.AttributeManager.__getitem__
    if getattr(original, "by_ksym", False):
        return

    def getitem(self: Any, name: Any) -> Any:
        return _as_text(original(self, name))

    getitem.by_ksym = True  # type: ignore[attr-defined]
    h5py.AttributeManager.__getitem__ = getitem


def _adapt_files(io_utils: Any) -> None:
    """Give the module of Keras that opens files an h5py that opens them as h5py 2 did."""
    h5py = io_utils.h5py
    if h5py is None or isinstance(h5py, Namespace) or int(h5py.__version__.split(".")[0]) < 3:
        return

    class File(h5py.File):  # type: ignore[misc, name-defined]
        def __init__(self, name: Any, mode: str | None = None, *args: Any, **options: Any):
            if mode is None:
                in_memory = options.get("driver") == "core" and not options.get("backing_store")
                mode = "w" if in_memory else "r"
            super().__init__(name, mode, *args, **options)

        @property
        def fid(self) -> Any:
            return self.id

    vars(io_utils)["h5py"] = Namespace(h5py, {"File": File})
    _keep_byte_lists(io_utils.H5Dict)
    _keep_empty_lists(io_utils.H5Dict)


def _keep_byte_lists(h5dict: Any) -> None:
    """Store lists of bytes with a fixed length, as h5py 2 did, so that they read back as bytes."""
    original = h5dict.__setitem__

    def setitem(self: Any, name: Any, value: Any) -> None:
        original(self, name, value)
        if isinstance(self.data, dict) or not isinstance(value, list | tuple) or not value:
            return
        attributes = self.data.attrs
        if name in attributes and attributes.get_id(name).dtype == object:
            attributes[name] = np.asarray(
                [item.encode("utf-8") if isinstance(item, str) else item for item in value]
            )

    h5dict.__setitem__ = setitem


def _keep_empty_lists(h5dict: Any) -> None:
    """Read an empty list as a list: the names of a layer's weights, if it has none.

    Keras 2.2 asks whether it is true, which NumPy 2.2 refuses of an empty array.
    """
    original = h5dict.__getitem__

    def getitem(self: Any, name: Any) -> Any:
        value = original(self, name)
        is_list = isinstance(value, np.ndarray) and value.shape == (0,)
        return (
            [] if is_list and not isinstance(self.data, dict) and name in self.data.attrs else value
        )

    h5dict.__getitem__ = getitem


_AFTER: dict[str, Callable[[ModuleType], None]] = {
    "keras.datasets.imdb": _keep_ragged_rows,
    "keras.datasets.reuters": _keep_ragged_rows,
    "keras.engine.network": _save_whole_weights,
    "keras.engine.saving": _save_whole_models,
    "keras.layers.core": _infer_shapes_of_functions,
    "keras.layers.wrappers": _define_uses_learning_phase,
    "keras.utils.data_utils": workers.mend,
    "keras.utils.io_utils": _adapt_files,
    "keras_preprocessing.sequence": _draw_to_whole_floats,
}
