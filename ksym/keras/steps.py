"""Training functions of Keras models on the ranks of a job, and the rows that each takes.

`TrainingFunction` is for a graph in which gradients are added up over the ranks; with
`AsynchronousFunction` ranks add their changes to weights that parameter servers keep.
"""

from __future__ import annotations

import json
import weakref
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ksym.arguments import variables_in
from ksym.errors import InputError
from ksym.graph import Tensor
from ksym.keras import execution
from ksym.keras.execution import KerasFunction
from ksym.keras.tensors import is_placeholder
from ksym.ops.random.streams import RandomStream, random_streams
from ksym.parallel import api, engine
from ksym.parallel.kvstore import KVStoreEngine, Parameters
from ksym.variables import Variable, get_values, set_values

CHECKED = 100
"""The number of steps after which the ranks compare their batches again, after the first ones."""


class TrainingFunction:
    """A training function that computes this rank's part of a batch.

    Args:
        inner: The function that Keras would have, of this rank's rows and `SHARE`.
        model: The model.
    """

    def __init__(self, inner: KerasFunction, model: Any):
        self._inner = inner
        self._model = weakref.ref(model)
        self._steps = 0
        _fork(random_streams(inner.compiled._graph))

    def __getattr__(self, name: str) -> Any:
        if name == "_inner":
            raise AttributeError(name)
        return getattr(self._inner, name)

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """Train on a batch, and return the loss and the metrics of all its rows.

        Args:
            inputs: As for Keras's function: all rows, or those of this rank.

        Raises:
            InputError: There are fewer rows than ranks, or the ranks are given other batches than
                they should.
        """
        if not self._steps:
            self.share_variables()
        values, share = self._own_rows(inputs)
        return self._inner([*values, np.float32(share)])

    def _is_checked(self) -> bool:
        """Return whether the ranks compare their batches in this step, at which all wait."""
        return self._steps < 3 or self._steps % CHECKED == 0

    def _own_rows(self, inputs: Sequence[Any]) -> tuple[list[Any], float]:
        """Return this rank's rows of a batch, and its share of all.

        Raises:
            InputError: As calling the function does.
        """
        values = [execution._given(value) for value in inputs]
        placeholders = self._inner.inputs[: len(values)]
        by_row = [i for i, x in enumerate(placeholders) if x.rank and is_placeholder(x)]
        chosen = api.settings()
        assert chosen is not None
        check = self._is_checked()
        self._steps += 1
        if chosen.batches == "global":
            return values, _take_rows(values, by_row, check, placeholders)
        if engine.current().is_asynchronous:
            return values, 1.0
        return values, _share_of(len(values[by_row[0]]))

    def share_variables(self) -> None:
        """Give all variables the values that they have on rank 0.

        Raises:
            ParallelError: The ranks have other models or optimizers.
        """
        made, compiled = engine.current(), self._inner.compiled
        model: Any = self._model()
        variables = list(dict.fromkeys(variables_in(compiled._graph, compiled._variables)))
        items = {
            f"optimizer {type(model.optimizer).__name__}": json.dumps(
                model.optimizer.get_config(), default=_no_address, sort_keys=True
            ),
            "losses": json.dumps(model.loss, default=_no_address, sort_keys=True),
            "inputs and outputs": str([str(t.spec) for t in [*model.inputs, *model.outputs]]),
            "number of weights": len(variables),
        }
        items |= {f"weight {i}": str(v.spec) for i, v in enumerate(variables)}
        config = {"layers": [layer.get_config() for layer in getattr(model, "layers", ())]}
        items["layers"] = _digest(json.dumps(config, default=_no_address, sort_keys=True).encode())
        made.agree("models or optimizers", items)
        values = [made.broadcast(value) for value in get_values(variables)]
        set_values(list(zip(variables, values, strict=True)))


class AsynchronousFunction(TrainingFunction):
    """A training function that does not wait for the steps of other ranks.

    Each rank trains on its part of the rows, with an optimizer of its own, and sends what it has
    changed in its weights to servers, which add up; then it adds what others have sent by then.
    """

    def __init__(self, inner: KerasFunction, model: Any):
        super().__init__(inner, model)
        self._parameters: Parameters | None = None

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """Train on this rank's rows of a batch, and return their loss and metrics.

        Args:
            inputs: As for `TrainingFunction`.

        Raises:
            InputError: As there.
        """
        if not self._steps:
            self.share_variables()
        values, _ = self._own_rows(inputs)
        assert self._parameters is not None
        weights = self._weights()
        before = get_values(weights)
        results = self._inner(values)
        found = self._parameters.exchange(before, get_values(weights))
        set_values(list(zip(weights, found, strict=True)))
        return results

    def share_variables(self) -> None:
        """Give all variables the values that they have on rank 0, the servers' among them."""
        super().share_variables()
        made = engine.current()
        assert isinstance(made, KVStoreEngine)
        if self._parameters is None:
            self._parameters = made.parameters(get_values(self._weights()))
        else:
            self._parameters.restart()
        # A change of a rank that is ahead would be taken for one of before.
        made.exchange("", "the beginning of asynchronous training")

    def settle(self) -> None:
        """Give this rank the weights that all ranks have made, once all of them have come here."""
        if self._parameters is None:
            return
        made, weights = engine.current(), self._weights()
        made.exchange("", "the steps of an epoch")
        found = self._parameters.pull(get_values(weights))
        # Nobody changes them before all ranks have them.
        made.exchange("", "the weights of an epoch")
        # Ranks have added the changes up in different orders.
        same = [made.broadcast(value) for value in found]
        set_values(list(zip(weights, same, strict=True)))

    def _is_checked(self) -> bool:
        return not self._steps

    def _weights(self) -> list[Variable]:
        model: Any = self._model()
        states = set(map(id, states_of(model)))
        weights = [v for v in model.weights if v.dtype in ("float32", "float64")]
        return [v for v in dict.fromkeys(weights) if id(v) not in states]


def _no_address(value: Any) -> str:
    return getattr(value, "__name__", type(value).__name__)


def _digest(data: Any) -> str:
    return f"{zlib.crc32(data):08x}"


def _take_rows(
    values: list[Any], by_row: Sequence[int], check: bool, placeholders: Sequence[Tensor]
) -> float:
    """Replace the rows of a batch by those of this rank, and return its share of them."""
    made = engine.current()
    rows = len(values[by_row[0]])
    if check:
        digests = [_digest(np.ascontiguousarray(values[i])) for i in by_row]
        items = {"rows": rows, "contents": " ".join(digests)}
        differing = engine.difference(
            [json.loads(m) for m in made.exchange(json.dumps(items), "a look at the batches")]
        )
        if differing:
            raise InputError(
                "the ranks are given different batches, of which each would take other rows",
                details=differing,
                remedy="seed what shuffles and draws batches alike on all ranks; or have each rank "
                'bring its own rows, with ksym.data_parallel(batches="local")',
            )
    if rows < made.size:
        raise InputError(
            f"a batch of {rows} row(s) cannot be divided among {made.size} ranks",
            remedy="take larger batches, leave out the last rows, or start fewer processes",
        )
    start, stop = api.bounds(rows)
    for i in by_row:
        fixed = placeholders[i].shape[0]
        if fixed is not None and fixed != stop - start:
            raise InputError(
                f"the model is made for batches of {fixed} rows, and this rank's part has "
                f"{stop - start} of {rows}",
                remedy="make it for batches of any size; or have each rank bring such a batch, "
                'with ksym.data_parallel(batches="local")',
            )
        values[i] = values[i][start:stop]
    return (stop - start) * made.size / rows


def _share_of(rows: int) -> float:
    """Return this rank's share of the rows that all ranks bring."""
    made = engine.current()
    total = float(made.reduced([np.array(rows, "float64")])[0])
    return rows * made.size / total


def states_of(model: Any) -> list[Variable]:
    """Return the states that recurrent layers keep for each row."""
    found = []
    for layer in getattr(model, "layers", ()):
        states = getattr(layer, "states", None) if getattr(layer, "stateful", False) else None
        found += [s for s in states or () if isinstance(s, Variable)]
        found += states_of(layer)
    return found


_forked: weakref.WeakSet[RandomStream] = weakref.WeakSet()


def _fork(streams: Iterable[RandomStream]) -> None:
    """Have streams draw other numbers on each rank, which the seed and the rank determine."""
    rank = engine.current().rank
    for stream in streams:
        if rank and stream not in _forked:
            state = stream.get_state()
            words = [int(word) for word in np.asarray(state["state"]["state"]).ravel()]
            fresh = np.random.SFC64(np.random.SeedSequence([rank, *words]))
            stream.set_state(dict(fresh.state))
        _forked.add(stream)
