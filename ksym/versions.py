"""Which versions ksym works with, and what is said of others when it is imported.

The versions are those of pyproject.toml, which pip reads.  They are looked at here for whoever has
installed something by hand, or another version later.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import warnings

from ksym.errors import KsymWarning, UnsupportedVersionError

PYTHON = (3, 11)
NEEDED = {"numpy": (1, 23), "networkx": (2, 6), "llvmlite": (0, 45)}
"""The oldest version of each package; newer ones are not refused."""

KERAS = ((2, 2), (2, 3))
"""The first and the last of the releases of Keras that take a backend like this one."""

KERAS3 = (3, 15)
"""The release of Keras 3 that keras_ksym is made for, and tested with."""


def check() -> None:
    """Check the versions of Python and of the packages that are always needed.

    Raises:
        UnsupportedVersionError: One is too old, or not installed.
    """
    if sys.version_info < PYTHON:
        here = ".".join(map(str, sys.version_info[:3]))
        raise UnsupportedVersionError(
            f"ksym needs Python {_text(PYTHON)} or newer, and this is Python {here}",
            remedy="make an environment with a newer one, such as `python3.13 -m venv .venv`, and "
            "install ksym there",
        )
    for name, needed in NEEDED.items():
        found = installed(name)
        if found is None or _numbers(found) < needed:
            there = "it is not installed" if found is None else f"{found} is installed"
            raise UnsupportedVersionError(
                f"ksym needs {name} {_text(needed)} or newer, and {there}",
                remedy=f"pip install '{name}>={_text(needed)}'",
            )


def check_keras() -> None:
    """Check the version of Keras, if it is installed.

    Raises:
        UnsupportedVersionError: It is one that does not work with ksym.
    """
    found = installed("keras")
    first, last = KERAS
    if found is not None and not first <= _numbers(found)[:2] <= last:
        raise UnsupportedVersionError(
            f"ksym.backend is a backend of Keras {_text(first)} to {_text(last)}, and Keras "
            f"{found} is installed",
            remedy="pip install keras==2.3.1 (Keras 3 knows its own backends only, and answers "
            "KERAS_BACKEND=ksym.backend with 'Unable to import backend')",
        )


def check_keras3() -> None:
    """Check the version of Keras for keras_ksym, the backend of Keras 3.

    Raises:
        UnsupportedVersionError: Keras is not installed, or older.
    """
    found = installed("keras")
    wanted = _text(KERAS3)
    remedy = f"pip install 'ksym[keras3]' (keras>={wanted},<{KERAS3[0]}.{KERAS3[1] + 1})"
    if found is None or _numbers(found) < KERAS3:
        there = "it is not installed" if found is None else f"Keras {found} is installed"
        raise UnsupportedVersionError(
            f"keras_ksym is a backend of Keras {wanted}, and {there}",
            remedy=f"{remedy}; Keras 2.3.1 takes KERAS_BACKEND=ksym.backend instead"
            if found is not None
            else remedy,
        )
    if _numbers(found) > KERAS3:
        warnings.warn(
            f"Keras {found} is installed, and keras_ksym is tested with Keras {wanted}: functions "
            f"that are new say so when they are called\n  to do: {remedy}",
            KsymWarning,
            stacklevel=2,
        )


def installed(name: str) -> str | None:
    """Return the version of an installed package, None if there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def _text(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


check()
