"""Evaluation of Keras models by all ranks of a job together: see `ksym.data_parallel`.

Each rank computes whole batches, rank r of n the batches r, r + n, ..., so a batch's values are
those of one process.  Losses of batches are added up, and so is what metrics have counted; nothing
is sent before the end.  Every rank gets the same results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ksym.graph import Tensor
from ksym.keras import execution
from ksym.keras.execution import KerasFunction
from ksym.keras.steps import AsynchronousFunction
from ksym.parallel import api, engine
from ksym.variables import Variable, get_values, set_values

COUNTED = "_counted_by_metrics"
"""The attribute of test functions that lists the variables that they add to, and nothing else."""

_BEGINNING = "the beginning of an evaluation, which ranks share unless share_evaluation=False"
"""The exchange that ranks wait in for others that evaluate nothing."""

_RESULTS = "_results_of_metrics"
"""The attribute of models with a function that computes the results of their metrics."""


def test_function(
    inputs: Sequence[Tensor], outputs: Sequence[Any], updates: Sequence[Any], name: str
) -> KerasFunction:
    """Return Keras's test function, which knows whether its metrics count."""
    counted: list[Variable] | None = None

    def noted(
        results: Sequence[Tensor],
        values: Mapping[Variable, Tensor],
        amounts: Mapping[Variable, Tensor],
    ) -> tuple[Sequence[Tensor], Mapping[Variable, Tensor]]:
        nonlocal counted
        counted = list(values) if values.keys() == amounts.keys() else None
        return results, values

    made = execution.make(inputs, outputs, updates, name, noted)
    setattr(made, COUNTED, counted)
    return made


class SharedEvaluation:
    """A test function that computes this rank's batches of an evaluation.

    Args:
        function: The test function of the model.
        model: The model, whose metrics have been reset.
        has_last_loss: Whether Keras takes the loss of the last batch for that of all, as it does
            with generators.
    """

    def __init__(self, function: KerasFunction, model: Any, has_last_loss: bool):
        self._function, self._model = function, model
        self._has_last_loss = has_last_loss
        self._counted: list[Variable] = getattr(function, COUNTED)
        self._before = get_values(self._counted)
        self._batches = self._rows = self._last = 0

    def __getattr__(self, name: str) -> Any:
        if name == "_function":
            raise AttributeError(name)
        return getattr(self._function, name)

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """Return the loss and the metrics of a batch, and zeros for one of another rank."""
        made, chosen = engine.current(), api.settings()
        assert chosen is not None
        is_own = chosen.batches == "local" or self._batches % made.size == made.rank
        self._batches += 1
        self._last = len(inputs[0])
        self._rows += self._last
        return self._function(inputs) if is_own else [0.0] * len(self._function.outputs)

    def combined(self, found: Any) -> Any:
        """Return the loss and the metrics of all batches.

        Args:
            found: What Keras has made of this rank's.

        Raises:
            ParallelError: The ranks are given different numbers of rows or batches.
        """
        made, chosen = engine.current(), api.settings()
        assert chosen is not None
        values = list(found) if isinstance(found, list) else [found]
        if chosen.batches == "global":
            made.agree("data to evaluate", {"batches": self._batches, "rows": self._rows})
            weight = 1.0
        else:
            weight = float(self._last if self._has_last_loss else self._rows)
        own = np.array([values[0] * weight, weight])
        parts = [
            np.asarray(value - before)
            for value, before in zip(get_values(self._counted), self._before, strict=True)
        ]
        loss, *sums = made.reduced([own, *parts])
        set_values(
            [
                (variable, before + total)
                for variable, before, total in zip(self._counted, self._before, sums, strict=True)
            ]
        )
        values[0] = float(loss[0] / loss[1]) if chosen.batches == "local" else float(loss[0])
        values[1:] = map(float, self._results())
        return values if isinstance(found, list) else values[0]

    def _results(self) -> list[Any]:
        """Return the results of all metrics, in the order of the test function's."""
        model = self._model
        function, made = getattr(model, _RESULTS, (None, None))
        if function is None or made is not self._function:
            metrics = model._get_training_eval_metrics()
            called = [(m, m._call_result) for m in metrics if hasattr(m, "_call_result")]
            function = execution.function([], [metric.result() for metric, _ in called])
            for metric, result in called:
                # Keras notes what `result` returns; that of the call reads the updated state.
                metric._call_result = result
            setattr(model, _RESULTS, (function, self._function))
        found: list[Any] = function([])
        return found


def begin(
    function: Any, model: Any, callbacks: Any, has_last_loss: bool = False
) -> SharedEvaluation | None:
    """Return a test function of which each rank computes some batches, as all ranks call it.

    None if each computes all: where the model keeps something other than sums, or a callback looks
    at single batches.

    Args:
        function: The test function of the model.
        model: The model.
        callbacks: The callbacks of the evaluation.
        has_last_loss: As for `SharedEvaluation`.
    """
    chosen = api.settings()
    if chosen is None or not chosen.share_evaluation:
        return None
    trained = getattr(model, "train_function", None)
    if isinstance(trained, AsynchronousFunction):
        trained.settle()
    counts = getattr(function, COUNTED, None) is not None
    can_share = counts and not any(map(_sees_batches, _listed(callbacks)))
    made = engine.current()
    if "no" in made.exchange("yes" if can_share else "no", _BEGINNING):
        return None
    model.reset_metrics()
    return SharedEvaluation(function, model, has_last_loss)


def _listed(callbacks: Any) -> list[Any]:
    found = getattr(callbacks, "callbacks", callbacks)
    return list(found) if isinstance(found, list | tuple) else [found]


def _sees_batches(callback: Any) -> bool:
    """Return whether a callback has a method of its own for the batches of an evaluation."""
    methods = (getattr(type(callback), f"on_test_batch_{at}", None) for at in ("begin", "end"))
    return any(m is not None and m.__module__ != "keras.callbacks.callbacks" for m in methods)


# --- what Keras's modules see -------------------------------------------------------------------


def test_loop(original: Any, model: Any, f: Any, ins: Any, *arguments: Any, **options: Any) -> Any:
    """Evaluate a model on arrays."""
    names = ("batch_size", "verbose", "steps", "callbacks")
    given = {**dict(zip(names, arguments, strict=False)), **options}
    # With steps Keras adds up the running values of metrics, which one rank alone does not see.
    shared = None if given.get("steps") is not None else begin(f, model, given.get("callbacks"))
    if shared is None:
        return original(model, f, ins, **given)
    return shared.combined(original(model, shared, ins, **given))


def evaluate_generator(original: Any, model: Any, *arguments: Any, **options: Any) -> Any:
    """Evaluate a model on what a generator gives."""
    if api.settings() is None:
        return original(model, *arguments, **options)
    names = ("generator", "steps", "callbacks")
    given = {**dict(zip(names, arguments, strict=False)), **options}
    model._make_test_function()
    function = model.test_function
    shared = begin(function, model, given.get("callbacks"), has_last_loss=True)
    if shared is None:
        return original(model, *arguments, **options)
    model.test_function = shared
    try:
        found = original(model, *arguments, **options)
    finally:
        model.test_function = function
    return shared.combined(found)
