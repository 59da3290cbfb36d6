"""What needs loops or data-dependent shapes; ksym does not have these operators yet.

Keras imports the names unconditionally, so they are here, and say what is missing when called.
"""

from __future__ import annotations

from typing import Any, NoReturn


def _missing(name: str, needs: str) -> Any:
    def function(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(f"K.{name} is not there yet: it needs {needs}")

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Not there yet: needs {needs}."
    return function


rnn = _missing("rnn", "ksym's loop operator")
map_fn = _missing("map_fn", "ksym's loop operator")
foldl = _missing("foldl", "ksym's loop operator")
foldr = _missing("foldr", "ksym's loop operator")
ctc_label_dense_to_sparse = _missing("ctc_label_dense_to_sparse", "sparse values")
ctc_batch_cost = _missing("ctc_batch_cost", "ksym's CTC operator")
ctc_decode = _missing("ctc_decode", "ksym's CTC operator")
