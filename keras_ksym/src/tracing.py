"""Whether a function is being traced on this thread, and whether its values can be seen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_thread = threading.local()


def is_tracing() -> bool:
    """Return whether the values of variables are symbolic now."""
    return getattr(_thread, "depth", 0) > 0


def are_values_visible() -> bool:
    """Return whether symbolic tensors are computed when Python asks for their values."""
    return getattr(_thread, "visible", False)


@contextmanager
def tracing(visible: bool = False) -> Iterator[None]:
    """Make the values of variables symbolic within the context.

    Args:
        visible: Whether Python may ask for the values of symbolic tensors: all that they depend on
            is known.
    """
    before = are_values_visible()
    _thread.depth = getattr(_thread, "depth", 0) + 1
    _thread.visible = visible
    try:
        yield
    finally:
        _thread.depth -= 1
        _thread.visible = before
