"""Importing PyFlink's modules: made from the table of names when a program imports them.

``zmflow.compat.pyflink.common`` is made from the table. ``pyflink.common`` is the same module object,
so that functions that refer to it can be unpickled where ``pyflink`` means nothing.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from zmflow.compat.pyflink.names import MODULES, names_of, value_of
from zmflow.compat.pyflink.refusals import refusal_of_module
from zmflow.errors import ConfigurationError

__all__ = ["PyFlinkFinder", "install", "pyflink_imports", "register"]

_OURS = "zmflow.compat.pyflink"
_THEIRS = "pyflink"


class PyFlinkFinder(MetaPathFinder):
    """Finds PyFlink's modules under our name; once ``aliasing`` is set, under ``pyflink`` as well."""

    def __init__(self) -> None:
        self.aliasing = False

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - of the interface
        target: ModuleType | None = None,  # noqa: ARG002 - likewise
    ) -> ModuleSpec | None:
        """Where the module is; None leaves it to Python.

        Raises:
            PyFlinkImportError: the module is one that zmflow cannot offer.
        """
        root, path_below = _split(fullname)
        if root is None or (root == _THEIRS and not self.aliasing):
            return None
        if fullname == _THEIRS:
            return ModuleSpec(fullname, _AliasLoader(), is_package=True)
        refusal = refusal_of_module(path_below)
        if refusal is not None:
            raise refusal
        if path_below not in MODULES:
            return None
        loader = _AliasLoader() if root == _THEIRS else _TableLoader()
        return ModuleSpec(fullname, loader, is_package=_is_package(path_below))


def _split(fullname: str) -> tuple[str | None, str]:
    if fullname == _THEIRS or fullname.startswith(f"{_THEIRS}."):
        return _THEIRS, fullname[len(_THEIRS) + 1 :]
    if fullname.startswith(f"{_OURS}."):
        return _OURS, fullname[len(_OURS) + 1 :]
    return None, ""


def _is_package(path: str) -> bool:
    return any(other.startswith(f"{path}.") for other in MODULES)


class _TableLoader(Loader):
    """Makes a module whose attributes are looked up in the table of names."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        path = spec.name[len(_OURS) + 1 :]
        # A plain module: cloudpickle does not know subclasses.
        return ModuleType(spec.name, f"What PyFlink's module ``pyflink.{path}`` offers, from zmflow.")

    def exec_module(self, module: ModuleType) -> None:
        path = module.__name__[len(_OURS) + 1 :]
        names = names_of(path)

        def look_up(name: str) -> object:
            value = value_of(path, name)
            setattr(module, name, value)
            return value

        vars(module).update(
            __all__=list(names),
            __getattr__=look_up,
            __dir__=lambda: sorted({*vars(module), *names}),
        )


class _AliasLoader(Loader):
    """Hands out our module for a name of PyFlink's."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        self._module = importlib.import_module(_OURS + spec.name[len(_THEIRS) :])
        self._spec = self._module.__spec__
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has just given the module the alias's spec; it keeps its own.
        module.__spec__ = self._spec


_finder = PyFlinkFinder()


def register() -> None:
    """Make the modules below ``zmflow.compat.pyflink`` importable."""
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def install() -> None:
    """From here on ``import pyflink`` gives zmflow's modules, whether apache-flink is installed or not.

    Raises:
        ConfigurationError: PyFlink itself was imported before.
    """
    register()
    imported = sys.modules.get(_THEIRS)
    if imported is not None and imported.__name__ != _OURS and not _is_shipped(imported):
        raise ConfigurationError(
            "PyFlink itself is imported already.",
            detail=f"From {getattr(imported, '__file__', None)}.",
            hint="Install zmflow's modules before anything imports pyflink.",
        )
    _finder.aliasing = True


def _is_shipped(module: ModuleType) -> bool:
    return bool(getattr(module, "IS_ZMFLOW", False))


@contextmanager
def pyflink_imports() -> Iterator[None]:
    """Inside, ``import pyflink`` gives zmflow's modules."""
    install()
    try:
        yield
    finally:
        _finder.aliasing = False
        for name in [name for name in sys.modules if _split(name)[0] == _THEIRS]:
            del sys.modules[name]
