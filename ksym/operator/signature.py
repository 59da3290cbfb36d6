"""The signatures of operators as users read them, in `help` and in errors."""

from __future__ import annotations

import inspect
from typing import Any


def shown(signature: inspect.Signature, results: str) -> inspect.Signature:
    """Return a signature as users read it: without `Any`, which says nothing, and `self`."""
    empty = inspect.Parameter.empty
    parameters = [
        p.replace(annotation=empty if p.annotation in (Any, "Any") else _Annotation(p.annotation))
        for p in signature.parameters.values()
    ]
    return signature.replace(parameters=parameters, return_annotation=_Annotation(results))


def parameters_of(signature: inspect.Signature) -> str:
    """Return the parameters of a signature, without what is returned, in parentheses."""
    return str(signature.replace(return_annotation=inspect.Signature.empty))


def short(value: Any) -> str:
    """Return how Python writes a value, cut off if that is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


class _Annotation(str):
    """An annotation that `inspect` and `help` write without quotation marks."""

    __slots__ = ()

    __repr__ = str.__str__
