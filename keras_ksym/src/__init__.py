"""The backend, in the layout of Keras's packages for backends.

`ops` has the functions on tensors, module by module as Keras has them; `random`, `rnn`, `trainer`,
`variable`, `layer` and `export` the rest.  `tensor` and `operation` are what they are written with.
"""

import importlib.util
import os

from ksym.origin import skip_frames_of

# An error names the user's line, not one of these.
for _package in ("keras_ksym", "keras", "optree"):
    _spec = importlib.util.find_spec(_package)
    if _spec is not None and _spec.origin is not None:
        skip_frames_of(os.path.dirname(_spec.origin))
