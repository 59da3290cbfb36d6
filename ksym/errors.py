"""The errors ksym raises on purpose, and the one place where their messages are put together.

Every message answers four questions: what is wrong, in which operator or argument, where the
user's code made that node, and what to do about it.  An operator that is part of a composition is
named after the one the user called: ``fmax (where)``.  A function that finds a problem states the
problem and the remedy; whoever knows the rest (the operator, the operands, the place) adds it with
`KsymError.located` while the error passes through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self  # not in Python 3.10, which is to get a message of `ksym.versions`


class KsymError(Exception):
    """The base class of every error that ksym raises on purpose.

    Args:
        problem: One sentence that says what is wrong.
        remedy: What the reader can do about it.
        details: Further lines, such as a path through the graph.

    Attributes:
        breaks: Whether the compiled graph cannot be run again: a native graph of MXNet that has
            failed once fails for ever.
    """

    breaks = False

    def __init__(self, problem: str, *, remedy: str | None = None, details: Sequence[str] = ()):
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy
        self.details = tuple(details)
        self.operator: str | None = None
        self.operands: tuple[str, ...] = ()
        self.origin: Any = None

    def located(
        self, operator: str | None = None, operands: Sequence[Any] = (), origin: Any = None
    ) -> Self:
        """Add the operator, the operands and the place to an error; what it already has stays."""
        if self.operator is None:
            self.operator = operator
        if not self.operands:
            self.operands = tuple(str(operand) for operand in operands)
        if self.origin is None:
            self.origin = origin
        return self

    def __str__(self) -> str:
        called = self.origin.part_of if self.origin is not None else ""
        operator = self.operator
        if called and operator not in (None, called):
            operator = f"{called} ({operator})"
        lines = [f"{operator}: {self.problem}" if operator else self.problem]
        if self.operands:
            lines.append(f"  operands: {', '.join(self.operands)}")
        lines.extend(f"  {line}" for line in self.details)
        if self.origin is not None:
            lines.append(f"  made at: {self.origin}")
        if self.remedy:
            lines.append(f"  to do: {self.remedy}")
        return "\n".join(lines)


class ShapeError(KsymError, ValueError):
    """Shapes, axes or sizes that do not fit together."""


class DTypeError(KsymError, TypeError):
    """A dtype that ksym does not store, or that an operator does not take."""


class ArgumentError(KsymError, TypeError, ValueError):
    """Arguments that an operator does not take: unknown keywords, too many, or of a wrong kind."""


class GraphError(KsymError, ValueError):
    """A graph that has no meaning."""


class GradientError(KsymError, ValueError):
    """A gradient that does not exist, because every path to it is cut."""


class SymbolicError(GraphError, TypeError):
    """A number, a length or a place that Python or NumPy asks of a tensor that has none yet."""


class InputError(KsymError, ValueError):
    """Arguments of a call that do not match what the function expects."""


class DeviceError(KsymError, RuntimeError):
    """A device that does not exist, or cannot be used."""


class MissingMXNetError(KsymError, RuntimeError):
    """MXNet is not installed, or cannot be loaded.

    Not an ImportError: Keras turns any ImportError of a backend into "Unable to import backend"
    and hides the reason.
    """


class UnsupportedVersionError(KsymError, RuntimeError):
    """A version of Python or of a package is one that ksym does not work with.

    Not an ImportError, for the reason that `MissingMXNetError` is none.
    """


class MissingPackageError(KsymError, ImportError):
    """An optional package is not installed."""


class ExecutionError(KsymError, RuntimeError):
    """MXNet failed while it ran a graph."""


class ParallelError(KsymError, RuntimeError):
    """Processes that train together cannot: one is missing, or they do not do the same."""


class NonFiniteError(KsymError, FloatingPointError):
    """A result or a new value is NaN or infinite, in a function with the flag ``nan``."""


class FileError(KsymError, ValueError):
    """A file that cannot be written or read, or that holds something else than it should."""


class KsymWarning(UserWarning):
    """A call that has a meaning, but hardly the one that was meant."""
