"""Optional packages: what needs one says which, if it is not installed."""

from __future__ import annotations

import importlib
from typing import Any

from ksym.errors import MissingPackageError


def require(module: str, extra: str, purpose: str) -> Any:
    """Return a module of an optional package.

    Args:
        module: The name of the module.
        extra: The extra of ksym that installs it.
        purpose: What needs it, for the message.

    Raises:
        MissingPackageError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingPackageError(
            f"{purpose} needs {package}, which cannot be imported: {error}",
            remedy=f"pip install 'ksym[{extra}]'",
        ) from error
