"""The part of Keras's layers that depends on the backend: nothing."""

from __future__ import annotations


class BackendLayer:
    """The base class of Keras's layers."""
