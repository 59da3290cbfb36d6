"""The import hook that makes ksym a backend of a Keras that has no plug for backends.

Keras 3.15 imports its backend by name, from a fixed list.  The names of the list are compared while
Keras is imported, in four modules; afterwards they matter only where a backend is treated
differently from the others.  So while Keras is imported the backend is called by a name of the list
for which Keras imports nothing but modules of its own folder, ``keras.src.backend.openvino``, and
the modules of that folder are ours.  When the import is done the name is ``"ksym"``.

A Keras with the plug finds the package ``keras_ksym`` by itself and needs none of this.
"""

from __future__ import annotations

import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from types import FunctionType, ModuleType
from typing import Any

from ksym import versions

NAME = "ksym"
"""The name of the backend."""

POSE = "openvino"
"""The name by which Keras's list knows it during the import."""

SLOT = f"keras.src.backend.{POSE}"
"""The package in whose place ours is imported."""

PLACES = {
    "": "keras_ksym.src.flat",
    "core": "keras_ksym.src.ops.core",
    "export": "keras_ksym.src.export",
    "image": "keras_ksym.src.ops.image",
    "layer": "keras_ksym.src.layer",
    "linalg": "keras_ksym.src.ops.linalg",
    "math": "keras_ksym.src.ops.math",
    "nn": "keras_ksym.src.ops.nn",
    "numpy": "keras_ksym.src.ops.numpy",
    "random": "keras_ksym.src.random",
    "rnn": "keras_ksym.src.rnn",
    "trainer": "keras_ksym.src.trainer",
}
"""For each module of a backend in Keras 3.15, the module of ours that has its names."""

CLASSES = {
    "layer": ("OpenvinoLayer", "BackendLayer"),
    "trainer": ("OpenVINOTrainer", "Trainer"),
    "export": ("OpenvinoExportArchive", "SavedModelExportArchive"),
}
"""The classes that Keras asks for under the name of the backend, and ours."""


class _Loader(importlib.abc.Loader):
    """Fills a module of Keras's with the names of one of ours."""

    def __init__(self, part: str):
        self.part = part

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        ours = importlib.import_module(PLACES[self.part])
        public = {k: v for k, v in vars(ours).items() if not k.startswith("__")}
        for name, value in public.items():
            if isinstance(value, FunctionType):
                _without_annotations(value)
            elif isinstance(value, ModuleType) and name in PLACES:
                public[name] = importlib.import_module(f"{SLOT}.{name}")
        vars(module).update(public)
        if self.part in CLASSES:
            theirs, name = CLASSES[self.part]
            setattr(module, theirs, getattr(ours, name))
        label = self.part or "backend"

        def missing(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return _missing(label, name)

        module.__getattr__ = missing  # type: ignore[method-assign]


def _without_annotations(function: FunctionType) -> None:
    """Show a signature as Keras writes it: its tests compare those of a backend with its own."""
    signature = inspect.signature(function)
    empty = inspect.Parameter.empty
    bare = [p.replace(annotation=empty) for p in signature.parameters.values()]
    shown = signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)
    function.__signature__ = shown  # type: ignore[attr-defined]


def _missing(part: str, name: str) -> Callable[..., Any]:
    """Return a function that says, when it is called, that there is no such function."""

    def absent(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(
            f"Keras's backend ksym has no function {part}.{name}: this version of Keras has more "
            "functions than the one that this version of ksym was made for. To do: use the version "
            "of Keras that `pip install 'ksym[keras3]'` installs."
        )

    absent.__name__ = name
    return absent


class _Patched(importlib.abc.Loader):
    """Runs a module's own loader, and then a function on the module."""

    def __init__(self, loader: Any, then: Callable[[ModuleType], None]):
        self.loader = loader
        self.then = then

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        try:
            self.loader.exec_module(module)
        except BaseException:
            _rename(NAME)
            raise
        self.then(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)  # what the files of a package are found by


def _rename(name: str) -> None:
    """Change the name of the backend that Keras's configuration has."""
    config = sys.modules.get("keras.src.backend.config")
    if config is not None:
        config._BACKEND = name  # type: ignore[attr-defined]


def _pose(module: ModuleType) -> None:
    """Take the name of the list, when the configuration has been read."""
    _rename(POSE)


def _dynamic(module: ModuleType) -> None:
    """Teach Keras's `DynamicBackend`, which looks functions up by the backend's name, ours."""
    dynamic: Any = module.DynamicBackend
    look_up, choose = dynamic.__getattr__, dynamic.set_backend

    def attribute(self: Any, name: str) -> Any:
        if self._backend in (NAME, POSE):
            return getattr(importlib.import_module("keras.src.backend"), name)
        return look_up(self, name)

    def set_backend(self: Any, backend: str) -> None:
        if backend == NAME:
            self._backend = backend
        else:
            choose(self, backend)

    dynamic.__getattr__, dynamic.set_backend = attribute, set_backend


def _explained(module: ModuleType) -> None:
    """Have a file of a Keras 2 model that Keras 3 cannot read say so, and what can be done."""
    load: Any = module.load_model_from_hdf5

    @functools.wraps(load)
    def load_model(filepath: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return load(filepath, *args, **kwargs)
        except Exception as error:
            version = _written_by(filepath)
            if version.startswith("2."):
                error.add_note(
                    f"The file was written by Keras {version}, whose models Keras 3 reads in part. "
                    "To do: give compile=False if loss or optimizer is what fails, and "
                    "custom_objects= for layers of your own; else build the model by Keras 3 and "
                    "call its load_weights with this file."
                )
            raise

    module.load_model_from_hdf5 = load_model  # type: ignore[attr-defined]


def _written_by(filepath: Any) -> str:
    """Return the version of Keras that an HDF5 file says it was written by, if it does."""
    import h5py

    if isinstance(filepath, h5py.File):
        version = filepath.attrs.get("keras_version", "")
    else:
        try:
            with h5py.File(filepath, "r") as file:
                version = file.attrs.get("keras_version", "")
        except OSError:  # it is not there, or no such file: the error at hand says so
            return ""
    return version.decode() if isinstance(version, bytes) else str(version)


AFTER: dict[str, Callable[[ModuleType], None]] = {
    "keras.src.backend.config": _pose,
    "keras.src.utils.backend_utils": _dynamic,
    "keras.src.legacy.saving.legacy_h5_format": _explained,
    "keras": lambda module: _rename(NAME),
}
"""What is done after a module of Keras has been imported."""


class _Finder(importlib.abc.MetaPathFinder):
    """Finds our modules where Keras looks for those of a backend."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == SLOT or fullname.startswith(f"{SLOT}."):
            part = fullname.removeprefix(SLOT).removeprefix(".")
            if part not in PLACES:
                return None
            return importlib.machinery.ModuleSpec(fullname, _Loader(part), is_package=not part)
        if fullname not in AFTER:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Patched(spec.loader, AFTER[fullname])
        return spec


def has_plug() -> bool:
    """Return whether the Keras that is installed finds backends by their packages."""
    spec = importlib.util.find_spec("keras")
    folder = None if spec is None or spec.origin is None else os.path.dirname(spec.origin)
    if folder is None:
        return False
    # The backends that come with Keras are listed in its module by name as long as there is none.
    with open(os.path.join(folder, "src", "backend", "__init__.py"), encoding="utf-8") as source:
        return f'backend() == "{POSE}"' not in source.read()


def install() -> None:
    """Make ksym the backend of the Keras that is imported next.

    Raises:
        UnsupportedVersionError: There is no Keras, or an older one.
        RuntimeError: Keras is imported already, with another backend.
    """
    versions.check_keras3()
    os.environ["KERAS_BACKEND"] = NAME
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    loaded: Any = sys.modules.get("keras")
    if loaded is not None:
        raise RuntimeError(
            f"Keras is imported already, with the backend {loaded.config.backend()!r}. "
            "To do: import keras_ksym before Keras."
        )
    if not has_plug():
        sys.meta_path.insert(0, _Finder())
