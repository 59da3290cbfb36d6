"""Statistics of the layers of a Keras model: activations, gradients, and sizes of updates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ksym import dtypes
from ksym.autodiff import gradients
from ksym.errors import GraphError, InputError
from ksym.function import function
from ksym.graph import Tensor, topological_order
from ksym.runtime.checking import streams_kept
from ksym.variables import Variable

BINS = 20
"""The number of bins of a histogram, unless the user gives another."""

_BARS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Statistics:
    """What there is to say of an array of numbers.

    Attributes:
        size: The number of elements.
        mean: Their mean; like all that follow, of the finite ones.
        std: Their standard deviation.
        low: The smallest.
        high: The largest.
        rms: The root of the mean of their squares.
        zeros: The share of elements that are zero.
        dead: The share of units, along the last axis, that are zero for the whole batch.
        bad: The number of elements that are NaN or infinite.
        counts: The histogram: the number of elements in each bin.
        edges: The borders of the bins, one more than there are bins.
    """

    size: int
    mean: float
    std: float
    low: float
    high: float
    rms: float
    zeros: float
    dead: float
    bad: int
    counts: np.ndarray = field(repr=False)
    edges: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, array: np.ndarray, bins: int = BINS) -> Statistics:
        """Return the statistics of an array.

        >>> Statistics.of(np.array([0.0, 2.0, np.inf])).mean
        1.0
        """
        values = np.asarray(array, "float64")
        good = values[np.isfinite(values)]
        some: Any = good if good.size else np.zeros(1)
        # Scaled to at most 1: the widths of bins neither vanish nor overflow then.
        scale = float(np.abs(some).max()) or 1.0
        low, high = some.min() / scale, some.max() / scale
        if high - low < 1e-9:
            low, high = low - 0.5, high + 0.5
        counts, edges = np.histogram(good / scale, bins, (low, high))
        last = values.shape[-1] if values.ndim > 1 and values.size else values.size
        units = values.reshape(-1, max(last, 1))
        return cls(
            values.size,
            float(some.mean()),
            float(some.std()),
            float(some.min()),
            float(some.max()),
            float(np.sqrt(np.mean(np.square(some)))),
            float(np.mean(values == 0.0)) if values.size else 0.0,
            float(np.mean((units == 0.0).all(axis=0))) if values.size else 0.0,
            int(values.size - good.size),
            counts,
            edges * scale,
        )

    def bars(self) -> str:
        """Return the histogram as a row of bars."""
        top = max(int(self.counts.max(initial=0)), 1)
        return "".join(_BARS[-(-int(n) * (len(_BARS) - 1) // top)] for n in self.counts)

    def __str__(self) -> str:
        bad = f", {self.bad} not finite" if self.bad else ""
        return f"{self.mean:.3g} ± {self.std:.3g} in [{self.low:.3g}, {self.high:.3g}]{bad}"


@dataclass(frozen=True)
class WeightStatistics:
    """The statistics of one weight of a layer.

    Attributes:
        name: The name of the variable.
        value: Its value.
        gradient: The gradient of the loss; None without targets, or where there is none.
        update: The change that the optimizer's next step makes; None likewise.
    """

    name: str
    value: Statistics
    gradient: Statistics | None = None
    update: Statistics | None = None

    @property
    def step(self) -> float | None:
        """The size of the update beside that of the weight; 1e-3 is common in healthy training."""
        if self.update is None or not self.value.rms:
            return None
        return self.update.rms / self.value.rms


@dataclass(frozen=True)
class LayerStatistics:
    """The statistics of one layer.

    Attributes:
        name: The name of the layer.
        kind: Its class.
        activations: Its outputs.
        gradient: The gradient of the loss by its outputs; None without targets, or if there is
            none.
        weights: Its weights.
    """

    name: str
    kind: str
    activations: Statistics | None
    gradient: Statistics | None
    weights: Sequence[WeightStatistics]


@dataclass(frozen=True)
class Inspection:
    """The statistics of all layers of a model, in their order; printed, they are a table.

    Attributes:
        model: The name of the model.
        layers: The layers.
        loss: The loss of the batch; None without targets.
    """

    model: str
    layers: Sequence[LayerStatistics]
    loss: float | None

    def __getitem__(self, name: str) -> LayerStatistics:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(f"{name!r}; there are {', '.join(layer.name for layer in self.layers)}")

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def inspect(model: Any, batch: Any, *, bins: int = BINS) -> Inspection:
    """Return statistics and histograms of the layers of a Keras model for a batch.

    Nothing changes: neither the weights, nor the optimizer, nor the random numbers of the training.

    Args:
        model: The model; compiled, if the batch has targets.
        batch: What Keras's generators give: x, or (x, y), or (x, y, sample weights).  With y there
            are gradients and updates too, and layers such as dropout act as in training.
        bins: The number of bins of the histograms.

    Raises:
        GraphError: It is no Keras model, or one that is not built, or not compiled for targets.
        InputError: The batch has more than three parts, or does not fit the model.
    """
    if not hasattr(model, "layers") or not hasattr(model, "outputs"):
        raise GraphError(
            f"{type(model).__name__} is no Keras model", remedy="give a keras.Model, or Sequential"
        )
    if not model.outputs:
        raise GraphError(
            f"the model {model.name!r} is not built yet",
            remedy="give its first layer an input_shape, or call the model on data first",
        )
    parts = batch if isinstance(batch, tuple) else (batch,)
    if not 1 <= len(parts) <= 3 or parts[0] is None:
        raise InputError(
            f"the batch has {len(parts)} parts, of types {[type(p).__name__ for p in parts]}",
            remedy="give x, (x, y) or (x, y, sample_weight)",
        )
    if len(parts) > 1 and getattr(model, "optimizer", None) is None:
        raise GraphError(
            f"the model {model.name!r} is not compiled, and the batch has targets",
            remedy="call model.compile(...), or give x only",
        )
    try:
        feeds = _feeds(model, parts)
    except (AttributeError, TypeError, ValueError) as error:  # as Keras finds them
        raise InputError(
            f"the batch does not fit the model {model.name!r}: {error}",
            remedy="give what model.train_on_batch takes: arrays (x, y), or lists of them",
        ) from error
    wanted = _activations(model)
    if len(parts) > 1:
        wanted |= _gradients(model, wanted)
    values = _computed(feeds, wanted)
    return Inspection(model.name, [*_layers(model, values, bins)], _loss(values))


def _feeds(model: Any, parts: Sequence[Any]) -> dict[Tensor, Any]:
    """Return the value of each input, target and sample weight."""
    x, y, weights = model._standardize_user_data(*parts)[:3]
    if len(parts) == 1:
        return dict(zip(model._feed_inputs, x, strict=True))
    model._make_train_function()
    tensors = [*model._feed_inputs, *model._feed_targets, *model._feed_sample_weights]
    feeds: dict[Tensor, Any] = dict(zip(tensors, [*x, *y, *weights], strict=True))
    # Of the inputs of the training function one more may follow: the learning phase.
    feeds |= {tensor: 1 for tensor in model.train_function.inputs if tensor not in feeds}
    return feeds


_Key = tuple[str, Any]


def _activations(model: Any) -> dict[_Key, Tensor]:
    """Return the outputs of each layer: of each place of the model where it is used."""
    found: dict[_Key, Tensor] = {}
    inside = set(topological_order(model.outputs))
    for layer in model.layers:
        for position, use in enumerate(layer._inbound_nodes):
            for number, tensor in enumerate(use.output_tensors):
                if tensor.node in inside:
                    found["activation", (layer.name, position, number)] = tensor
    return found


def _gradients(model: Any, activations: Mapping[_Key, Tensor]) -> dict[_Key, Tensor]:
    """Return the loss, its gradients, and the change of each weight by the optimizer."""
    loss = model.total_loss
    weights = [w for w in model._collected_trainable_weights if isinstance(w, Variable)]
    smooth = {k: t for k, t in activations.items() if dtypes.is_float(t.dtype)}
    slopes = gradients(loss, [*smooth.values(), *weights], disconnected="none")
    found: dict[_Key, Tensor] = {("loss", None): loss}
    keys = [*(("gradient", key) for _, key in smooth), *(("gradient", w) for w in weights)]
    found.update((key, g) for key, g in zip(keys, slopes, strict=True) if g is not None)
    graph = model.train_function.compiled.frozen()
    new = graph.tensors[len(graph.tensors) - len(graph.variables) :]
    for variable, value in zip(graph.variables, new, strict=True):
        if variable in weights:
            found["update", variable] = value - variable
    return found


def _computed(feeds: Mapping[Tensor, Any], wanted: Mapping[_Key, Tensor]) -> dict[_Key, np.ndarray]:
    """Compute tensors, and let random streams go on from where they were."""
    tensors = [*wanted.values()]
    compute = function(list(feeds), tensors, no_default_updates=True, on_unused_input="ignore")
    with streams_kept(tensors):
        return dict(zip(wanted, compute(*feeds.values()), strict=True))


def _loss(values: Mapping[_Key, np.ndarray]) -> float | None:
    loss = values.get(("loss", None))
    return None if loss is None else float(loss)


def _layers(model: Any, values: Mapping[_Key, np.ndarray], bins: int) -> Iterator[LayerStatistics]:
    """Yield the statistics of each layer; a layer that is used several times has one of all."""
    used: dict[tuple[str, str], list[np.ndarray]] = {}
    for (kind, key), array in values.items():
        if isinstance(key, tuple):
            used.setdefault((kind, key[0]), []).append(array)

    def of(arrays: Sequence[np.ndarray]) -> Statistics | None:
        if len(arrays) > 1:
            return Statistics.of(np.concatenate([np.ravel(array) for array in arrays]), bins)
        return Statistics.of(arrays[0], bins) if arrays else None

    for layer in model.layers:
        weights = [
            WeightStatistics(
                w.name,
                Statistics.of(w.get_value(), bins),
                *(of([values[k, w]] if (k, w) in values else []) for k in ("gradient", "update")),
            )
            for w in layer.weights
        ]
        outputs, slopes = (used.get((k, layer.name), []) for k in ("activation", "gradient"))
        yield LayerStatistics(layer.name, type(layer).__name__, of(outputs), of(slopes), weights)


def _lines(found: Inspection) -> Iterator[str]:
    """Yield the lines of the table."""
    loss = "" if found.loss is None else f", loss {found.loss:.6g}"
    yield f"model {found.model}{loss}"
    for layer in found.layers:
        yield f"{layer.name} ({layer.kind})"
        if layer.activations is not None:
            a = layer.activations
            dead = f", {a.zeros:.0%} zeros, {a.dead:.0%} of units dead" if a.zeros else ""
            yield f"  activations  |{a.bars()}| {a}{dead}"
        if layer.gradient is not None:
            yield f"  gradient     |{layer.gradient.bars()}| rms {layer.gradient.rms:.3g}"
        for weight in layer.weights:
            said = f"  {weight.name}  |{weight.value.bars()}| {weight.value}"
            if weight.gradient is not None:
                said += f", gradient rms {weight.gradient.rms:.3g}"
            if weight.update is not None:
                beside = "" if weight.step is None else f", {weight.step:.2g} of the weight's"
                said += f", update rms {weight.update.rms:.3g}{beside}"
            yield said
