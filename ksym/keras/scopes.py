"""Name scopes, which Keras opens around each layer's call, and the layers' names on errors."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType

from ksym import origin
from ksym.errors import GraphError, KsymError


class Scope(AbstractContextManager[str]):
    """A context that prefixes the names of nodes, and adds its name to errors that lack it."""

    def __init__(self, name: str | None):
        self._scope = origin.name_scope(name or "scope")

    def __enter__(self) -> str:
        return self._scope.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        name, place = origin.current_scope(), origin.current_origin()
        self._scope.__exit__(kind, error, traceback)
        if not isinstance(error, Exception) or isinstance(error, KsymError):
            return
        if isinstance(error, AttributeError) and "_keras_shape" in str(error):
            # Keras sets it on whatever a layer returns.
            raise GraphError(
                f"the layer {name!r} returned what is no tensor: {error}",
                remedy="return a tensor; a number becomes one by K.constant",
            ).located(origin=place) from error
        if not hasattr(error, "__notes__"):
            error.add_note(f"at {place}")
