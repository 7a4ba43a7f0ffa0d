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

from zmflow.errors import ClusterError
from zmflow.graph.job_graph import ChainSpec
from zmflow.protocol.job_files import JobFile
from zmflow.runtime.job_file_store import stored_path

__all__ = ["install_classes", "install_files", "load_chain"]


_installing = threading.Lock()

_loading = threading.Lock()
"""Held while a chain is unpickled. That imports modules, and two threads that import modules which import
each other can wait for each other's; CPython sees that and lets one of the imports fail."""


def install_files(files: Sequence[JobFile], directory: Path) -> dict[str, str]:
    """Put the modules and archives of a job on the import path. Returns where its other files are, by name.

    Raises:
        ClusterError: a file is not in the directory.
        ProtocolError: a name is not a plain file name.
    """
    paths: list[str] = []
    found: dict[str, str] = {}
    for file in files:
        path = stored_path(directory, file)
        if not path.exists():
            raise ClusterError(
                f"The file {file.name!r} of the job is not on this TaskManager.",
                detail=f"{file.size_bytes} bytes at {path}.",
                hint="The log of the TaskManager says why it could not be written: a full disk, perhaps.",
            )
        if file.kind == "python":
            # An archive is itself a place to import from; a module lies in one of its own.
            archive = path.suffix in (".zip", ".whl", ".egg")
            paths.append(str(path if archive else path.parent))
        else:
            found[file.name] = str(path)
    sys.path[:0] = [path for path in dict.fromkeys(paths) if path not in sys.path]
    return found


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
