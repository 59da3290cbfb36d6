"""Where in the user's code a node was made, and on whose behalf.

Provenance is what error messages end with: a place in the user's code, the name scope it was made
under, and the operator that it is a part of.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from ksym.graph import Node


class Origin(NamedTuple):
    """Where a node comes from: a place in the user's code and the name scope it was made under.

    `part_of` is the operator the user called, where that is composed of others and this node is one
    of those.  `gradient` tells whether it was made to carry a gradient back through a node from
    there.
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


# contextlib is on the stack while a context manager of ksym's own passes an error on; NumPy, where
# one of its functions is called on a tensor.
_library_folders = [
    str(Path(__file__).parent),
    str(Path(np.__file__).parent),
    contextlib.__file__,
    "<frozen ",
    "<__array_function__ ",
]
_is_library: dict[str, bool] = {}
provenance = threading.local()
"""Of each thread: the `origin` in force, the `scope`, and what new nodes are `part_of`."""


def skip_frames_of(folder: str) -> None:
    """Count a library's own files as not the user's when a node's origin is looked for."""
    _library_folders.append(folder)
    _is_library.clear()


def current_origin() -> Origin:
    """Return the nearest place on the call stack outside of ksym and of skipped libraries.

    Inside of `origin_of`, that node's origin.
    """
    forced: Origin | None = getattr(provenance, "origin", None)
    if forced is not None:
        return forced
    scope: str = getattr(provenance, "scope", "")
    part_of: str = getattr(provenance, "part_of", "")
    frame = sys._getframe(1)
    while True:
        filename = frame.f_code.co_filename
        library = _is_library.get(filename)
        if library is None:
            library = filename.startswith(tuple(_library_folders))
            _is_library[filename] = library
        if not library or frame.f_back is None:
            return Origin(filename, frame.f_lineno, frame.f_code.co_name, scope, part_of)
        frame = frame.f_back


@contextmanager
def origin_of(node: Node, gradient: bool = False, parts: bool = False) -> Iterator[None]:
    """Give nodes made inside the origin of node: they are made on its behalf.

    Args:
        node: The node they stand for, or belong to.
        gradient: Whether they carry a gradient back through it.
        parts: Whether it is composed of them.
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
    """Record that what is made inside is part of an operator; of nested ones, the outermost."""
    before: str = getattr(provenance, "part_of", "")
    provenance.part_of = before or name
    try:
        yield
    finally:
        provenance.part_of = before


@contextmanager
def name_scope(name: str) -> Iterator[str]:
    """Put what is made inside under a name; scopes nest, separated by slashes."""
    before: str = getattr(provenance, "scope", "")
    provenance.scope = f"{before}/{name}" if before else name
    try:
        yield provenance.scope
    finally:
        provenance.scope = before


def current_scope() -> str:
    """The name scope in force, empty outside of any."""
    return getattr(provenance, "scope", "")
