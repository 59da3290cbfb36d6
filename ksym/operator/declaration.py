"""The declaration of an operator: one class that holds everything ksym knows about it.

A subclass of `Operator` states, side by side:

``prepare``   the public signature; turns the user's arguments into operand tensors and attributes
``infer``     shapes and dtypes of the results from those of the operands
``numpy``     the meaning, in NumPy: the tests' oracle, and how constants are folded
``lower``     the native MXNet operators that compute it, or
``onnx``      the operators of ONNX that compute it, for exporting
``expand``    the graph operators it is composed of, where MXNet has nothing native
``formula``   the computation of one element, in a kernel that ksym generates
``gradient``  the chain rule, in graph operators, so that gradients have gradients
``batched``   the same for all steps of a loop at once
``merge_axes`` the same by fewer axes, where native operators take few
``simplify``  identities that hold for it, as graph rewrites
``sample``    how tests draw operands for it

Creating an instance registers it and gives a function that users call.  Arrays are positional
operands, everything else is a hashable attribute, so equal nodes are found by dictionary look-up.

A function of other operators that needs no node of its own is declared with `composite`: it is
registered, documented and tested like the others.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ksym import dtypes, graph, shapes
from ksym.errors import ArgumentError, GraphError, KsymError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.batching import Stacked
from ksym.operator.layout import Layout
from ksym.operator.machine import Combination, Formula
from ksym.operator.operands import as_tensor
from ksym.operator.sampling import Draw, Sample
from ksym.operator.signature import parameters_of, short, shown
from ksym.origin import Origin, current_origin, is_from_user
from ksym.shapes import UNKNOWN

KNOWN_SIZE_LIMIT = 64
"""Integer tensors up to this many elements carry their value while the graph is built."""


class Conditioning(NamedTuple):
    """The loss of accuracy of an operator, compared with the arithmetic it is made of.

    Attributes:
        factor: The factor by which the error may exceed the usual bound on relative errors.
        reason: The property of the function itself that causes it.
    """

    factor: float
    reason: str


def _is_like(new: Tensor, old: Tensor) -> bool:
    """Return whether as much is known of one tensor as of another, so that `infer` agrees."""
    if new is old:
        return True
    if new.shape != old.shape or new.dtype != old.dtype:
        return False
    if new.value is None or old.value is None:
        return new.value is old.value
    return new.value.dtype == old.value.dtype and new.value.tobytes() == old.value.tobytes()


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _is_partly_unknown(tensor: Tensor) -> bool:
    return tensor.value is not None and any(item is UNKNOWN for item in tensor.value.flat)


def _alike(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Return whether attributes are equal, a NaN to a NaN, and of the same types."""
    return _exactly(tuple(sorted(first.items()))) == _exactly(tuple(sorted(second.items())))


def _exactly(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_exactly, value))
    if isinstance(value, float):
        return "float", value.hex()
    return isinstance(value, bool), value


def operator_named(name: str) -> Operator:
    """Return the operator of a name, as it is written in pickles and files.

    Raises:
        GraphError: No operator of this name is declared.
    """
    if name not in graph.OPERATORS:
        raise GraphError(
            f"the graph has the operator {name!r}, which is not declared",
            remedy="import the module that declares it first; ksym's own are all there, so else "
            "the graph is of another version of ksym",
        )
    return graph.OPERATORS[name]


class Operator:
    """The base class of all declarations; see the module's docstring.

    Attributes:
        name: The name in graphs and messages; that of the class unless given.
        pure: Whether equal applications have equal results, so that they may be merged.
        effect: Whether computing it does something else besides, such as printing: in the order
            of the attribute ``number``, and not again where a gradient computes a loop again.
        static_operands: Positions of operands (shapes, bounds) whose values must be known once the
            input shapes are.
        linear_in: Positions of operands the results are linear in: if one is zero, they are.
        elementwise: Whether each element of the result depends on the operands' elements at its
            place only, operands being broadcast.
        runs: ``"native"`` for what is lowered into native graphs; ``"host"`` for what MXNet does
            not have and cannot be composed of what it has, computed by `numpy` between them;
            ``"collective"`` for what all ranks of a job take part in; the kind of loop or branch
            for control flow.
        commutative: Whether two operands may be exchanged, which changes no bit of the result.
        viewing: Whether its elements are those of its first operand, so that a kernel may read
            them in place: see `is_view` and `layout`.
        combination: The combination of elements in a kernel, for a reduction.
        own_layout: Whether oneDNN may leave its results in a memory layout of its own.
        keeps_layout: Whether its results are in the layout of its operands, oneDNN's own too.
        repeats: The names of the operators of which one is emitted again by its lowering, so that
            both should be in one native graph.
        work: The floating-point operations for each element of its largest operand or result, see
            `flops`; by default one if it is elementwise or has a combination, else none.
        formula: The computation of an element in a kernel (`ksym.operator.machine`), for the
            dtypes that the machine takes.
        no_formula: The reason why an elementwise operator that is not composed of others has no
            formula.
        internal: The reason why users do not call it by name: what it is a part of, or made by.
        half: Whether MXNet has float16 kernels for it on CPU; without, it is computed in float32.
        conditioning: The error that tests allow beyond the usual bounds, and the reason.
        unproven: For each check of the tests that leaves the operator out, the reason: of
            ``"values"``, ``"gradients"``, ``"second order"`` and ``"mistakes"``.
    """

    pure = True
    effect = False
    static_operands: tuple[int, ...] = ()
    linear_in: tuple[int, ...] = ()
    elementwise = False
    runs = "native"
    commutative = False
    viewing = False
    combination: Combination | None = None
    own_layout = False
    keeps_layout = False
    repeats: tuple[str, ...] = ()
    work: float | None = None
    formula: Formula | None = None
    no_formula = ""
    internal = ""
    half = True
    conditioning = Conditioning(1.0, "")
    unproven: Mapping[str, str] = {}

    def __init__(self, name: str | None = None, doc: str | None = None):
        self.name = name or _snake_case(type(self).__name__)
        self.__name__ = self.name
        # For `help`, editors and error messages.
        self.__doc__ = inspect.cleandoc(doc or type(self).__doc__ or "")
        self.__signature__ = self._signature()
        if self.name in graph.OPERATORS:
            raise GraphError(f"an operator named {self.name!r} is declared already")
        graph.OPERATORS[self.name] = self

    def _signature(self) -> inspect.Signature:
        """Return the signature that users see: its parameters, and what `infer` says of results."""
        signature = inspect.signature(self.call)
        if any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values()):
            signature = inspect.signature(self.prepare)  # `call` hands all on to it
        results = inspect.get_annotations(type(self).infer).get("return", "Spec")
        return shown(signature, results.replace("Spec", "Tensor"))

    def __repr__(self) -> str:
        return f"<operator {self.name}>"

    def __get__(self, instance: object, owner: type | None = None) -> Operator:
        """Return the operator; with this, `help` and editors take it for a function."""
        return self

    def __reduce__(self) -> tuple[Callable[[str], Operator], tuple[str]]:
        return operator_named, (self.name,)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.call(*args, **kwargs)
        except KsymError as error:
            raise error.located(self.name, origin=current_origin()) from None
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            if is_from_user(error):
                raise
            raise self._refused(args, kwargs, error) from error

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Do what a call does: put a node into the graph, and return its results.

        Operators whose calls do more, or whose number of results is an argument, say it here.
        """
        operands, attributes = self.prepare(*args, **kwargs)
        return self.make(operands, attributes)

    def _refused(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], error: Exception
    ) -> KsymError:
        """Return the error for arguments of which Python or NumPy could make nothing.

        Args:
            args: The positional arguments.
            kwargs: The arguments that were given by name.
            error: The exception that they led to.
        """
        try:
            given = self.__signature__.bind(*args, **kwargs).arguments
        except TypeError as wrong:
            problem = str(wrong)
        else:
            # Tensors have been checked before; what else there is, is shown to find the wrong one.
            others = [f"{k}={short(v)}" for k, v in given.items() if not isinstance(v, Tensor)]
            problem = f"the arguments {', '.join(others)} are refused by Python: {error}"
        remedy = f"call it as {self.name}{parameters_of(self.__signature__)}"
        specs = [tensor.spec for tensor in args if isinstance(tensor, Tensor)]
        return ArgumentError(problem, remedy=remedy).located(self.name, specs, current_origin())

    def make(self, operands: Sequence[Tensor], attributes: Mapping[str, Any]) -> Any:
        """Build the node and return its output, or a tuple if it has several.

        Raises:
            KsymError: An error of `infer`, with the operator, operands and place added.
        """
        origin: Origin = current_origin()
        try:
            inferred = self.infer(*operands, **attributes)
        except KsymError as error:
            raise error.located(self.name, [t.spec for t in operands], origin) from None
        specs = (inferred,) if isinstance(inferred, Spec) else inferred
        node = Node(self, operands, attributes, specs, origin)
        self.track_values(node)
        return node.outputs[0] if isinstance(inferred, Spec) else node.outputs

    def remake(self, node: Node, operands: Sequence[Tensor]) -> Node:
        """Return the node applied to other operands.

        Raises:
            KsymError: As `make`.
        """
        if self.static_operands or not all(map(_is_like, operands, node.inputs)):
            made = self.make(operands, node.attributes)
            return (made if isinstance(made, Tensor) else made[0]).node
        specs = [tensor.spec for tensor in node.outputs]
        result = Node(self, operands, node.attributes, specs, current_origin())
        for new, old in zip(result.outputs, node.outputs, strict=True):
            new.value = old.value
        return result

    def restore(
        self, operands: Sequence[Tensor], attributes: Mapping[str, Any], specs: Sequence[Spec]
    ) -> Node:
        """Make a node that was saved, of which nothing is known to be as a call makes it.

        Raises:
            GraphError: The operands, attributes and results do not belong together.
            Exception: Any other, as nothing is known of the attributes.
        """
        self.check_saved(operands, attributes)
        made = self.make(operands, attributes)
        node = (made if isinstance(made, Tensor) else made[0]).node
        if not _alike(node.attributes, attributes) or [t.spec for t in node.outputs] != list(specs):
            raise GraphError("the results are others than those that were saved")
        return node

    def check_saved(self, operands: Sequence[Tensor], attributes: Mapping[str, Any]) -> None:
        """Check that a call could give operands and attributes; what it need not `make` checks.

        By default the `arguments` are given to `prepare`, which has to return the same.

        Raises:
            GraphError: No call gives them.
            Exception: Any other, as nothing is known of the attributes.
        """
        args, kwargs = self.arguments(operands, attributes)
        prepared, found = self.prepare(*args, **kwargs)
        specs = [t.spec for t in prepared]
        if not _alike(found, attributes) or specs != [t.spec for t in operands]:
            raise GraphError("no call has these operands and attributes")

    def arguments(
        self, operands: Sequence[Tensor], attributes: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return the arguments of a call that gives operands and attributes."""
        return operands, attributes

    def track_values(self, node: Node) -> None:
        """Compute small integer results whose operands are known, for shape arithmetic."""
        output = node.outputs[0]
        if output.dtype in dtypes.FLOATS or len(node.outputs) != 1 or not self.pure:
            return
        if any(tensor.value is None for tensor in node.inputs):
            return
        # NumPy compares an unknown dimension as an object, and would call it unequal to a number.
        if output.dtype == "bool" and any(map(_is_partly_unknown, node.inputs)):
            return
        elements = shapes.size(output.shape)
        if elements is None or elements > KNOWN_SIZE_LIMIT:
            return
        if elements == 0 and shapes.is_known(output.shape):
            output.value = np.empty(shapes.known(output.shape), output.dtype)
            return
        with np.errstate(all="ignore"):
            value = self.known(*node.inputs, **node.attributes)
        if value is not None and not any(item is UNKNOWN for item in value.flat):
            value = value.astype(output.dtype)
        output.value = value

    def known(self, *operands: Any, **attributes: Any) -> np.ndarray | None:
        """Compute the known part of the result from the known values of the operands.

        The default applies `numpy`, in which an unknown dimension absorbs arithmetic.
        """
        try:
            return np.asarray(self.numpy(*(t.value for t in operands), **attributes))
        except (NotImplementedError, TypeError, ValueError):
            return None

    def apply(self, *operands: Any, **attributes: Any) -> Any:
        """Call with one argument for each operand, whatever the public signature looks like."""
        return self(*operands, **attributes)

    @contextmanager
    def named(self, operands: Sequence[Any] = ()) -> Iterator[None]:
        """Name errors raised inside of the context after this operator, which the user called.

        Of its arguments the tensors are named as its operands.  The operator that raised the error
        stays in its details.
        """
        try:
            yield
        except KsymError as error:
            if error.operator not in (None, self.name):
                error.details = (*error.details, f"in its part: {error.operator}")
                error.operator, error.operands = None, ()
            specs = [tensor.spec for tensor in operands if isinstance(tensor, Tensor)]
            raise error.located(self.name, specs, current_origin()) from None

    # --- the parts of a declaration ------------------------------------------------------------

    def prepare(self, *args: Any, **kwargs: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        """Turn the user's arguments into operands and attributes."""
        return [as_tensor(a) for a in args], kwargs

    def infer(self, *operands: Any, **attributes: Any) -> Spec | tuple[Spec, ...]:
        """Return the result's shape and dtype; several for an operator with several results."""
        raise NotImplementedError

    def numpy(self, *arrays: Any, **attributes: Any) -> Any:
        """Compute the result in NumPy."""
        raise NotImplementedError(self.name)

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        """Emit native operators for a node whose shapes are all known; return its results."""
        raise NotImplementedError(self.name)

    def onnx(self, *args: Any, **kwargs: Any) -> Any:
        """Write operators of ONNX for a node whose shapes are all known; return its results.

        Called with an `OnnxEmitter`, the node and its operands.  Elementwise operators with a
        formula, and composed ones, need not say.
        """
        raise NotImplementedError(self.name)

    def gradient(self, *args: Any, **kwargs: Any) -> Sequence[Tensor | None]:
        """Return the gradient for each operand, None where there is none.

        Called with the node and, for each of its outputs, the gradient that arrives there or None.
        """
        node: Node = args[0]
        return [None] * len(node.inputs)

    def differentiable_form(self, node: Node) -> Sequence[Tensor] | None:
        """Return the node's outputs composed of operators that have gradients.

        Stands in for `gradient` where that would be longer than differentiating the composition.
        """
        return None

    def check(self, node: Node) -> None:
        """Raise an error for a mistake that shows only when all shapes are known."""

    def expand(self, node: Node) -> Tensor | Sequence[Tensor] | None:
        """Return the node's outputs composed of other operators, once all shapes are known.

        For operators that MXNet does not have; they need no `lower`.
        """
        return None

    def decompose(self, node: Node, operands: Sequence[Tensor]) -> Tensor | None:
        """Return the node's output on other operands, composed of operators that kernels compute.

        Only elementwise operators and reductions are of use; None where the kernel is all there is.
        """
        return None

    def merge_axes(self, node: Node) -> Tensor | Sequence[Tensor] | None:
        """Return the node's outputs by nodes of at most `ranks.MOST` axes; see `ksym.ops.ranks`.

        Called for a node of known shapes that has more; None if its kernels take any number.
        Elementwise operators need not say.
        """
        return None

    def is_composed(self, node: Node) -> bool:
        """Return whether to `expand` a node of known shapes: by default, if it is declared."""
        return type(self).expand is not Operator.expand

    def takes_data(self, node: Node) -> bool:
        """Return whether to `expand` a node of known operands whose static operands are data.

        By default the nodes that need them are compiled anew for each value that turns up.
        """
        return False

    def makes_blocks(self, node: Node) -> bool:
        """Return whether oneDNN may leave a node's results in a layout of its own."""
        return self.own_layout

    def flops(self, node: Node) -> float:
        """Return the number of floating-point operations of a node of known shapes.

        A multiplication and an addition are two; a function such as exp is one.
        """
        work = self.work
        if work is None:
            work = float(self.elementwise or self.combination is not None)
        return work * max(shapes.size(t.shape) or 0 for t in (*node.inputs, *node.outputs))

    def simplify(self, node: Node) -> Tensor | Sequence[Tensor] | None:
        """Return a simpler equal of the node's outputs, or None."""
        return None

    def permuted(
        self, node: Node, operands: Sequence[Tensor], order: tuple[int, ...]
    ) -> tuple[Tensor, tuple[int, ...]] | None:
        """Return a tensor and an order of its axes that together are the node's output.

        Args:
            node: A node each of whose operands is the one given here with its axes put in order.
            operands: The operands before that.
            order: For each axis of the node's operands its number among the axes of these.

        Returns:
            The tensor to compute from the operands instead, and the order to put its axes in; None
            where the operator depends on the order.  Elementwise operators need not say.
        """
        return None

    def batched(self, node: Node, operands: Sequence[Stacked], length: int) -> Tensor | None:
        """Return the node's output for all steps of a loop at once, stacked: its batching rule.

        Args:
            node: A node of the loop's body, of known shapes and with one output.
            operands: Its operands over all steps; static ones are the same at all steps, another is
                not.
            length: How many steps there are.

        Returns:
            The stack of the outputs along a new first axis; None where there is no way to compute
            it at once.  Elementwise operators need not say.
        """
        return None

    def is_view(self, node: Node) -> bool:
        """Return whether a kernel can read a node's elements in the array of its first operand.

        Called for a node of known shapes with elements, whose operator is `viewing`.
        """
        raise NotImplementedError(self.name)

    def layout(self, node: Node, operand: Layout) -> Layout:
        """Return the layout of a node that `is_view`, given that of its operand."""
        raise NotImplementedError(self.name)

    def sample(self, draw: Draw) -> Sample:
        """Draw operands for a test."""
        raise NotImplementedError(self.name)
