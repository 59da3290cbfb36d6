"""Keras's trainer: each step is one function of ksym's, and variables are its updates."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from keras.src import callbacks as callbacks_module
from keras.src import optimizers as optimizers_module
from keras.src import tree
from keras.src.backend import config
from keras.src.backend.common.stateless_scope import StatelessScope
from keras.src.backend.common.symbolic_scope import SymbolicScope
from keras.src.trainers import trainer as base_trainer
from keras.src.trainers.data_adapters import array_slicing, data_adapter_utils
from keras.src.trainers.epoch_iterator import EpochIterator
from keras.src.utils import traceback_utils
from keras.src.utils.python_utils import pythonify_logs

from keras_ksym.src.ops.core import convert_to_numpy, shape
from keras_ksym.src.ops.gradients import gradients
from keras_ksym.src.step import Step
from keras_ksym.src.tensor import tensor
from keras_ksym.src.tracing import tracing
from keras_ksym.src.variable import Variable

unpack = data_adapter_utils.unpack_x_y_sample_weight


def _as_tensor(array: Any) -> Any:
    return None if array is None else tensor(array)


class Trainer(base_trainer.Trainer):  # type: ignore[misc] # Keras has no types
    """The part of Keras's models that trains them, evaluates them and predicts.

    `train_step`, `test_step` and `predict_step` are traced with symbolic data, once for batches of
    all sizes; users may override them, and take gradients by `keras_ksym.gradients`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.train_function: Callable[[Any], Any] | None = None
        self.test_function: Callable[[Any], Any] | None = None
        self.predict_function: Callable[[Any], Any] | None = None

    # --- the steps, on symbolic data -------------------------------------------------------------

    def _ksym_predicted(self, x: Any, training: bool) -> Any:
        return self(x, training=training) if self._call_has_training_arg else self(x)

    def _ksym_track_loss(self, loss: Any, x: Any) -> None:
        first = next(leaf for leaf in tree.flatten(x) if leaf is not None)
        self._loss_tracker.update_state(loss, sample_weight=shape(first)[0])

    def train_step(self, data: Any) -> Any:
        """Compute the loss of a batch and its gradients, and apply them; return the metrics."""
        x, y, sample_weight = unpack(data)
        y_pred = self._ksym_predicted(x, training=True)
        loss = self._compute_loss(
            x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True
        )
        self._ksym_track_loss(loss, x)
        if self.optimizer is not None:
            loss = self.optimizer.scale_loss(loss)
        weights = self.trainable_weights
        if weights:
            self.optimizer.apply(gradients(loss, weights), weights)
        else:
            warnings.warn("The model does not have any trainable weights.", stacklevel=2)
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def test_step(self, data: Any) -> Any:
        """Compute the loss and the metrics of a batch."""
        x, y, sample_weight = unpack(data)
        y_pred = self._ksym_predicted(x, training=False)
        loss = self._compute_loss(
            x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=False
        )
        self._ksym_track_loss(loss, x)
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def predict_step(self, data: Any) -> Any:
        """Compute the outputs of a batch."""
        x, _, _ = unpack(data)
        return self._ksym_predicted(x, training=False)

    # --- compiling -------------------------------------------------------------------------------

    def _ksym_variables_of(self) -> list[Variable]:
        """Return all variables that a step may change."""
        optimizer = getattr(self, "optimizer", None)
        others = [] if optimizer is None else optimizer.variables
        return [*self.variables, *others, *self.metrics_variables]

    def _ksym_compiled_step(self, body: Callable[[Any], Any]) -> Callable[[list[Any]], Any]:
        step = Step(body, self._ksym_variables_of, self.run_eagerly)

        def steps(batches: list[Any]) -> Any:
            logs = None
            for batch in batches:
                logs = step(batch)
            return logs

        return steps

    def make_train_function(self, force: bool = False) -> Any:
        """Make the function of a list of batches that trains on each of them."""
        if self.train_function is None or force:
            self.train_function = self._ksym_compiled_step(self.train_step)
        return self.train_function

    def make_test_function(self, force: bool = False) -> Any:
        """Make the function of a list of batches that evaluates each of them."""
        if self.test_function is None or force:
            self.test_function = self._ksym_compiled_step(self.test_step)
        return self.test_function

    def make_predict_function(self, force: bool = False) -> Any:
        """Make the function of a list of batches that predicts for each of them."""
        if self.predict_function is None or force:
            step = Step(self.predict_step, self._ksym_variables_of, self.run_eagerly)

            def steps(batches: list[Any]) -> Any:
                outputs = [step(batch) for batch in batches]
                if len(outputs) == 1:
                    return outputs[0]
                return tree.map_structure(lambda *parts: np.concatenate(parts), *outputs)

            self.predict_function = steps
        return self.predict_function

    # --- loops over batches ----------------------------------------------------------------------

    def _ksym_callback_list(
        self, callbacks: Any, iterator: EpochIterator, verbose: Any, epochs: int = 1, **more: Any
    ) -> Any:
        if isinstance(callbacks, callbacks_module.CallbackList):
            return callbacks
        return callbacks_module.CallbackList(
            callbacks,
            add_progbar=verbose != 0,
            verbose=verbose,
            epochs=epochs,
            steps=iterator.num_batches,
            model=self,
            **more,
        )

    @traceback_utils.filter_traceback  # type: ignore[untyped-decorator]
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: Any = 1,
    ) -> Any:
        """Train for a number of epochs, as `keras.Model.fit` says."""
        self._assert_compile_called("fit")
        limit = config.max_epochs()
        if limit and limit < epochs:
            warnings.warn(f"Limiting epochs to {limit}", stacklevel=2)
            epochs = limit
        self._eval_epoch_iterator: Any = None
        if validation_split and validation_data is None:
            (x, y, sample_weight), validation_data = array_slicing.train_validation_split(
                (x, y, sample_weight), validation_split=validation_split
            )
        iterator = EpochIterator(
            x=x,
            y=y,
            sample_weight=sample_weight,
            batch_size=batch_size,
            steps_per_epoch=steps_per_epoch,
            shuffle=shuffle,
            class_weight=class_weight,
            steps_per_execution=self.steps_per_execution,
        )
        self._symbolic_build(iterator=iterator)
        iterator.reset()
        callbacks = self._ksym_callback_list(callbacks, iterator, verbose, epochs, add_history=True)
        self.make_train_function()
        self.stop_training = False
        training_logs: Any = {}
        finished = False
        callbacks.on_train_begin()
        try:
            for epoch in range(self._initial_epoch or initial_epoch, epochs):
                self.reset_metrics()
                callbacks.on_epoch_begin(epoch)
                logs: Any = {}
                with iterator.catch_stop_iteration():
                    for begin, end, batches in iterator:
                        callbacks.on_train_batch_begin(begin)
                        assert self.train_function is not None
                        logs = self.train_function(batches)
                        callbacks.on_train_batch_end(end, logs)
                        if self.stop_training:
                            break
                epoch_logs = dict(self._get_metrics_result_or_logs(logs))
                if validation_data is not None and self._should_eval(epoch, validation_freq):
                    found = self._ksym_validate(
                        validation_data,
                        validation_batch_size or batch_size,
                        validation_steps,
                        callbacks,
                    )
                    epoch_logs.update({f"val_{name}": value for name, value in found.items()})
                callbacks.on_epoch_end(epoch, epoch_logs)
                training_logs = epoch_logs
                if self.stop_training:
                    break
            finished = True
        finally:
            if isinstance(self.optimizer, optimizers_module.Optimizer) and epochs > 0:
                self.optimizer.finalize_variable_values(self.trainable_weights)
            if getattr(self, "_eval_epoch_iterator", None) is not None:
                del self._eval_epoch_iterator
            if finished:
                callbacks.on_train_end(logs=training_logs)
        return self.history

    def _ksym_validate(
        self, data: Any, batch_size: int | None, steps: int | None, callbacks: Any
    ) -> dict[str, Any]:
        """Evaluate at the end of an epoch; the iterator is kept for the next one."""
        x, y, sample_weight = unpack(data)
        if getattr(self, "_eval_epoch_iterator", None) is None:
            self._eval_epoch_iterator = EpochIterator(
                x=x,
                y=y,
                sample_weight=sample_weight,
                batch_size=batch_size,
                steps_per_execution=self.steps_per_execution,
                steps_per_epoch=steps,
                shuffle=False,
            )
        return self.evaluate(
            x=x,
            y=y,
            sample_weight=sample_weight,
            batch_size=batch_size,
            steps=steps,
            callbacks=callbacks,
            return_dict=True,
            _use_cached_eval_dataset=True,
        )

    @traceback_utils.filter_traceback  # type: ignore[untyped-decorator]
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Return the loss and the metrics of data, as `keras.Model.evaluate` says."""
        self._assert_compile_called("evaluate")
        cached = kwargs.pop("_use_cached_eval_dataset", False)
        if kwargs:
            raise ValueError(f"Arguments not recognized: {kwargs}")
        iterator = (
            self._eval_epoch_iterator
            if cached
            else EpochIterator(
                x=x,
                y=y,
                sample_weight=sample_weight,
                batch_size=batch_size,
                steps_per_epoch=steps,
                shuffle=False,
                steps_per_execution=self.steps_per_execution,
            )
        )
        self._symbolic_build(iterator=iterator)
        iterator.reset()
        callbacks = self._ksym_callback_list(callbacks, iterator, verbose)
        self.make_test_function()
        self.stop_evaluating = False
        callbacks.on_test_begin()
        logs: Any = {}
        self.reset_metrics()
        with iterator.catch_stop_iteration():
            for begin, end, batches in iterator:
                callbacks.on_test_batch_begin(begin)
                assert self.test_function is not None
                logs = self.test_function(batches)
                callbacks.on_test_batch_end(end, logs)
                if self.stop_evaluating:
                    break
        logs = pythonify_logs(self._get_metrics_result_or_logs(logs))
        callbacks.on_test_end(logs)
        return logs if return_dict else self._flatten_metrics_in_order(logs)

    @traceback_utils.filter_traceback  # type: ignore[untyped-decorator]
    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """Return the outputs for data, as `keras.Model.predict` says."""
        iterator = EpochIterator(
            x=x,
            batch_size=batch_size,
            steps_per_epoch=steps,
            shuffle=False,
            steps_per_execution=self.steps_per_execution,
        )
        self._ksym_build_for(iterator)
        callbacks = self._ksym_callback_list(callbacks, iterator, verbose)
        self.make_predict_function()
        self.stop_predicting = False
        callbacks.on_predict_begin()
        outputs: list[Any] = []
        with iterator.catch_stop_iteration():
            for begin, end, batches in iterator:
                callbacks.on_predict_batch_begin(begin)
                assert self.predict_function is not None
                outputs.append(self.predict_function(batches))
                callbacks.on_predict_batch_end(end, {"outputs": outputs[-1]})
                if self.stop_predicting:
                    break
        callbacks.on_predict_end()
        return tree.map_structure(lambda *parts: np.concatenate(parts), *outputs)

    def _symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Make the variables of the model, the loss and the metrics, without computing anything."""
        if self.run_eagerly:
            parts = (*self._flatten_layers(), self._compile_metrics, self._compile_loss)
            if any(part is not None and not part.built for part in parts):
                # Python sees values here as in the steps: those of the batch.
                if data_batch is None:
                    data_batch = next(batches[0] for _, _, batches in iterator)
                with StatelessScope(), SymbolicScope(), tracing(visible=True):
                    self._ksym_call_parts(tree.map_structure(_as_tensor, data_batch))
        super()._symbolic_build(iterator, data_batch)

    def _ksym_call_parts(self, data: Any) -> None:
        """Call the model, the metrics and the loss, whatever their results."""
        x, y, sample_weight = unpack(data)
        y_pred = self._ksym_predicted(x, training=False)
        if self._compile_metrics is not None:
            self.compute_metrics(x, y, y_pred, sample_weight)
        if self._compile_loss is not None:
            self._compute_loss(x, y, y_pred, sample_weight, training=False)

    def _ksym_build_for(self, iterator: EpochIterator) -> None:
        """Make the variables of a model that is called for the first time."""
        if all(layer.built for layer in self._flatten_layers()):
            return
        for _, _, batches in iterator:
            self._ksym_build_with(unpack(batches[0])[0])
            break
        iterator.reset()

    def _ksym_build_with(self, x: Any) -> None:
        if not all(layer.built for layer in self._flatten_layers()):
            self(x)

    # --- single batches --------------------------------------------------------------------------

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Train on one batch, as `keras.Model.train_on_batch` says."""
        self._assert_compile_called("train_on_batch")
        if class_weight is not None:
            if sample_weight is not None:
                raise ValueError(
                    "Arguments `sample_weight` and `class_weight` cannot be specified at the same "
                    f"time. Received: sample_weight={sample_weight}, class_weight={class_weight}"
                )
            sample_weight = data_adapter_utils.class_weight_to_sample_weights(y, class_weight)
        self.make_train_function()
        return self._ksym_run_on_batch(self.train_function, (x, y, sample_weight), return_dict)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """Evaluate one batch, as `keras.Model.test_on_batch` says."""
        self._assert_compile_called("test_on_batch")
        self.make_test_function()
        return self._ksym_run_on_batch(self.test_function, (x, y, sample_weight), return_dict)

    def _ksym_run_on_batch(self, function: Any, data: Any, return_dict: bool) -> Any:
        data = tree.map_structure(lambda v: None if v is None else np.asarray(v), data)
        self._symbolic_build(data_batch=data)
        self.reset_metrics()
        logs = pythonify_logs(function([data]))
        return logs if return_dict else self._flatten_metrics_in_order(logs)

    def predict_on_batch(self, x: Any) -> Any:
        """Return the outputs for one batch, as `keras.Model.predict_on_batch` says."""
        x = tree.map_structure(np.asarray, x)
        self._ksym_build_with(x)
        self.make_predict_function()
        assert self.predict_function is not None
        return tree.map_structure(convert_to_numpy, self.predict_function([(x,)]))
