"""Keras 3 on ksym: import this package before Keras, and Keras's backend is ksym.

>>> import keras_ksym
>>> import keras
>>> keras.config.backend()
'ksym'

Programs that do not import it are started by ``python -m keras_ksym program.py``.  docs/keras3.md
says what works.
"""

from typing import Any

from keras_ksym.hook import install as _install

_install()


def gradients(loss: Any, variables: Any) -> Any:
    """Return the gradients of a loss by variables, in a step of training of the user's.

    Args:
        loss: The loss, a symbolic scalar.
        variables: Keras's variables, such as ``model.trainable_weights``.

    Returns:
        A symbolic tensor for each, zeros where the loss does not depend on it; to be given to
        ``optimizer.apply(gradients, variables)``.

    Raises:
        GraphError: It is called outside of a step, where losses are values.
    """
    from keras_ksym.src.ops.gradients import gradients as found
    from keras_ksym.src.tracing import is_tracing
    from ksym.errors import GraphError

    if not is_tracing():
        raise GraphError(
            "outside of a step a loss is a value, which has no gradient",
            remedy="call keras_ksym.gradients in the train_step of a keras.Model",
        )
    return found(loss, variables)
