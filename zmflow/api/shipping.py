"""Files that travel with a job: modules to import, and files and directories that functions read.

Directories travel as zip archives. A worker imports from ``.py`` files and archives as if they were its own.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from zmflow.errors import JobGraphError
from zmflow.protocol.job_files import JobFile, JobFileKind, new_job_file
from zmflow.protocol.messages import MESSAGE_SIZE_MAX_BYTES
from zmflow.protocol.resources import size_text

__all__ = [
    "JOB_FILES_SIZE_MAX_BYTES",
    "CachedFile",
    "import_path_of",
    "listed_py_files",
    "new_cached_file",
    "read_job_files",
]

JOB_FILES_SIZE_MAX_BYTES = MESSAGE_SIZE_MAX_BYTES - 32 * 2**20
"""All files of a job together. They are submitted in one message with its functions and collections, which
are left 32 MiB; what is larger belongs on a file system that every machine sees."""

_ARCHIVES = frozenset({".zip", ".egg", ".whl"})
# zip knows no time before this one; a fixed one keeps the bytes of unchanged files unchanged.
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
_MODE_SHIFT = 16  # zip keeps the mode of a file in the upper half of its attributes


@dataclass(frozen=True, slots=True)
class CachedFile:
    """A file or directory that travels under a name. ``title`` is what errors call it."""

    name: str
    path: Path
    executable: bool = False
    title: str = ""


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


def new_cached_file(file_path: str | os.PathLike[str], name: str, executable: bool) -> CachedFile:
    """A file or directory to ship, looked at and not read.

    Raises:
        JobGraphError: it is not there, is on another file system than this machine's, or is too large.
    """
    text = os.fspath(file_path)
    path = Path(text.removeprefix("file://"))
    if "://" in str(text) and not str(text).startswith("file://"):
        raise JobGraphError(
            "A cached file is not on this machine.",
            detail=text,
            hint="Register a path of this machine, or read the file from the function itself.",
        )
    if not isinstance(name, str) or not name:
        raise JobGraphError(f"register_cached_file() takes a name for {path}, not {name!r}.")
    if not path.exists():
        raise JobGraphError(f"The file to register as {name!r} does not exist.", detail=str(path))
    registered = CachedFile(name, path.absolute(), executable, f"the file {name!r}")
    _check_size([(registered.title, registered.path, frozenset())])
    return registered


def read_job_files(python: Iterable[Path], cached: Iterable[CachedFile]) -> list[JobFile]:
    """The files of a job, with what is in them. Their sizes are looked at before anything is read.

    A Python directory with ``__init__.py`` is a package and keeps its name; any other stands for the modules
    and packages in it.

    Raises:
        JobGraphError: a file cannot be read, is of the wrong kind, or all are too large; or two Python files
            have one name.
    """
    python, cached = list(python), list(cached)
    _check_size(
        [
            *((f"the Python file {path.name!r}", path, _NOT_CODE) for path in python),
            *((file.title, file.path, frozenset()) for file in cached),
        ]
    )
    shipped: dict[str, tuple[Path, JobFile]] = {}
    for path in python:
        file = _read_python(path)
        if file.name in shipped and shipped[file.name][0] != path:
            raise JobGraphError(
                f"Two Python files to ship are called {file.name!r}.",
                detail=f"{shipped[file.name][0]} and {path}",
                hint="Rename one, or put both into packages.",
            )
        shipped[file.name] = (path, file)
    return [*(file for _, file in shipped.values()), *map(_read_cached, cached)]


_NOT_CODE = frozenset({"__pycache__"})


def _check_size(files: Iterable[tuple[str, Path, frozenset[str]]]) -> None:
    """Refuse files that are too large together, by the name of the largest. What is missing has no size."""
    sizes = [(_size_of(path, skipped), what, path) for what, path, skipped in files]
    total = sum(size for size, _, _ in sizes)
    if total > JOB_FILES_SIZE_MAX_BYTES:
        size, what, path = max(sizes)
        raise JobGraphError(
            f"{what[0].upper()}{what[1:]} is too large to travel with a job: {size_text(size)}."
            if size > JOB_FILES_SIZE_MAX_BYTES
            else f"The files of the job are too large to travel with it: {size_text(total)}.",
            detail=f"The largest is {what}, {path}: {size} bytes; at most {JOB_FILES_SIZE_MAX_BYTES} travel.",
            hint="Put large files where every machine can read them, and give the function the path.",
        )


def _size_of(path: Path, skipped: frozenset[str]) -> int:
    try:
        if path.is_dir():
            return sum(file.stat().st_size for file in _files_in(path, skipped))
        return path.stat().st_size
    except OSError:
        return 0  # whoever reads it says what is wrong


def _read_python(path: Path) -> JobFile:
    try:
        if path.is_dir():
            directory = path.resolve()
            base = directory.parent if (directory / "__init__.py").is_file() else directory
            return new_job_file(f"{directory.name}.zip", "python", _zipped(directory, base, _NOT_CODE))
        if path.suffix == ".py" or path.suffix in _ARCHIVES:
            return new_job_file(path.name, "python", path.read_bytes())
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


def _read_cached(file: CachedFile) -> JobFile:
    path, name = file.path, file.name
    try:
        is_directory = path.is_dir()
        content = _zipped(path, path, frozenset()) if is_directory else path.read_bytes()
    except OSError as error:
        raise JobGraphError(
            f"{file.title[0].upper()}{file.title[1:]} cannot be read.",
            detail=f"{path}: {error.strerror or error}",
        ) from None
    kind: JobFileKind = "directory" if is_directory else "file"
    return new_job_file(name, kind, content, file_name=path.name or "root", executable=file.executable)


def _files_in(directory: Path, skipped: frozenset[str]) -> Iterator[Path]:
    """Every file in a directory and below, in a fixed order.

    Raises:
        JobGraphError: there is a link to a directory, which would be followed for ever or left out.
    """
    for parent, directories, names in os.walk(directory):
        directories[:] = sorted(set(directories) - skipped)
        for name in directories:
            if Path(parent, name).is_symlink():
                raise JobGraphError(
                    "A directory to ship has a link to another directory in it.",
                    detail=str(Path(parent, name)),
                    hint="Register that directory by itself, or put a copy of it there.",
                )
        yield from (path for name in sorted(names) if (path := Path(parent, name)).is_file())


def _zipped(directory: Path, base: Path, skipped: frozenset[str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in _files_in(directory, skipped):
            info = zipfile.ZipInfo(file.relative_to(base).as_posix(), _ZIP_EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = file.stat().st_mode << _MODE_SHIFT
            archive.writestr(info, file.read_bytes())
    return buffer.getvalue()
