"""User modules that travel with a job: files as they are, directories as zip archives.

A worker puts a ``.py`` file's directory and each archive on its import path.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

from zmflow.errors import JobGraphError

__all__ = ["import_path_of", "listed_py_files", "read_py_files"]

_ARCHIVES = frozenset({".zip", ".egg", ".whl"})
# zip knows no time before this one; a fixed one keeps the bytes of unchanged files unchanged.
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def listed_py_files(setting: str) -> list[Path]:
    """The paths in the text of the setting ``python.files``.

    >>> [str(path) for path in listed_py_files("a.py, lib/")]
    ['a.py', 'lib']
    """
    return [Path(part.strip()) for part in setting.split(",") if part.strip()]


def import_path_of(paths: Iterable[Path]) -> list[str]:
    """What ``sys.path`` needs so that the client can import what a worker will."""
    found: list[str] = []
    for path in paths:
        full = path.resolve()
        is_module = full.suffix == ".py" or (full / "__init__.py").is_file()
        entry = str(full.parent if is_module else full)
        if entry not in found:
            found.append(entry)
    return found


def read_py_files(paths: Iterable[Path]) -> list[tuple[str, bytes]]:
    """Names and contents of modules, archives and directories.

    A directory with ``__init__.py`` is a package and keeps its name; any other directory stands for the
    modules and packages in it.

    Raises:
        JobGraphError: a path that does not exist, cannot be read, or is none of these.
    """
    shipped: dict[str, tuple[Path, bytes]] = {}
    for path in paths:
        name, content = _read(path)
        if name in shipped and shipped[name][0] != path:
            raise JobGraphError(
                f"Two Python files to ship are called {name!r}.",
                detail=f"{shipped[name][0]} and {path}",
                hint="Rename one, or put both into packages.",
            )
        shipped[name] = (path, content)
    return [(name, content) for name, (_, content) in shipped.items()]


def _read(path: Path) -> tuple[str, bytes]:
    try:
        if path.is_dir():
            return f"{path.resolve().name}.zip", _zipped(path.resolve())
        if path.suffix == ".py" or path.suffix in _ARCHIVES:
            return path.name, path.read_bytes()
    except OSError as error:
        raise JobGraphError(
            "A Python file to ship cannot be read.", detail=f"{path}: {error.strerror or error}"
        ) from None
    if not path.exists():
        raise JobGraphError("A Python file to ship does not exist.", detail=str(path))
    raise JobGraphError(
        "A file to ship is neither a Python module nor an archive.",
        detail=str(path),
        hint="Ship .py files, directories, .zip, .egg or .whl archives.",
    )


def _zipped(directory: Path) -> bytes:
    base = directory.parent if (directory / "__init__.py").is_file() else directory
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(directory.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                info = zipfile.ZipInfo(file.relative_to(base).as_posix(), _ZIP_EPOCH)
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, file.read_bytes())
    return buffer.getvalue()
