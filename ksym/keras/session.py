"""A session, which users of Keras on TensorFlow expect, to run tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ksym.errors import InputError
from ksym.graph import Tensor
from ksym.keras.execution import KerasFunction, function
from ksym.keras.phase import learning_phase
from ksym.recent import Recent
from ksym.variables import Update

KEPT = 32  # compiled functions


class Session:
    """A session that computes tensors and carries out updates; it need not be opened or closed."""

    def __init__(self) -> None:
        # A graph lives as long as its function.  Few different ones are run again and again.
        self._functions: Recent[KerasFunction] = Recent(KEPT)

    def run(self, fetches: Any, feed_dict: Mapping[Tensor, Any] | None = None) -> Any:
        """Return the values of tensors, in lists, tuples or dicts as they were given.

        An update gives its new value, and is carried out.

        Args:
            fetches: The tensors and updates to compute.
            feed_dict: The values of placeholders, and of other tensors whose value is to be given
                instead of computed.

        Raises:
            InputError: A key of feed_dict is no tensor.
            TypeError: A fetch is no tensor.
        """
        feeds = dict(feed_dict or {})
        if isinstance(learning_phase(), int):
            feeds.pop(learning_phase(), None)  # it was set, and is not to be given any more
        for fed in feeds:
            if not isinstance(fed, Tensor):
                raise InputError(
                    f"feed_dict gives a value to {fed!r}, which is no tensor",
                    remedy="give values to tensors and to K.learning_phase()",
                )
        wanted: list[Any] = []
        _collect(fetches, wanted)
        key = (tuple(wanted), tuple(feeds))
        compiled = self._functions.get(key, lambda: function(list(feeds), wanted))
        return _in_structure(fetches, iter(compiled(list(feeds.values()))))

    def clear(self) -> None:
        """Drop all graphs."""
        self._functions.clear()

    def __getattr__(self, name: str) -> Any:
        """Raise an error for what a session of TensorFlow has besides, and say what there is."""
        raise AttributeError(
            f"K.get_session() of ksym.backend has no {name!r}: it has run(fetches, feed_dict), and "
            "variables need no initializing.  A graph is what its tensors reach: "
            "ksym.to_networkx(tensor); threads are chosen by OMP_NUM_THREADS, the device by "
            "KSYM_DEVICE"
        )


def _collect(fetches: Any, found: list[Any]) -> None:
    if isinstance(fetches, list | tuple):
        for item in fetches:
            _collect(item, found)
    elif isinstance(fetches, Mapping):
        _collect(list(fetches.values()), found)
    elif isinstance(fetches, Tensor | Update):
        found.append(fetches)
    else:
        raise TypeError(f"run computes tensors and updates, not {type(fetches).__name__}")


def _in_structure(fetches: Any, values: Any) -> Any:
    if isinstance(fetches, list | tuple):
        return type(fetches)(_in_structure(item, values) for item in fetches)
    if isinstance(fetches, Mapping):
        return {name: _in_structure(item, values) for name, item in fetches.items()}
    return next(values)


SESSION = Session()
