"""Modules of Keras on the ranks of a job: who prints, who writes files, and what callbacks see.

Rank 0 prints what Keras prints, and writes checkpoints and logs.  At the beginning of a training
all ranks check that they are about to take the same steps, and get the variables of rank 0; at each
epoch, its random numbers and its logs.  Without `ksym.data_parallel` all is as it was.
"""

from __future__ import annotations

import builtins
import collections
import functools
import json
import os
from collections.abc import Callable, Mapping
from importlib.metadata import version
from types import ModuleType
from typing import Any

import numpy as np

from ksym.errors import InputError, ParallelError
from ksym.keras import evaluation, parallel, steps
from ksym.keras.namespaces import Namespace
from ksym.output import replacement
from ksym.parallel import api, engine

PRINTING = (
    "keras.callbacks.callbacks",
    "keras.engine.training_arrays",
    "keras.engine.training_generator",
    "keras.utils.layer_utils",
)
"""The modules of Keras that print."""

ALONE = ("CSVLogger", "RemoteMonitor", "TensorBoard")
"""The names of the callbacks that write, or send, and so do it on rank 0 only."""


def is_silent() -> bool:
    """Return whether this rank leaves printing and writing to rank 0."""
    return api.settings() is not None and engine.current().rank > 0


def adapt(module: ModuleType) -> None:
    """Change what a module of Keras does on the ranks of a job, if there is anything to change."""
    if module.__name__ in PRINTING:
        vars(module)["print"] = _print
    if module.__name__ in _HOOKS:
        _HOOKS[module.__name__](module)


def names() -> set[str]:
    """Return the names of the modules that `adapt` changes."""
    return {*PRINTING, *_HOOKS}


def _print(*values: Any, **options: Any) -> None:
    if not is_silent():
        builtins.print(*values, **options)


def _wrapped(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Replace a function by one that is called with the original and its arguments."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def called(*arguments: Any, **options: Any) -> Any:
        return around(original, *arguments, **options)

    setattr(owner, name, called)


def _see(module: ModuleType, names: Mapping[str, Any]) -> None:
    """Have a module see a backend with some functions replaced."""
    vars(module)["K"] = Namespace(vars(module)["K"], dict(names))


# --- training -----------------------------------------------------------------------------------


def _optimizers(module: Any) -> None:
    _see(module, {"gradients": parallel.average_gradients})


def _training(module: Any) -> None:
    if not hasattr(module.Model, "_prepare_total_loss"):  # Keras 2.2
        _wrapped(module.Model, "compile", _not_compiled)
        return
    _see(module, {"function": parallel.training_function})
    _wrapped(module.Model, "_make_train_function", parallel.make_train_function)
    _wrapped(module.Model, "_prepare_total_loss", parallel.prepare_total_loss)


def _not_compiled(original: Any, *arguments: Any, **options: Any) -> Any:
    """Refuse to train on several ranks with a Keras whose losses are not made one by one."""
    if api.settings() is not None:
        raise ParallelError(
            f"ksym.data_parallel trains models of Keras 2.3; this is {version('keras')}",
            remedy="pip install keras==2.3.1, or leave data_parallel out",
        )
    return original(*arguments, **options)


def _training_arrays(module: Any) -> None:
    _wrapped(module, "test_loop", evaluation.test_loop)


def _training_generator(module: Any) -> None:
    _wrapped(module, "evaluate_generator", evaluation.evaluate_generator)


def _regularizers(module: Any) -> None:
    def around(original: Any, *arguments: Any) -> Any:
        result = original(*arguments)
        if hasattr(result, "node"):
            setattr(result, parallel.SUMMED, True)
        return result

    _wrapped(module.L1L2, "__call__", around)


# --- callbacks ----------------------------------------------------------------------------------


def _callbacks(module: Any) -> None:
    made = module.CallbackList
    _wrapped(made, "set_model", _set_model)
    _wrapped(made, "set_params", _set_params)
    _wrapped(made, "on_train_begin", _train_begin)
    _wrapped(made, "on_epoch_begin", _epoch_begin)
    _wrapped(made, "on_epoch_end", _epoch_end)
    _wrapped(module.BaseLogger, "on_epoch_end", _logs_made)


def _set_model(original: Any, callbacks: Any, model: Any) -> Any:
    """Leave the callbacks that write to rank 0."""
    if is_silent():
        callbacks.callbacks = [
            c
            for c in callbacks.callbacks
            if not any(kind.__name__ in ALONE for kind in type(c).__mro__)
        ]
    return original(callbacks, model)


def _set_params(original: Any, callbacks: Any, params: Any) -> Any:
    """Check that all ranks are about to take the same steps."""
    chosen = api.settings()
    if chosen is not None and "epochs" in params:
        made = engine.current()
        samples, batch, steps = (params.get(k) for k in ("samples", "batch_size", "steps"))
        if steps is None and samples is not None and batch:
            steps = -(-samples // batch)
            last = samples % batch or batch
            if chosen.batches == "global" and min(last, samples) < made.size:
                raise InputError(
                    f"the last batch of an epoch has {last} row(s), which cannot be divided among "
                    f"{made.size} ranks",
                    details=[f"{samples} samples in batches of {batch}"],
                    remedy="take another batch_size, or leave out the last rows",
                )
        made.agree("steps to take", {"epochs": params.get("epochs"), "steps of an epoch": steps})
    return original(callbacks, params)


def _train_begin(original: Any, callbacks: Any, logs: Any = None) -> Any:
    if api.settings() is not None:
        function = getattr(callbacks.model, "train_function", None)
        if isinstance(function, steps.TrainingFunction):
            function.share_variables()
    return original(callbacks, logs)


def _epoch_begin(original: Any, callbacks: Any, epoch: int, logs: Any = None) -> Any:
    # Batches are shuffled after this; generators draw ahead, on threads of their own.
    if api.settings() is not None and callbacks.params.get("batch_size"):
        api.share_random_state()
    return original(callbacks, epoch, logs)


def _epoch_end(original: Any, callbacks: Any, epoch: int, logs: Any = None) -> Any:
    """Have all ranks have the same weights, and stop if one does."""
    if api.settings() is None:
        return original(callbacks, epoch, logs)
    made = engine.current()
    function = getattr(callbacks.model, "train_function", None)
    if isinstance(function, steps.AsynchronousFunction):
        function.settle()
    result = original(callbacks, epoch, {} if logs is None else logs)
    model = callbacks.model
    stop = bool(getattr(model, "stop_training", False))
    if "1" in made.exchange(str(int(stop)), "whether to stop"):
        model.stop_training = True
    return result


def _logs_made(original: Any, logger: Any, epoch: int, logs: Any = None) -> Any:
    """Have all ranks see the same logs, as soon as Keras's first callback has made them."""
    result = original(logger, epoch, logs)
    if api.settings() is None or logs is None:
        return result
    made = engine.current()
    own = {k: float(v) for k, v in logs.items() if np.ndim(v) == 0 and np.isreal(v)}
    found = [json.loads(text) for text in made.exchange(json.dumps(own), "the logs of an epoch")]
    for name in found[0]:
        if all(name in others for others in found):
            values = [others[name] for others in found]
            # Ranks that do not wait for each other have seen the losses of their own rows only.
            value = float(np.mean(values)) if made.is_asynchronous else values[0]
            logs[name] = type(logs[name])(value)
    return result


def _progress(module: Any) -> None:
    def around(original: Any, bar: Any, *arguments: Any, **options: Any) -> Any:
        original(bar, *arguments, **options)
        if is_silent():
            bar.verbose = 0

    _wrapped(module.Progbar, "__init__", around)


# --- files --------------------------------------------------------------------------------------

_unread: collections.Counter[str] = collections.Counter()
"""How often rank 0 has been left to write each file, since this rank last read it."""


def _saving(module: Any) -> None:
    _wrapped(module, "save_model", lambda o, model, *a, **k: _saved(o, (model,), a, k))
    _wrapped(module, "load_model", _loaded)


def _network(module: Any) -> None:
    _wrapped(module.Network, "save_weights", lambda o, model, *a, **k: _saved(o, (model,), a, k))
    _wrapped(
        module.Network, "load_weights", lambda o, model, *a, **k: _loaded(o, *a, _of=model, **k)
    )


def _saved(original: Any, before: Any, arguments: Any, options: Any) -> Any:
    """Write a file on rank 0, whole or not at all."""
    if api.settings() is None:
        return original(*before, *arguments, **options)
    path = arguments[0] if arguments else options.get("filepath")
    if not isinstance(path, str | os.PathLike):
        return original(*before, *arguments, **options)  # into memory, or a file of the user's
    path = os.path.realpath(os.fspath(path))
    if is_silent():
        _unread[path] += 1
        return None
    overwrite = arguments[1] if len(arguments) > 1 else options.get("overwrite", True)
    if os.path.exists(path) and not overwrite:
        raise InputError(
            f"{path} exists, and nobody can be asked whether to overwrite it",
            remedy="give overwrite=True, or another name",
        )
    rest = {name: value for name, value in options.items() if name != "filepath"}
    with replacement(path) as beside:
        result = original(*before, str(beside), *arguments[1:], **rest)
    engine.current().announce(f"written {path}")
    return result


def _loaded(original: Any, *arguments: Any, _of: Any = None, **options: Any) -> Any:
    """Read a file, after waiting for rank 0 to have written it if this rank has left that to it."""
    path = arguments[0] if arguments else options.get("filepath")
    if is_silent() and isinstance(path, str | os.PathLike):
        whole = os.path.realpath(os.fspath(path))
        for _ in range(_unread.pop(whole, 0)):
            engine.current().await_announcement(f"written {whole}")
    before = () if _of is None else (_of,)
    return original(*before, *arguments, **options)


def _multi_gpu(module: Any) -> None:
    def multi_gpu_model(model: Any, *arguments: Any, **options: Any) -> Any:
        raise ValueError(
            "`multi_gpu_model` is only available with the TensorFlow backend. With ksym each "
            "device has a process of its own, and the script stays as it is but for one line at "
            "its beginning, `ksym.data_parallel()`: run `python -m ksym.launch -n 2 train.py`. "
            "See docs/parallel.md."
        )

    vars(module)["multi_gpu_model"] = functools.wraps(module.multi_gpu_model)(multi_gpu_model)


_HOOKS: dict[str, Callable[[ModuleType], None]] = {
    "keras.callbacks.callbacks": _callbacks,
    "keras.engine.network": _network,
    "keras.engine.saving": _saving,
    "keras.engine.training": _training,
    "keras.engine.training_arrays": _training_arrays,
    "keras.engine.training_generator": _training_generator,
    "keras.optimizers": _optimizers,
    "keras.regularizers": _regularizers,
    "keras.utils.generic_utils": _progress,
    "keras.utils.multi_gpu_utils": _multi_gpu,
}
