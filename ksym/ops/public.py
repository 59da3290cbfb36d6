"""The public operators of all families, which each module lists in `__all__`.

`ksym` exports them under these names.  Those that end in an underscore because Python has a
built-in function of the name (`sum_`, `max_`) it also exports under the plain name.
"""

from ksym.ops.arrays.arrangement import *
from ksym.ops.arrays.broadcasting import *
from ksym.ops.arrays.concatenation import *
from ksym.ops.arrays.creation import *
from ksym.ops.arrays.diagonal import *
from ksym.ops.arrays.dynamic import *
from ksym.ops.arrays.gathering import *
from ksym.ops.arrays.joining import *
from ksym.ops.arrays.movement import *
from ksym.ops.arrays.padding import *
from ksym.ops.arrays.scattering import *
from ksym.ops.arrays.segments import *
from ksym.ops.arrays.shape import *
from ksym.ops.elementwise.activations import *
from ksym.ops.elementwise.binary import *
from ksym.ops.elementwise.bits import *
from ksym.ops.elementwise.casting import *
from ksym.ops.elementwise.choice import *
from ksym.ops.elementwise.comparison import *
from ksym.ops.elementwise.division import *
from ksym.ops.elementwise.exponential import *
from ksym.ops.elementwise.numerical import *
from ksym.ops.elementwise.rounding import *
from ksym.ops.elementwise.special import *
from ksym.ops.elementwise.trigonometry import *
from ksym.ops.elementwise.unary import *
from ksym.ops.gradient_rules import *
from ksym.ops.leaves import *
from ksym.ops.linalg.decompositions import *
from ksym.ops.linalg.einsum import *
from ksym.ops.linalg.factors import *
from ksym.ops.linalg.fourier import *
from ksym.ops.linalg.matmul import *
from ksym.ops.linalg.products import *
from ksym.ops.linalg.singular import *
from ksym.ops.linalg.solving import *
from ksym.ops.nn.convolution import *
from ksym.ops.nn.ctc import *
from ksym.ops.nn.ctc_decoding import *
from ksym.ops.nn.global_pooling import *
from ksym.ops.nn.local import *
from ksym.ops.nn.losses import *
from ksym.ops.nn.normalization import *
from ksym.ops.nn.pooling import *
from ksym.ops.nn.resize import *
from ksym.ops.nn.separable import *
from ksym.ops.nn.softmax import *
from ksym.ops.nn.standardization import *
from ksym.ops.nn.transposed import *
from ksym.ops.printing import *
from ksym.ops.random.discrete import *
from ksym.ops.random.distributions import *
from ksym.ops.random.keyed import *
from ksym.ops.random.standard import *
from ksym.ops.random.streams import *
from ksym.ops.reductions.quantiles import *
from ksym.ops.reductions.reduction import *
from ksym.ops.reductions.running import *
from ksym.ops.reductions.sorting import *
from ksym.ops.reductions.statistics import *
