"""Functions of tensors with a gradient of the user's."""

from __future__ import annotations

import functools
import inspect
import pickle
from collections.abc import Callable, Sequence
from typing import Any

from ksym import dtypes, ops, shapes
from ksym.errors import ArgumentError, GradientError, GraphError, KsymError
from ksym.graph import Node, Spec, Tensor, topological_order
from ksym.operator.composite import composite
from ksym.operator.declaration import Operator
from ksym.operator.operands import as_tensor, cast_to
from ksym.operator.sampling import Draw, Sample
from ksym.ops.leaves import placeholder, variable_leaf
from ksym.origin import current_origin, function_name

__all__ = ["custom_gradient", "clip_gradient"]


class GradientRule:
    """The user's function in a node.  It is pickled by its name, as functions are."""

    def __init__(self, function: Callable[..., Any]):
        self.function = function

    def __repr__(self) -> str:
        return f"<gradient rule {self.name}>"

    @property
    def name(self) -> str:
        """The name of the function for messages."""
        return function_name(self.function)

    def __copy__(self) -> GradientRule:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> GradientRule:
        return self

    def __reduce__(self) -> tuple[type[GradientRule], tuple[Callable[..., Any]]]:
        try:
            pickle.dumps(self.function)
        except Exception as error:  # noqa: BLE001 - pickle raises what the object raises
            raise GraphError(
                f"the gradient rule {self.name} cannot be pickled: {error}",
                remedy="define it by def at the top level of a module; or use ksym.save, "
                "which leaves gradient rules out",
            ) from None
        return GradientRule, (self.function,)


class WithGradient(Operator):
    """Return the first operands; what arrives as gradients goes to the others, by the rule."""

    internal = "a part of `custom_gradient`, which takes functions"

    def prepare(
        self, *operands: Any, rule: GradientRule, results: int = 1
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [as_tensor(operand) for operand in operands], {"rule": rule, "results": results}

    def infer(self, *operands: Tensor, rule: GradientRule, results: int) -> Spec | tuple[Spec, ...]:
        specs = tuple(operand.spec for operand in operands[:results])
        return specs if results > 1 else specs[0]

    def numpy(self, *operands: Any, rule: GradientRule, results: int) -> Any:
        return operands[:results] if results > 1 else operands[0]

    def expand(self, node: Node) -> Sequence[Tensor]:
        return node.inputs[: len(node.outputs)]

    def gradient(self, node: Node, *gs: Tensor | None) -> list[Tensor | None]:
        count = len(node.outputs)
        operands, rule = node.inputs[count:], node.attributes["rule"]
        pairs = zip(gs, node.outputs, strict=True)
        arriving = [ops.zeros_like(y) if g is None else g for g, y in pairs]
        found = rule.function(*operands, *node.outputs, *arriving)
        if isinstance(found, Tensor) or not isinstance(found, list | tuple):
            found = [found]
        try:
            gradients = _checked(found, operands, rule.name)
            _refuse_others(gradients, [*operands, *node.outputs, *arriving], rule.name)
        except KsymError as error:
            specs = [tensor.spec for tensor in operands]
            raise error.located("custom_gradient", specs, node.origin) from None
        return [None] * count + gradients

    def sample(self, draw: Draw) -> Sample:
        count = draw.choose((1, 2))
        arrays = [draw.array(draw.shape(min_side=0)) for _ in range(count + 1)]
        # The value does not depend on the last: differences cannot show what the rule says.
        attributes = {"rule": GradientRule(_no_gradient), "results": count}
        return Sample(*arrays, attributes=attributes, differentiate=())


def _no_gradient(*values: Tensor) -> None:
    return None


def _checked(found: Sequence[Any], operands: Sequence[Tensor], name: str) -> list[Tensor | None]:
    """Return the gradients that a rule gives, one for each operand."""
    if len(found) != len(operands):
        raise GradientError(
            f"the rule {name} returns {len(found)} gradient(s) for {len(operands)} argument(s)",
            remedy="return one for each argument; None where there is none",
        )
    result: list[Tensor | None] = []
    for position, (gradient, operand) in enumerate(zip(found, operands, strict=True)):
        if gradient is None or not dtypes.is_float(operand.dtype):
            result.append(None)
            continue
        tensor = as_tensor(gradient)
        if not shapes.compatible(tensor.shape, operand.shape):
            raise GradientError(
                f"the rule {name} returns a gradient of shape {tensor.shape} for argument "
                f"{position} of shape {operand.shape}",
                remedy="sum it over the axes along which the argument was broadcast, or multiply "
                "it by ksym.ones_like(argument)",
            )
        result.append(cast_to(tensor, operand.dtype))
    return result


def _refuse_others(gradients: Sequence[Tensor | None], given: Sequence[Tensor], name: str) -> None:
    """Refuse a rule that reads tensors that it is not given: a loop would not hand them on."""
    made = [gradient for gradient in gradients if gradient is not None]
    for node in topological_order(made, until=given):
        leaf = node.outputs[0]
        if node.operator in (placeholder, variable_leaf) and leaf not in given:
            raise GradientError(
                f"the rule {name} reads {leaf.name}, which is none of its arguments",
                remedy=f"make {leaf.name} an argument of the function, and return None or a "
                "gradient for it",
            )


with_gradient = WithGradient("with_gradient")


def _check_count(rule: GradientRule, arguments: int, results: int) -> None:
    """Refuse a rule that cannot be called with the arguments, the results and their gradients."""
    try:
        signature = inspect.signature(rule.function)
    except ValueError:  # of some functions written in C nothing is known
        return
    count = arguments + 2 * results
    try:
        signature.bind(*range(count))
    except TypeError:
        said, written = "the result, and the gradient that arrives", "(*arguments, result, g)"
        if results > 1:
            said = f"{results} results, and the gradients that arrive there"
            written = "(*arguments, *results, *gs)"
        raise ArgumentError(
            f"the rule {rule.name}{signature} is called with {count} values: "
            f"{arguments} argument(s), {said}",
            remedy=f"write it as {written}, such as lambda x, y, g: g"
            if results == 1
            else f"write it as {written}",
        ) from None


def custom_gradient(
    function: Callable[..., Any], gradient: Callable[..., Any]
) -> Callable[..., Any]:
    """Make a function of tensors whose gradient is computed by a rule of the user's.

    The function is called at each call, and makes a graph as usual.  The rule is called by
    `ksym.gradients`, and makes a graph too.  So gradients of second order are those of the rule,
    and both work in loops and branches.

    Only the arguments get gradients, and the rule may read nothing but what it is given, and
    constants.  If the function or the rule needs a variable, make that an argument.

    Args:
        function: Called with the arguments as tensors; returns one tensor, or a sequence of them.
        gradient: Called as ``gradient(*arguments, result, g)``, where g is the gradient that
            arrives at the result, of its shape.  Of several results it gets all, and then the
            gradients that arrive at them, zeros where none does.  Returns the gradient of each
            argument, of the argument's shape: a tensor for one argument, a sequence for several,
            None for none.

    Returns:
        A function with the arguments of the first one; it returns a tuple for a sequence.

    Raises:
        ArgumentError: One of the two is not a function; at a call, the first returns something
            else than tensors, or the rule takes another number of values.
        GradientError: While gradients are taken, the rule returns too many or too few, or one of
            another shape, or reads another variable or placeholder.

    Functions that depend on the result are pickled if the rule can be, as functions at the top
    level of a module can. `ksym.save` leaves rules out: nothing is differentiated in a file.

    >>> import ksym
    >>> straight_through = custom_gradient(ops.round_, lambda x, y, g: g)
    >>> x = ops.placeholder((2,))
    >>> y = straight_through(x)
    >>> ksym.function(x, [y, ksym.gradients(y, x)])([0.4, 1.6])
    [array([0., 2.], dtype=float32), array([1., 1.], dtype=float32)]
    """
    for given in (function, gradient):
        if not callable(given):
            raise ArgumentError(
                f"custom_gradient takes two functions, not {given!r}",
                remedy="write custom_gradient(lambda x: ..., lambda x, y, g: ...)",
            )
    rule = GradientRule(gradient)

    @functools.wraps(function, updated=())
    def with_rule(*arguments: Any) -> Any:
        operands = [as_tensor(argument) for argument in arguments]
        result = function(*operands)
        several = isinstance(result, list | tuple)
        results = list(result) if several else [result]
        try:
            if not results or not all(isinstance(one, Tensor) for one in results):
                raise ArgumentError(
                    f"the function returns {result!r}, not a tensor",
                    remedy="return one tensor, or a sequence of tensors",
                )
            _check_count(rule, len(operands), len(results))
        except ArgumentError as error:
            specs = [operand.spec for operand in operands]
            raise error.located("custom_gradient", specs, current_origin()) from None
        made = with_gradient(*results, *operands, rule=rule, results=len(results))
        return (made,) if several and len(results) == 1 else made

    return with_rule


def _clip_sample(draw: Draw) -> Sample:
    # So wide that the gradient is the one that differences show.
    return Sample(draw.array(draw.shape(min_side=0)), attributes={"low": -1e9, "high": 1e9})


@composite(numpy=lambda x, low, high: x, sample=_clip_sample)
def clip_gradient(x: Any, low: float, high: float) -> Tensor:
    """Return x; the gradient that flows back through it is clipped element by element.

    Args:
        x: A tensor of any shape.
        low: The smallest element of the gradient.
        high: The largest one.

    Raises:
        ArgumentError: The bounds are no numbers, or low is above high.

    >>> import ksym
    >>> x = ksym.placeholder((2,))
    >>> y = clip_gradient(x, -1.0, 1.0) * [0.5, 3.0]
    >>> ksym.function(x, ksym.gradients(y, x))([1, 1])
    array([0.5, 1. ], dtype=float32)
    """
    if not all(isinstance(bound, int | float) for bound in (low, high)) or not low <= high:
        raise ArgumentError(
            f"the bounds are {low!r} and {high!r}", remedy="give two numbers, the smaller one first"
        )
    rule = functools.partial(_clipped, low=float(low), high=float(high))
    return custom_gradient(ops.copy, rule)(x)


def _clipped(x: Tensor, y: Tensor, g: Tensor, low: float, high: float) -> Tensor:
    return ops.clip(g, low, high)
