"""Provenance: the place in the user's code where a node was made, and the operator it is for.

Error messages end with it: a place in the user's code, the name scope of the node, and the
operator that the node is a part of.
"""

from __future__ import annotations

import contextlib
import copy
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ksym.errors import KsymWarning

if TYPE_CHECKING:
    from ksym.graph import Node


class Origin(NamedTuple):
    """The origin of a node: a place in the user's code, and the name scope it was made under.

    `part_of` is the operator that the user called, if it is composed of others and this node is one
    of them.  `gradient` says whether the node carries a gradient back through a node made there.
    """

    filename: str
    line: int
    function: str
    scope: str = ""
    part_of: str = ""
    gradient: bool = False

    def __str__(self) -> str:
        under = f", under {self.scope!r}" if self.scope else ""
        of = ", in its gradient" if self.gradient else ""
        return f"{self.filename}:{self.line} in {self.function}{under}{of}"


# contextlib is on the stack while a context manager of ksym's own passes an error on; NumPy and
# copy, where one of their functions is called on a tensor.
_library_folders = [
    str(Path(__file__).parent),
    str(Path(np.__file__).parent),
    contextlib.__file__,
    copy.__file__,
    "<frozen ",
    "<__array_function__ ",
]
_is_library: dict[str, bool] = {}
provenance = threading.local()
"""For each thread the current `origin`, the `scope`, and the operator new nodes are `part_of`."""


def skip_frames_of(folder: str) -> None:
    """Skip a library's own files when the user's line is looked for."""
    _library_folders.append(folder)
    _is_library.clear()


def current_origin() -> Origin:
    """Return the nearest place on the call stack outside of ksym and of skipped libraries.

    Inside of `origin_of`, it is that node's origin.
    """
    forced: Origin | None = getattr(provenance, "origin", None)
    if forced is not None:
        return forced
    scope: str = getattr(provenance, "scope", "")
    part_of: str = getattr(provenance, "part_of", "")
    frame = sys._getframe(1)
    while True:
        filename = frame.f_code.co_filename
        if not _is_of_library(filename) or frame.f_back is None:
            return Origin(filename, frame.f_lineno, frame.f_code.co_name, scope, part_of)
        frame = frame.f_back


def _is_of_library(filename: str) -> bool:
    library = _is_library.get(filename)
    if library is None:
        library = filename.startswith(tuple(_library_folders))
        _is_library[filename] = library
    return library


def function_name(function: Any) -> str:
    """Return the name of a user's function for messages.

    A universal function has a qualified name from NumPy 2 on, and a name before.
    """
    names = (getattr(function, each, None) for each in ("__qualname__", "__name__"))
    return next((name for name in names if isinstance(name, str)), repr(function))


def is_from_user(error: Exception) -> bool:
    """Return whether an exception was raised in a function of the user's, such as `__array__`."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(not _is_of_library(frame.f_code.co_filename) for frame, _ in frames)


def warn(problem: str, remedy: str) -> None:
    """Warn of what is hardly meant, at the user's line."""
    origin = current_origin()
    warnings.warn_explicit(
        f"{problem}\n  to do: {remedy}", KsymWarning, origin.filename, origin.line
    )


@contextmanager
def origin_of(node: Node, gradient: bool = False, parts: bool = False) -> Iterator[None]:
    """Give nodes made inside of the context the origin of a node: they are made on its behalf.

    Args:
        node: The node they stand for, or belong to.
        gradient: Whether the new nodes carry a gradient back through it.
        parts: Whether it is composed of the new nodes.
    """
    before = getattr(provenance, "origin", None)
    origin = node.origin._replace(gradient=True) if gradient else node.origin
    if parts and not origin.part_of:
        origin = origin._replace(part_of=node.operator.name)
    provenance.origin = origin
    try:
        yield
    finally:
        provenance.origin = before


@contextmanager
def parts_of(name: str) -> Iterator[None]:
    """Record that nodes made inside are parts of an operator; of nested ones, the outermost."""
    before: str = getattr(provenance, "part_of", "")
    provenance.part_of = before or name
    try:
        yield
    finally:
        provenance.part_of = before


@contextmanager
def name_scope(name: str) -> Iterator[str]:
    """Prefix the names made inside of the context; scopes nest, separated by slashes."""
    before: str = getattr(provenance, "scope", "")
    provenance.scope = f"{before}/{name}" if before else name
    try:
        yield provenance.scope
    finally:
        provenance.scope = before


def current_scope() -> str:
    """Return the current name scope, empty outside of any."""
    return getattr(provenance, "scope", "")
