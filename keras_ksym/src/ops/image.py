"""Keras's module image, gathered from the modules that have its functions by subject."""

from keras_ksym.src.ops.colours import *
from keras_ksym.src.ops.filters import *
from keras_ksym.src.ops.resizing import *
from keras_ksym.src.ops.warping import *
