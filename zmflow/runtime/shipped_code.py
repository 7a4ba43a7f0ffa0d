"""Code that came with a job: files to import, and the classes of modules that cannot be imported here.

A worker serves one job and ends with it, so what is installed here is never removed.
"""

from __future__ import annotations

import pickle
import sys
import threading
import types
from collections.abc import Mapping, Sequence
from pathlib import Path

from zmflow.errors import ProtocolError
from zmflow.graph.job_graph import ChainSpec

__all__ = ["install_classes", "install_files", "load_chain"]


_installing = threading.Lock()

_loading = threading.Lock()
"""Held while a chain is unpickled. That imports modules, and two threads that import modules which import
each other can wait for each other's; CPython sees that and lets one of the imports fail."""


def install_files(files: Sequence[tuple[str, bytes]], directory: Path) -> None:
    """Write the job's modules and archives into a directory and put them on the import path.

    Raises:
        ProtocolError: a name is not a plain file name.
    """
    if not files:
        return
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths = [str(directory)]
    for name, content in files:
        if Path(name).name != name or name in ("", ".", ".."):
            raise ProtocolError("A job ships a file with a path for a name.", detail=repr(name))
        path = directory / name
        path.write_bytes(content)
        if path.suffix in (".zip", ".whl", ".egg"):
            paths.append(str(path))
    sys.path[:0] = [path for path in paths if path not in sys.path]


def install_classes(classes: Mapping[str, Mapping[str, type]]) -> None:
    """Make classes findable under the module and name they have at the client.

    Tasks and enumerators call this on threads of their own, and of several chains with a class of one name
    the first one's must be everybody's.
    """
    with _installing:
        for module_name, members in classes.items():
            module = sys.modules.get(module_name)
            if module is None:
                module = sys.modules[module_name] = types.ModuleType(module_name)
            for name, member in members.items():
                if not hasattr(module, name):
                    setattr(module, name, member)


def load_chain(operators: bytes) -> ChainSpec:
    """Unpickle a chain. Tasks and enumerators do so on threads of their own; one at a time gets through."""
    with _loading:
        spec: ChainSpec = pickle.loads(operators)
    return spec
