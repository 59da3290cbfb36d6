"""Shims that unmodified Keras 2.3.1 needs on a current Python and a current h5py.

There are six, each as narrow as it can be; KSYM_KERAS_SHIMS=0 switches all of them off:

* Python 3.10 took the names of abstract base classes out of ``collections``; Keras uses four.
* h5py 3 returns text attributes as `str`, on which Keras calls ``decode``; opens files for reading
  by default; and has no ``File.fid``.  Text attributes become a subclass of `str` with ``decode``.
  The rest is changed in the h5py that ``keras.utils.io_utils`` sees, and nowhere else.
* The step of ``TimeDistributed`` reads a global that Keras does not define.
* Files name the backend that wrote them, and Keras on Theano turns the kernels of convolutions
  round if it knows that one.  ksym's kernels are TensorFlow's, whose name is in its files.
* ``Lambda`` infers its output's shape by a call, which Keras does for backends that it knows; and a
  shape that Keras takes from the input, because a layer says nothing, is marked as such.
* Tensors have the attributes of TensorFlow's that Keras's users read: see
  `ksym.keras.attributes`.
"""

from __future__ import annotations

import collections
import collections.abc
import functools
import os
import sys
import types
from typing import Any

import numpy as np

from ksym.keras import attributes
from ksym.keras.tensors import Undeclared

ENVIRONMENT = "KSYM_KERAS_SHIMS"


def install() -> None:
    """Install the shims whose modules can be imported; a later call installs the others."""
    if os.environ.get(ENVIRONMENT) == "0":
        return
    _restore_collections()
    attributes.install()
    try:
        import h5py
    except ImportError:
        return  # Keras does without h5py, until a model is to be saved
    if int(h5py.__version__.split(".")[0]) >= 3:
        _decode_attributes(h5py)
        _adapt_keras(h5py)


def _restore_collections() -> None:
    for name in ("Container", "Iterable", "Mapping", "Sequence"):
        if not hasattr(collections, name):
            setattr(collections, name, getattr(collections.abc, name))


def complete() -> None:
    """Install the shims of modules that Keras loads after its backend."""
    if os.environ.get(ENVIRONMENT) == "0":
        return
    wrappers = sys.modules.get("keras.layers.wrappers")
    if wrappers is not None:
        # The name that ``TimeDistributed`` declares global, and reads first.
        wrappers.__dict__.setdefault("uses_learning_phase", False)
    saving = sys.modules.get("keras.engine.saving")
    if saving is not None and not isinstance(saving.K, _NamedTensorFlow):
        saving.__dict__["K"] = _NamedTensorFlow(saving.K)
    core, base = sys.modules.get("keras.layers.core"), sys.modules.get("keras.engine.base_layer")
    if core is not None and base is not None and not isinstance(core.K, _NamedTensorFlow):
        core.__dict__["K"] = _NamedTensorFlow(core.K)
        _infer_shapes(base.Layer, core.Lambda)


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


class _NamedTensorFlow(types.ModuleType):
    """The backend as some modules of Keras see it: the same but for its name."""

    def __init__(self, backend: Any):
        super().__init__(backend.__name__)
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    @staticmethod
    def backend() -> str:
        """Return the name of the backend whose kernels have the same layout: TensorFlow's."""
        return "tensorflow"


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


class _H5pyForKeras(types.ModuleType):
    """The module h5py with another `File`."""

    def __init__(self, h5py: Any):
        super().__init__("h5py")
        self._h5py = h5py

    def __getattr__(self, name: str) -> Any:
        return getattr(self._h5py, name)


def _adapt_keras(h5py: Any) -> None:
    io_utils = sys.modules.get("keras.utils.io_utils")
    if io_utils is None or isinstance(io_utils.h5py, _H5pyForKeras):
        return

    class File(h5py.File):  # type: ignore[misc]
        def __init__(self, name: Any, mode: str | None = None, *args: Any, **options: Any):
            if mode is None:
                in_memory = options.get("driver") == "core" and not options.get("backing_store")
                mode = "w" if in_memory else "r"
            super().__init__(name, mode, *args, **options)

        @property
        def fid(self) -> Any:
            return self.id

    adapted = _H5pyForKeras(h5py)
    adapted.File = File  # type: ignore[attr-defined]
    io_utils.__dict__["h5py"] = adapted
    _keep_byte_lists(io_utils.H5Dict)


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
