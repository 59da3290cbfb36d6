"""Keras's settings, read when they are needed.

The settings live in ``keras.backend.common`` and nowhere else.  Keras imports the backend while it
is being imported itself, so a module here must not import Keras at its top.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ksym.ops.nn.windows import Padding


def _common() -> Any:
    return import_module("keras.backend.common")


def floatx() -> str:
    """Return the default float dtype."""
    return _common().floatx()


def epsilon() -> float:
    """Return the small number that keeps logarithms and divisions finite."""
    return _common().epsilon()


def data_format(value: str | None) -> str:
    """Return ``"channels_first"`` or ``"channels_last"``, the default for None.

    Raises:
        ValueError: It is neither.
    """
    return _common().normalize_data_format(value)


def padding(value: str) -> Padding:
    """Check a padding mode that Keras gives.

    Raises:
        ValueError: It is neither ``"same"`` nor ``"valid"``.
    """
    if value not in ("same", "valid"):
        raise ValueError(f"Invalid padding: {value}")
    return value


def dtype_or_floatx(dtype: Any) -> Any:
    """Return a dtype, Keras's default for None."""
    return floatx() if dtype is None else dtype
