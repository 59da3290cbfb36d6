"""Files of Keras: written as a whole or not at all, and read by a process that may be stopped."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from ksym.errors import FileError
from ksym.output import replacement

READ = """
import sys
import h5py
import numpy as np

def read(_, item):
    for name in item.attrs:
        item.attrs[name]
    if isinstance(item, h5py.Dataset):
        for start in range(0, item.shape[0] if item.shape else 1, 4096):
            item[start : start + 4096] if item.shape else item[()]

with h5py.File(sys.argv[1], "r") as file:
    read("", file)
    file.visititems(read)
"""


def check_file(path: Any, seconds: float = 60.0) -> None:
    """Check that a file of Keras's, or any of HDF5, can be read.

    HDF5 has no checksums, and with some damaged files its library never returns.  So the file is
    read by a process of its own, which is stopped when the time is over.  What is read is not
    compared with anything: numbers that were changed are not found.

    Args:
        path: The file.
        seconds: The time that reading may take.

    Raises:
        FileError: There is no such file, it is damaged or no file of HDF5, or it was not read in
            that time.

    >>> check_file("model.h5")  # doctest: +SKIP
    """
    name = os.fspath(path)
    if not os.path.isfile(name):
        raise FileError(f"{name!r} is no file", remedy="give the name of a file that Keras wrote")
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", READ, os.path.abspath(name)],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FileError(
            f"{name!r} was not read within {seconds:g} seconds",
            remedy="it is damaged or very large; take another copy of it, or give more seconds",
        ) from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"the reader ended with {done.returncode}"]
        raise FileError(
            f"{name!r} cannot be read as a file of HDF5: {lines[-1]}",
            remedy="it is damaged, or of another kind; take another copy of it",
        )


class _Whole:
    """A context in which a file of HDF5 is written, which takes its place only if no error occurs.

    Args:
        opened: The function that opens a file of some name for writing.
        path: The name that the file is to have.
    """

    def __init__(self, opened: Any, path: Any):
        self._replacement = contextlib.ExitStack()
        beside = self._replacement.enter_context(replacement(path))
        try:
            self._file = opened(str(beside))
        except BaseException:
            self._replacement.__exit__(*sys.exc_info())
            raise

    def __enter__(self) -> Any:
        return self._file

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._file.close()
        except BaseException:
            self._replacement.__exit__(*sys.exc_info())
            raise
        self._replacement.__exit__(kind, error, trace)


def _is_replaceable(path: Any) -> bool:
    """Return whether a file of a name can be written beside what is there, and take its place."""
    if not isinstance(path, str | os.PathLike):
        return False
    target = Path(os.path.realpath(os.fspath(path)))
    return os.access(target.parent, os.W_OK) and (target.is_file() or not target.exists())


def whole_files(h5py: Any) -> Any:
    """Return a class like `h5py.File`, whose files for writing take their place when complete."""

    class File(h5py.File):  # type: ignore[misc]
        def __new__(cls, name: Any, mode: Any = "r", *arguments: Any, **options: Any) -> Any:
            if mode != "w" or arguments or options or not _is_replaceable(name):
                return h5py.File(name, mode, *arguments, **options)
            return _Whole(lambda beside: h5py.File(beside, "w"), name)

    return File


def whole_models(h5dict: Any) -> Any:
    """Return a class like `H5Dict`, whose files for writing take their place when complete."""

    class H5Dict(h5dict):  # type: ignore[misc]
        def __new__(cls, path: Any, mode: str = "a") -> Any:
            if mode != "w" or not _is_replaceable(path):
                return h5dict(path, mode)
            return _Whole(lambda beside: h5dict(beside, "w"), path)

    return H5Dict
