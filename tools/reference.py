"""The reference page of all operators, written from their declarations.

``python tools/reference.py`` prints it; ``make docs`` keeps it in docs/operators.md.
"""

from __future__ import annotations

import functools
import inspect
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops
from ksym.autodiff import gradients
from ksym.errors import GradientError, GraphError
from ksym.export.inference import Exported, Format, Sized, at_points, exported
from ksym.export.mxnet import MXNET, SymbolOf
from ksym.export.onnx import ONNX, ModelOf
from ksym.function import Function, function
from ksym.graph import OPERATORS, Tensor
from ksym.operator.composite import Composite
from ksym.operator.declaration import Operator
from ksym.operator.sampling import Draw
from ksym.ops.leaves import Leaf

LEAVES = tuple(name for name, operator in OPERATORS.items() if isinstance(operator, Leaf))

_HEAD = """# Operators

Written from the declarations by `make docs`; not to be edited.

*How* says what an operator becomes: **native** are operators of MXNet, **expanded** is composed of
others when the shapes are known, **composed** when it is called; **drawn** and **on the host** are
computed by NumPy, before a native graph and between two; a **loop** or **branch** runs graphs
of its own; **between ranks** is communication ([parallel.md](parallel.md)). The dtypes and the
gradients are those of one example in float32 from each declaration:
a gradient is there (**yes**), is **zero** by construction, or there is **none**; *second* is the
gradient of that. *Export* says to which formats that example is exported
([saving.md](saving.md)). A check that leaves an operator out is named with its reason.
"""


def _family(operator: Operator) -> str:
    """The room and the file an operator is declared in."""
    module = type(operator).__module__
    if isinstance(operator, Composite):
        module = operator.build_module
    parts = module.removeprefix("ksym.").removeprefix("ops.").rstrip("_").split(".")
    return ": ".join(parts).replace("_", " ")


def _overrides(operator: Operator, part: str) -> bool:
    return getattr(type(operator), part) is not getattr(Operator, part)


def _how(operator: Operator) -> str:
    if isinstance(operator, Composite):
        return "composed"
    if operator.name in LEAVES:
        return "given"
    if _overrides(operator, "expand") and not _overrides(operator, "is_composed"):
        return "expanded"
    if operator.runs != "native":
        named = {"host": "on the host", "cond": "branch", "collective": "between ranks"}
        return named.get(operator.runs, "loop")
    return "native" if operator.pure else "drawn"


class _Example(Draw):
    """Always draws the same."""

    def shape(
        self, min_rank: int = 0, max_rank: int | None = None, min_side: int = 1
    ) -> tuple[int, ...]:
        return (2,) * max(min_rank, 1 if max_rank is None else min(1, max_rank))

    def integer(self, low: int, high: int) -> int:
        return high

    def choose(self, options: Sequence[Any]) -> Any:
        return options[0]

    def dtype(self, *kinds: str) -> str:
        names = {"float": "float32", "integer": "int32", "bool": "bool"}
        return next(names[kind] for kind in names if kind in kinds)

    def array(
        self,
        shape: Sequence[int],
        low: float = -2.0,
        high: float = 2.0,
        *,
        dtype: str | None = None,
        apart: float = 0.0,
        kinks: Sequence[float] = (),
    ) -> np.ndarray:
        count = int(np.prod(shape))
        values = low + (high - low) * (np.arange(count) + 0.6) / (count + 0.9)
        return values.reshape(shape).astype(dtype or "float32")


def _behaviour(operator: Operator) -> tuple[str, str, str, str]:
    """The dtypes of the results, what gradients of two orders there are, and the exports."""
    if operator.name in LEAVES:
        return "as given", "", "", ""
    sample = operator.sample(_Example())
    operands = [
        array
        if position in operator.static_operands
        else ops.placeholder(array.shape, array.dtype.name)
        for position, array in enumerate(sample.operands)
    ]
    made = operator.apply(*operands, **sample.attributes)
    outputs = [made] if isinstance(made, Tensor) else list(made)
    inputs = [t for t in operands if isinstance(t, Tensor) and dtypes.is_float(t.dtype)]
    losses = [output for output in outputs if dtypes.is_float(output.dtype)]
    first = _reaching(losses, inputs)
    words = [_word(found) for found in (first, _reaching(first, inputs))]
    if words[0] != "none" and words[1] == "none":
        words[1] = "zero"  # the gradient does not depend on the operands
    fed = [t for t in operands if isinstance(t, Tensor)]
    exports = _exports(function(fed, outputs, on_unused_input="ignore"))
    return ", ".join(output.dtype for output in outputs), words[0], words[1], exports


def _exports(example: Function) -> str:
    """The formats to which a function is exported."""
    written: list[tuple[Format, Callable[[Exported, Sequence[Sized]], Any]]] = [
        (MXNET, lambda of, graphs: SymbolOf(of, graphs)),
        (ONNX, lambda of, graphs: ModelOf(of, graphs)),
    ]
    found = []
    for form, write in written:
        try:
            of = exported(example, form.name)
            at_points(of, form, functools.partial(write, of))
        except GraphError:
            continue
        found.append(form.name)
    return ", ".join(found) or "none"


def _reaching(losses: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    if not losses or not inputs:
        return []
    try:
        found: list[Tensor | None] = list(gradients(losses, list(inputs), disconnected="none"))
    except GradientError:  # an operator that does not know it
        return []
    return [gradient for gradient in found if gradient is not None]


def _word(found: Sequence[Tensor]) -> str:
    if not found:
        return "none"
    return "zero" if all(ops.is_zero(gradient) for gradient in found) else "yes"


def _signature(operator: Operator) -> str:
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in operator.__signature__.parameters.values()
    ]
    return str(inspect.Signature(parameters))


def page() -> str:
    """Return the page as Markdown; the same for the same declarations."""
    families: defaultdict[str, list[Operator]] = defaultdict(list)
    for name in sorted(OPERATORS):
        families[_family(OPERATORS[name])].append(OPERATORS[name])
    lines = [_HEAD.rstrip()]
    for family in sorted(families):
        lines += ["", f"## {family}", ""]
        lines += ["| operator | what it is | how | dtype | gradient | second | export |"]
        lines += ["| --- " * 7 + "|"]
        for operator in families[family]:
            summary = (operator.__doc__ or "").split("\n", 1)[0].replace("|", "\\|")
            cells = [f"`{operator.name}{_signature(operator)}`", summary]
            cells += [_how(operator), *_behaviour(operator)]
            lines.append("| " + " | ".join(cells) + " |")
        notes = [
            f"- `{operator.name}`: not in {check}: {reason}"
            for operator in families[family]
            for check, reason in sorted(operator.unproven.items())
        ]
        notes += [
            f"- `{operator.name}`: bounds times {operator.conditioning.factor:g}: "
            f"{operator.conditioning.reason}"
            for operator in families[family]
            if operator.conditioning.reason
        ]
        lines += [""] * bool(notes) + notes
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
