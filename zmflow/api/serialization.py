"""How chains become bytes, and what is said when one cannot.

cloudpickle pickles functions of ``__main__`` by value. Modules that lie beside the user's script are not
there on a worker either, so they are pickled by value too; what is installed goes by reference.
"""

from __future__ import annotations

import sys
import sysconfig
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from zmflow.errors import SerializationError
from zmflow.graph.job_graph import ChainSpec
from zmflow.plugins import plugin_packages

__all__ = ["ChainSerializer", "chain_serializer", "modules_to_ship", "unpicklable_path"]

CAPTURE_DEPTH_MAX = 12
"""How deep into closures, attributes and containers the culprit is looked for; user objects that
nest deeper are named by the part reached."""


class ChainSerializer:
    """Makes chains bytes, and remembers the user's classes in them.

    Records of a class travel between workers pickled by reference, so a worker needs the classes of every
    chain of the job, not only of its own: serialize all chains, and once more with ``classes`` when
    there are any.
    """

    def __init__(self, modules: Sequence[types.ModuleType]) -> None:
        self._modules = {"__main__", *(module.__name__ for module in modules)}
        self.classes: dict[str, dict[str, type]] = {}

    def serialize(self, chain: ChainSpec, vertex_name: str) -> bytes:
        """The bytes of a chain.

        Raises:
            SerializationError: names the operator and the variable.
        """
        from zmflow.api.chain_pickler import pickled_with_classes

        try:
            data, found = pickled_with_classes(replace(chain, classes=self.classes), self._modules)
        except Exception as error:
            raise _located(chain, vertex_name, error) from error
        for module, classes in found.items():
            self.classes = {**self.classes, module: {**self.classes.get(module, {}), **classes}}
        return data


@contextmanager
def chain_serializer(py_files: Sequence[Path] = ()) -> Iterator[ChainSerializer]:
    """A serializer; while it is in use, the modules beside the user's script are pickled by value.

    Args:
        py_files: files and directories that travel with the job; modules from there go by reference.
    """
    import cloudpickle

    modules = modules_to_ship(py_files)
    known = cloudpickle.list_registry_pickle_by_value()
    registered = [module for module in modules if module.__name__ not in known]
    for module in registered:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield ChainSerializer(modules)
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)


def _located(chain: ChainSpec, vertex_name: str, error: Exception) -> SerializationError:
    """Which operator's part of the chain it was."""
    for node in chain.nodes:
        if _failure(node.operator) is not None:
            return _refusal(f"The operator {node.name!r}", node.operator)
    for output in chain.outputs:
        if _failure(output.partitioner) is not None:
            origin = chain.nodes[output.node].name
            return _refusal(
                f"The {_EXCHANGES[output.partitioner.name]} behind {origin!r}", output.partitioner
            )
    return SerializationError(f"The chain {vertex_name!r} cannot be pickled.", detail=str(error))


_EXCHANGES = {"HASH": "key_by()", "CUSTOM": "partition_custom()"}


def _dumps(value: object) -> bytes:
    import cloudpickle

    data: bytes = cloudpickle.dumps(value)
    return data


def _failure(value: object) -> Exception | None:
    try:
        _dumps(value)
    except Exception as error:  # noqa: BLE001 - a user's __reduce__ may raise anything
        return error
    return None


def _refusal(owner: str, value: object) -> SerializationError:
    path, culprit = unpicklable_path(value)
    error = _failure(culprit)
    hint = "Create such objects on the worker: use a function class and make them in open()."
    if path and isinstance(sys.modules.get(path[0]), types.ModuleType):
        hint += f" Or ship the module as a file: add_python_file() or --py-files {path[0]}.py."
    what = f"captures the variable {path[0]!r}, which cannot be pickled" if path else "cannot be pickled"
    detail = f"{'.'.join(path) + ' is' if path else 'It is'} a {type(culprit).__qualname__}: {error}"
    return SerializationError(
        f"{owner} {what}.",
        detail=detail,
        hint=hint,
    )


def unpicklable_path(value: object) -> tuple[list[str], object]:
    """Where inside a value the thing that cannot be pickled is: the variables on the way, and the thing.

    >>> import threading
    >>> lock = threading.Lock()
    >>> unpicklable_path(lambda: lock)[0]
    ['lock']
    """
    path: list[str] = []
    seen: set[int] = set()
    for _ in range(CAPTURE_DEPTH_MAX):
        seen.add(id(value))
        inner = next(
            (
                (name, child)
                for name, child in _captured(value)
                if id(child) not in seen and _failure(child) is not None
            ),
            None,
        )
        if inner is None:
            break
        name, value = inner
        if name:
            path.append(name)
    return path, value


def _captured(value: object) -> Iterator[tuple[str, object]]:
    """What a value holds, with the names the user knows it by; "" for parts without a name."""
    if isinstance(value, types.FunctionType):
        yield from _captured_by_function(value)
    elif isinstance(value, types.MethodType):
        yield "", value.__self__
        yield "", value.__func__
    elif isinstance(value, dict):
        for key, item in value.items():
            yield f"[{key!r}]", item
    elif isinstance(value, (list, tuple, set, frozenset)):
        for index, item in enumerate(value):
            yield f"[{index}]", item
    elif isinstance(value, types.ModuleType):
        yield from ((name, item) for name, item in vars(value).items() if not name.startswith("__"))
    elif hasattr(value, "func") and hasattr(value, "keywords"):  # functools.partial
        yield "", value.func
        yield from ((f"argument {index}", item) for index, item in enumerate(getattr(value, "args", ())))
        yield from value.keywords.items()
    else:
        yield from _attributes(value)


def _captured_by_function(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield name, cell.cell_contents
        except ValueError:  # a cell that was never filled
            continue
    for name in _names_used(function.__code__):
        if name in function.__globals__:
            yield name, function.__globals__[name]
    arguments = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = function.__defaults__ or ()
    yield from zip(arguments[len(arguments) - len(defaults) :], defaults, strict=False)
    yield from (function.__kwdefaults__ or {}).items()


def _names_used(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_used(constant)


# Fields of our own operator specifications: no names of the user's.
_OWN_FIELDS = frozenset({"function", "key_selector", "partitioner", "source", "sink"})


def _attributes(value: object) -> Iterator[tuple[str, object]]:
    ours = type(value).__module__.startswith("zmflow.")
    names = list(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots: Any = kind.__dict__.get("__slots__", ())
        names.extend([slots] if isinstance(slots, str) else slots)
    for name in names:
        if hasattr(value, name):
            yield ("" if ours and name in _OWN_FIELDS else name), getattr(value, name)


def modules_to_ship(py_files: Sequence[Path] = ()) -> list[types.ModuleType]:
    """Loaded modules that a worker could not import: those under the script's and the current directory.

    Not among them: what is installed, the standard library, zmflow itself and its plugins, which may be
    installed from a directory there, and what ``py_files`` bring.
    """
    roots = _script_directories()
    travelling = [path.resolve() for path in py_files]
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or name.split(".")[0] in _NEVER_SHIPPED or module.__name__ != name:
            continue
        if not file.startswith(roots) or file.startswith(_LIBRARY) or "-packages/" in file:
            continue
        path = Path(file).resolve()
        if any(path == brought or brought in path.parents for brought in travelling):
            continue
        found.append(module)
    plugins = plugin_packages() if found else ()  # which reads the metadata of all that is installed
    return [module for module in found if module.__name__.split(".")[0] not in plugins]


_NEVER_SHIPPED = frozenset({"zmflow", "__main__", "__mp_main__"})
_LIBRARY = tuple(sysconfig.get_paths()[key] + "/" for key in ("stdlib", "platstdlib"))


def _script_directories() -> tuple[str, ...]:
    directories = {str(Path.cwd())}
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if script:
        # Python looks for modules beside the file that a link to the script points to.
        directories |= {str(Path(script).absolute().parent), str(Path(script).resolve().parent)}
    # A script in / or in the user's home would make everything below it the user's code; the
    # library and site-packages are excluded by name.
    return tuple(directory.rstrip("/") + "/" for directory in sorted(directories))
