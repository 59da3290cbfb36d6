"""Keras's module numpy, gathered from the modules that have its functions by subject."""

from keras_ksym.src.ops.arrays import *
from keras_ksym.src.ops.choosing import *
from keras_ksym.src.ops.creation import *
from keras_ksym.src.ops.elementwise import *
from keras_ksym.src.ops.joining import *
from keras_ksym.src.ops.linalg import slogdet
from keras_ksym.src.ops.ordering import *
from keras_ksym.src.ops.products import *
from keras_ksym.src.ops.reductions import *
