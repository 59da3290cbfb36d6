"""Keras's module nn, gathered from the modules that have its functions by subject."""

from keras_ksym.src.ops.activations import *
from keras_ksym.src.ops.convolution import *
from keras_ksym.src.ops.losses import *
