"""The rows of a profile: what they are of, and how they are written."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

from ksym.graph import Node
from ksym.profiling.breakdown import Piece
from ksym.profiling.program import ProfiledProgram

By = Literal["operator", "layer", "line", "part"]


class Row(NamedTuple):
    """What one operator, layer, line or part took in all calls.

    Attributes:
        name: Its name.
        seconds: The time.
        share: Its share of the time of the calls.
        flops: The floating-point operations.
        traffic: The bytes read and written in memory.
        memory: The bytes of arrays that hold its results from call to call.
        limit: Its share of the machine's limit: the time that its work takes at least, as
            `ksym.profiling.limits` measured, by the time that it took.  A number that fits the
            processor's caches can be above 1.
    """

    name: str
    seconds: float
    share: float
    flops: float
    traffic: float
    memory: float
    limit: float


class Unit(NamedTuple):
    """A part or update of a program, with its time and pieces.

    Attributes:
        key: What the program's events call it.
        name: Its name: ``part 1``, ``update 1``.
        title: What it is.
        pieces: The nodes that it computes, for one run.
        seconds: The time of all runs.
        runs: The number of runs.
    """

    key: int | str
    name: str
    title: str
    pieces: list[Piece]
    seconds: float
    runs: int


class Report(Protocol):
    """What a picture and a trace are made of: a profile."""

    name: str

    @property
    def programs(self) -> list[ProfiledProgram]:
        """The programs that ran."""

    @property
    def calls(self) -> int:
        """The number of calls."""

    @property
    def seconds(self) -> float:
        """The time of all calls."""

    def units(self, program: ProfiledProgram) -> list[Unit]:
        """Return the parts and updates of a program, broken down to nodes."""

    def rows(self, by: By = "operator") -> list[Row]:
        """Return what each operator, layer, line or part took, the most time first."""


def group_of(unit: Unit, piece: Piece, by: By) -> str:
    """Return the name of the group that a piece belongs to."""
    if by == "part":
        return f"{unit.name}: {unit.title}" if unit.name != unit.title else unit.title
    node = piece.node
    if node is None:
        return f"({unit.title})"
    if by == "operator":
        return node.operator.name
    if by == "layer":
        return layer_of(node)
    return f"{node.origin.filename}:{node.origin.line}"


def layer_of(node: Node) -> str:
    """Return the name scope of a node, with its layer in Keras, and whether it is in a gradient."""
    scope = node.origin.scope or "(no layer)"
    return f"{scope} (gradient)" if node.origin.gradient else scope


def shortened(name: str, most: int = 60) -> str:
    """Return a name of at most so many characters; of a long path the end.

    >>> shortened("part 1: native graph: 3 convolution, relu", 24)
    'part 1: native graph:...'
    """
    if len(name) <= most:
        return name
    return f"...{name[3 - most :]}" if name.startswith("/") else f"{name[: most - 3]}..."


def time_text(seconds: float) -> str:
    """Return a time in a unit that suits it.

    >>> time_text(0.00123), time_text(2e-6)
    ('1.23 ms', '2.00 us')
    """
    for factor, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= factor:
            return f"{seconds / factor:.2f} {unit}"
    return f"{seconds * 1e6:.2f} us"


def bytes_text(count: float) -> str:
    """Return a number of bytes in a unit that suits it.

    >>> bytes_text(512), bytes_text(3 << 20)
    ('512 B', '3.0 MiB')
    """
    for factor, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"
