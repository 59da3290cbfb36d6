"""Keras 2.3.1 on a TensorFlow that is younger than it by four years.

Importing this module imports both.  What TensorFlow has since taken away is put back; nothing of
either is edited.
"""

import collections.abc
import contextlib
import os
import sys

import tensorflow as tf
from tensorflow.python import keras as tensorflows_keras
from tensorflow.python.eager import context
from tensorflow.python.framework import ops
from tensorflow.python.keras import backend, layers, metrics, optimizers  # noqa: F401
from tensorflow.python.ops.resource_variable_ops import BaseResourceVariable

for name in ("Container", "Iterable", "Mapping", "Sequence"):
    setattr(collections, name, getattr(collections.abc, name))

# Keras builds graphs by itself, and differentiates through TensorFlow's older loops.
tf.compat.v1.disable_eager_execution()
tf.compat.v1.disable_control_flow_v2()
tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
context.eager_mode = contextlib.nullcontext
ops._TensorLike = tf.Tensor
ops.is_dense_tensor_like = lambda x: isinstance(x, tf.Tensor | tf.Variable)
tf.config.experimental_list_devices = list
BaseResourceVariable.numpy = backend.get_value  # Keras reads them one by one like this

# What Keras asks of tf.keras would load the keras package that belongs to this TensorFlow.
tf.keras = tensorflows_keras
for name in [n for n in sys.modules if n.partition(".")[0] == "keras"]:
    del sys.modules[name]
sys.path.insert(0, os.environ["KERAS_2_3_1"])
