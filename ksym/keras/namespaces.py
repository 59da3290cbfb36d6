"""Modules as other modules see them."""

from __future__ import annotations

from types import ModuleType
from typing import Any


class Namespace(ModuleType):
    """A module as one module of Keras sees it: with names that it lacks, or others for its own."""

    def __init__(self, module: ModuleType, names: dict[str, Any]):
        super().__init__(module.__name__)
        self._module = module
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)
