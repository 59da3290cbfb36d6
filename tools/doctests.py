"""An extension of Griffe, which reads docstrings for the site: examples become code.

Docstrings have their examples at the end, as `doctest` runs them.  Markdown would take their marks
for quotes, and lists for links.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^( *)>>> .*(?:\n(?! *$).*)*", re.MULTILINE)


def fenced(docstring: str) -> str:
    """Return a docstring in which the examples are blocks of code."""
    return _EXAMPLE.sub(lambda found: f"{found[1]}```pycon\n{found[0]}\n{found[1]}```", docstring)


class Doctests(griffe.Extension):  # type: ignore[misc]
    """Put the examples of all docstrings into blocks of code."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Rewrite the docstring of a function, a class or a module."""
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)
