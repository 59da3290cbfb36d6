"""The backend's names in one module, as Keras 3.15 imports them; its plug has them by modules.

The name `rnn` is a module there too: Keras asks for the function.
"""

from keras_ksym.src import random
from keras_ksym.src.ops import core, image, linalg, math, nn, numpy
from keras_ksym.src.ops.core import *
from keras_ksym.src.rnn import *
from keras_ksym.src.scopes import name_scope
