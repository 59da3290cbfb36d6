"""A cache of the values used last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class Recent(Generic[V]):
    """A cache that keeps the values used last, by their keys.

    Args:
        limit: The number of values that are kept.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self._values: OrderedDict[Hashable, V] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """Return the value of a key, made if it is not there; it is the one used last then."""
        if key in self._values:
            self._values.move_to_end(key)
        else:
            self._values[key] = make()
            if len(self._values) > self.limit:
                self._values.popitem(last=False)
        return self._values[key]

    @property
    def last(self) -> V | None:
        """The value used last, if there is one."""
        return next(reversed(self._values.values()), None)

    def drop_last(self) -> None:
        """Drop the value used last."""
        if self._values:
            self._values.popitem()

    def clear(self) -> None:
        """Drop all values."""
        self._values.clear()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)
