"""Functions of other operators that are registered, documented and tested like operators."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ksym.operator.declaration import Operator
from ksym.operator.sampling import Draw, Sample
from ksym.operator.signature import shown
from ksym.origin import parts_of


class Composite(Operator):
    """An operator that puts others into the graph in its place: see `composite`."""

    def __init__(
        self,
        build: Callable[..., Any],
        numpy: Callable[..., Any] | None,
        sample: Callable[[Draw], Sample],
        **traits: Any,
    ):
        self._build = build
        self.build_module = build.__module__
        self._numpy = numpy
        self._sample = sample
        for name, value in traits.items():
            setattr(self, name, value)
        super().__init__(build.__name__.rstrip("_"), build.__doc__)

    def _signature(self) -> inspect.Signature:
        signature = inspect.signature(self._build)
        return shown(signature, str(signature.return_annotation))

    def call(self, *args: Any, **kwargs: Any) -> Any:
        # The parts know the operator's name, for errors that are found with the shapes of a call.
        with self.named(args), parts_of(self.name):
            return self._build(*args, **kwargs)

    def numpy(self, *arrays: Any, **attributes: Any) -> Any:
        if self._numpy is None:
            raise NotImplementedError(self.name)
        return self._numpy(*arrays, **attributes)

    def sample(self, draw: Draw) -> Sample:
        return self._sample(draw)


def composite(
    numpy: Callable[..., Any] | None, sample: Callable[[Draw], Sample], **traits: Any
) -> Callable[[Callable[..., Any]], Composite]:
    """Declare a function that builds its result from other operators.

    Args:
        numpy: The meaning in NumPy, called with arrays and the attributes of a sample; None for
            random numbers, which are not compared.
        sample: A function that draws operands for a test.
        traits: Attributes of `Operator`, such as conditioning.

    Returns:
        A decorator.  The operator's name is that of the function.
    """
    return lambda build: Composite(build, numpy, sample, **traits)
