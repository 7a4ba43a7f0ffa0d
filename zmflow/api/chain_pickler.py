"""The cloudpickle pickler of chains, which takes note of the user's classes that it meets.

Imported on first use only: cloudpickle takes a while.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Collection

import cloudpickle
import msgspec

__all__ = ["pickled_with_classes"]


class _NotingPickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    def __init__(self, file: io.BytesIO, modules: Collection[str]) -> None:
        super().__init__(file)
        self._modules = modules
        self.classes: dict[str, dict[str, type]] = {}

    def reducer_override(self, obj: object) -> object:
        if isinstance(obj, type(msgspec.Struct)):
            self._refuse_struct(obj)
        if isinstance(obj, type) and obj.__module__ in self._modules:
            # A class inside a class is found through the outer one; one inside a function never is.
            name = obj.__qualname__.split(".")[0]
            outer = getattr(sys.modules.get(obj.__module__), name, None)
            if isinstance(outer, type):
                self.classes.setdefault(obj.__module__, {})[name] = outer
        return super().reducer_override(obj)

    def _refuse_struct(self, struct: type) -> None:
        # cloudpickle would rebuild the class without its fields: wrong records instead of an error.
        if struct.__module__ in self._modules or "<locals>" in struct.__qualname__:
            raise pickle.PicklingError(
                f"The msgspec.Struct {struct.__qualname__!r} is defined in the program itself and cannot "
                "travel. Make it a dataclass, or ship its module with --py-files or add_python_file()."
            )


def pickled_with_classes(value: object, modules: Collection[str]) -> tuple[bytes, dict[str, dict[str, type]]]:
    """The bytes of a value, and the classes of these modules that are in it, by module and name."""
    file = io.BytesIO()
    pickler = _NotingPickler(file, modules)
    pickler.dump(value)
    return file.getvalue(), pickler.classes
