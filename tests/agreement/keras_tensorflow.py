"""Keras's TensorFlow backend under a name that Keras does not know, as ksym's is.

Keras then takes the same branches for both.  (For the name "tensorflow" it casts the number of
samples in batch normalisation to float32, whatever the dtype.)
"""

from keras.backend.tensorflow_backend import *  # noqa: F403
from keras.backend.tensorflow_backend import rnn  # noqa: F401
