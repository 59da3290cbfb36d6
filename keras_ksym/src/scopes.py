"""Name scopes: nodes are made under the names of Keras's layers, which errors and pictures show."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from keras.src.backend.common import name_scope as common

import ksym


class name_scope(common.name_scope):  # type: ignore[misc] # noqa: N801 - Keras's name
    """Keras's name scope, and one of ksym's with it."""

    _inner: AbstractContextManager[str] | None = None

    def __enter__(self) -> Any:
        result = super().__enter__()
        # A scope within itself counts once.
        if self._pop_on_exit:
            self._inner = ksym.name_scope(self.name)
            self._inner.__enter__()
        return result

    def __exit__(self, *args: Any, **kwargs: Any) -> None:
        super().__exit__(*args, **kwargs)
        if self._inner is not None:
            self._inner.__exit__(None, None, None)
            self._inner = None
