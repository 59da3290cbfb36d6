"""The mode of a function: native or interpreted, and the passes that are turned off."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal, NamedTuple

from ksym.compiler import PIPELINE, Pass
from ksym.compiler.fusion.updates import fuse_updates
from ksym.errors import ArgumentError, GraphError

ENVIRONMENT = "KSYM_FLAGS"

CHECK = "check"
"""The flag that makes the compiler compare each pass's result with the graph before it."""

NAN = "nan"
"""The flag that makes a call fail whose results are not finite, and say which node made them so."""

Flags = Mapping[str, bool] | str


class Mode(NamedTuple):
    """The mode in which a graph is compiled.

    Attributes:
        kind: ``"native"``, or ``"interpret"`` for node by node, without any pass.
        off: The names of the passes that are left out.
        check: Whether passes are checked.
        nan: Whether results that are not finite are refused.
    """

    kind: Literal["native", "interpret"] = "native"
    off: frozenset[str] = frozenset()
    check: bool = False
    nan: bool = False

    @property
    def passes(self) -> list[Pass]:
        """The graph passes of `PIPELINE` that run."""
        return [each for each in PIPELINE if each.stage == "graph" and self.runs(each)]

    def runs(self, pass_: Pass) -> bool:
        """Return whether a pass runs."""
        return not pass_.optional or (self.kind == "native" and pass_.name not in self.off)


def names() -> list[str]:
    """Return the names of all passes that can be turned off, in their order."""
    return list(dict.fromkeys(each.name for each in PIPELINE if each.optional))


def mode_of(kind: str, flags: Flags | None = None) -> Mode:
    """Return the mode that a user asks for.

    Args:
        kind: ``"native"`` or ``"interpret"``.
        flags: False for each pass to turn off, and True for ``"check"`` and ``"nan"``; or a text as
            in the environment variable KSYM_FLAGS, such as ``"merge=0,check=1"``.  They are added
            to those of that variable.

    Raises:
        ArgumentError: The flags are neither a mapping nor a text.
        GraphError: The mode or a flag does not exist.
    """
    if kind not in ("native", "interpret"):
        raise GraphError(f'mode is {kind!r}, not "native" or "interpret"')
    chosen = {**_parsed(os.environ.get(ENVIRONMENT, ""), ENVIRONMENT), **_given(flags)}
    check, nan = chosen.pop(CHECK, False), chosen.pop(NAN, False)
    off = frozenset(name for name, on in chosen.items() if not on)
    if nan:
        # New values are looked at before variables change, so they need arrays of their own.
        off |= {fuse_updates.name}
    return Mode("native" if kind == "native" else "interpret", off, check, nan)


def _given(flags: Flags | None) -> dict[str, bool]:
    if isinstance(flags, str):
        return _parsed(flags, "flags")
    if not isinstance(flags, Mapping | None):
        raise ArgumentError(
            f"flags is {flags!r}", remedy='give a text such as "nan=1", or {"nan": True}'
        )
    for name in flags or ():
        _check_name(name, "flags")
    return {name: bool(on) for name, on in (flags or {}).items()}


def _parsed(text: str, source: str) -> dict[str, bool]:
    found = {}
    for item in filter(None, (item.strip() for item in text.split(","))):
        name, _, value = (part.strip() for part in item.partition("="))
        _check_name(name, source)
        if value not in ("0", "1"):
            raise GraphError(f"{source} has {item!r}", remedy=f"write {name}=0 or {name}=1")
        found[name] = value == "1"
    return found


def _check_name(name: str, source: str) -> None:
    if name not in (*names(), CHECK, NAN):
        raise GraphError(
            f"{source} names {name!r}, which is no pass",
            remedy=f"there are {', '.join(names())}; and {CHECK}, {NAN}",
        )
