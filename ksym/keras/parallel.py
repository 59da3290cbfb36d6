"""Training of Keras models on all ranks of a job together: see `ksym.data_parallel`.

Keras's training function is made as always, from a loss and an optimizer; but

* The loss of a rank is its *part*: each term that is a mean over the rows of the batch is
  multiplied by `SHARE`, the rank's rows over the mean number of rows of a rank, and each that is a
  sum over rows by the number of ranks.  The mean of the parts over the ranks is then the loss of
  all rows, whatever the numbers of rows are; penalties on weights, the same on all ranks, are in it
  once.
* The optimizer gets the mean of the parts' gradients over the ranks, before it clips them.
* Metrics add up over the ranks.  What layers keep besides, such as moving averages, is averaged by
  rows.

The sums over ranks become one message for each step (`ksym.compiler.collectives`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ksym import dtypes, ops
from ksym.compiler.specialize import specialize
from ksym.errors import GraphError
from ksym.graph import Tensor, substitute, topological_order
from ksym.keras import evaluation, execution
from ksym.keras.steps import AsynchronousFunction, TrainingFunction, states_of
from ksym.keras.tensors import is_placeholder
from ksym.ops.collective import Collective, all_reduce
from ksym.parallel import api, engine
from ksym.variables import Update, Variable

SHARE = ops.placeholder((), "float32", name="share_of_rows", default=1.0)
"""The rows of this rank over the mean number of rows of a rank."""

SUMMED = "_summed_over_rows"
"""The attribute of losses that add up over the rows of a batch, of which others are means."""

COMPILED = "_compiled_data_parallel"
"""The attribute of models that were compiled after `ksym.data_parallel`."""

_making = threading.local()


class Training:
    """A model whose training function is being made.

    Args:
        model: The model.
    """

    def __init__(self, model: Any):
        self.model = model
        size = engine.current().size
        terms = {loss: _is_summed(loss) for loss in getattr(model, "_losses_of_outputs", ())}
        terms.update({loss: _is_summed(loss) for loss in model.losses if _reads_batch(loss)})
        self.parts: dict[Tensor, Tensor] = {
            loss: loss * (float(size) if summed else ops.cast(SHARE, loss.dtype))
            for loss, summed in terms.items()
            if isinstance(loss, Tensor)
        }

    def loss(self) -> Tensor:
        """Return this rank's part of the loss."""
        total: Tensor = self.model.total_loss
        return substitute(total, self.parts)

    def function(
        self, inputs: Sequence[Tensor], outputs: Sequence[Any], updates: Sequence[Any], name: str
    ) -> TrainingFunction:
        """Return the training function."""
        if not _communicates([u.value for u in updates if isinstance(u, Update)]):
            raise GraphError(
                "the optimizer does not get the gradients of all ranks: it has a get_gradients of "
                "its own",
                remedy="call super().get_gradients(loss, params) there",
            )
        inner = execution.make([*inputs, SHARE], outputs, updates, name, self._changed)
        return TrainingFunction(inner, self.model)

    def _changed(
        self,
        results: Sequence[Tensor],
        values: Mapping[Variable, Tensor],
        amounts: Mapping[Variable, Tensor],
    ) -> tuple[list[Tensor], dict[Variable, Tensor]]:
        """Return results and new values of variables with what is added up over the ranks.

        Args:
            results: The loss, and what does not depend on new values.
            values: The new value of each variable that is updated.
            amounts: The amounts by which variables are incremented.
        """
        model, size = self.model, engine.current().size
        weights = {id(v) for v in [*model._collected_trainable_weights, *model.optimizer.weights]}
        states = set(map(id, states_of(model)))
        summed = self._amounts_of_metrics(amounts)
        averaged: dict[Variable, Tensor] = {}
        changed = dict(values)
        for variable, value in values.items():
            if id(variable) in weights or id(variable) in states or variable in summed:
                continue
            if dtypes.is_float(variable.dtype) and _reads_batch(value):
                value = substitute(value, self.parts)
                averaged[variable] = value * ops.cast(SHARE, value.dtype)
        loss, *others = results
        sums = iter(all_reduce([loss, *summed.values(), *averaged.values()]))
        loss = next(sums) / float(size)
        for variable in summed:
            changed[variable] = variable + next(sums)
        for variable in averaged:
            changed[variable] = next(sums) / float(size)
        return [loss, *others], changed

    def _amounts_of_metrics(self, amounts: Mapping[Variable, Tensor]) -> dict[Variable, Tensor]:
        """Return the amounts by which this rank increments the variables of metrics.

        A metric that is one number for a batch, and counts batches, counts rows.
        """
        found = {}
        for metric in self.model._get_training_eval_metrics():
            own = {v: amounts[v] for v in metric.weights if v in amounts}
            parts = {v: substitute(amount, self.parts) for v, amount in own.items()}
            # Sizes that are known read nothing, once they are put in.
            counts_batches = not all(map(_reads_batch, specialize(list(own.values()), {})))
            if counts_batches and all(parts[v] is own[v] for v in own):
                parts = {v: amount * ops.cast(SHARE, amount.dtype) for v, amount in own.items()}
            found.update(parts)
        return found


def _is_summed(loss: Any) -> bool:
    return bool(getattr(loss, SUMMED, False))


def _reads_batch(tensor: Any) -> bool:
    """Return whether a tensor depends on what is given for each batch."""
    if not isinstance(tensor, Tensor):
        return False
    return any(
        is_placeholder(leaf) and leaf.rank
        for n in topological_order([tensor])
        for leaf in n.outputs
    )


def _communicates(tensors: Iterable[Tensor]) -> bool:
    return any(isinstance(n.operator, Collective) for n in topological_order(list(tensors)))


# --- batch normalisation ------------------------------------------------------------------------


def synchronised_moments(
    x: Tensor, axes: Sequence[int], epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and variance of the rows of all ranks, and what Keras takes for the variance.

    Keras corrects the variance for the number of elements of this rank; what it takes is such that
    it gets the variance corrected for those of all ranks.

    Args:
        x: A batch.
        axes: The axes over which the moments are taken, the rows' among them.
        epsilon: That of the layer.
    """
    size = float(engine.current().size)
    share = ops.cast(SHARE, x.dtype)
    own, var = ops.moments(x, axes, keepdims=True)
    mean = all_reduce(own * share) / size
    var = all_reduce((var + ops.square(own - mean)) * share) / size
    shape = ops.shape_of(x)
    elements = ops.constant(1.0, x.dtype)
    for axis in axes:
        elements = elements * ops.cast(shape[axis], x.dtype)
    everywhere = elements * size / share
    corrected = everywhere / (everywhere - (1.0 + epsilon))
    return mean, var, var * corrected * (elements - (1.0 + epsilon)) / elements


# --- what Keras's modules see -------------------------------------------------------------------


def average_gradients(loss: Any, variables: Any) -> list[Tensor | None]:
    """Return the gradient for each variable; of parts of a loss, the mean over the ranks."""
    found = execution.gradients(loss, variables)
    if api.settings() is None or engine.current().is_asynchronous:
        return found
    given = [g for g in found if g is not None]
    if not given:
        return found
    sums = iter(all_reduce(given, compressible=True))
    return [None if g is None else next(sums) / float(engine.current().size) for g in found]


def training_function(inputs: Any, outputs: Any, updates: Any = None, **options: Any) -> Any:
    """Return Keras's function, for a model that is trained by all ranks its `TrainingFunction`."""
    if api.settings() is not None and options.get("name") == "test_function":
        return evaluation.test_function(inputs, outputs, updates or [], options["name"])
    training: Training | None = getattr(_making, "training", None)
    if training is None or options.get("name") != "train_function":
        return execution.function(inputs, outputs, updates, **options)
    return training.function(inputs, outputs, updates or [], options["name"])


def make_train_function(original: Any, model: Any) -> None:
    """Make the training function of a model, as Keras does it or for all ranks."""
    if api.settings() is None:
        return original(model)
    if not getattr(model, COMPILED, False) and hasattr(model, "train_function"):
        raise GraphError(
            "the model was compiled before ksym.data_parallel(), so it would train on this "
            "rank alone",
            remedy="call ksym.data_parallel() at the beginning of the script, before model.compile",
        )
    if getattr(model, "train_function", None) is not None:
        return original(model)
    if engine.current().is_asynchronous:
        original(model)
        model.train_function = AsynchronousFunction(model.train_function, model)
        return None
    total = getattr(model, "total_loss", None)
    if total is not None:
        _making.training = Training(model)
        model.total_loss = _making.training.loss()
    try:
        return original(model)
    finally:
        _making.training = None
        model.total_loss = total


def prepare_total_loss(original: Any, model: Any, *arguments: Any, **options: Any) -> Any:
    """Compute the loss of a model as Keras does, and keep the loss of each output."""
    if api.settings() is None:
        return original(model, *arguments, **options)
    found: list[Tensor] = []

    def kept(function: Any) -> Any:
        def loss(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            if isinstance(result, Tensor):
                if getattr(function, "reduction", None) == "sum":
                    setattr(result, SUMMED, True)
                found.append(result)
            return result

        return loss

    functions = model.loss_functions
    model.loss_functions = [None if f is None else kept(f) for f in functions]
    try:
        total = original(model, *arguments, **options)
    finally:
        model.loss_functions = functions
    model._losses_of_outputs = found
    setattr(model, COMPILED, True)
    return total
