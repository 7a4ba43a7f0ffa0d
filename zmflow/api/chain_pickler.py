"""The cloudpickle pickler of chains, which takes note of the user's classes that it meets.

Imported on first use only: cloudpickle takes a while.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Collection

import cloudpickle

__all__ = ["pickled_with_classes"]


class _NotingPickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    def __init__(self, file: io.BytesIO, modules: Collection[str]) -> None:
        super().__init__(file)
        self._modules = modules
        self.classes: dict[str, dict[str, type]] = {}

    def reducer_override(self, obj: object) -> object:
        if isinstance(obj, type) and obj.__module__ in self._modules:
            # A class inside a class is found through the outer one; one inside a function never is.
            name = obj.__qualname__.split(".")[0]
            outer = getattr(sys.modules.get(obj.__module__), name, None)
            if isinstance(outer, type):
                self.classes.setdefault(obj.__module__, {})[name] = outer
        return super().reducer_override(obj)


def pickled_with_classes(value: object, modules: Collection[str]) -> tuple[bytes, dict[str, dict[str, type]]]:
    """The bytes of a value, and the classes of these modules that are in it, by module and name."""
    file = io.BytesIO()
    pickler = _NotingPickler(file, modules)
    pickler.dump(value)
    return file.getvalue(), pickler.classes
