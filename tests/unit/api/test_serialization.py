"""What travels with a job, and the errors when something cannot."""

from __future__ import annotations

import functools
import importlib
import pickle
import subprocess
import sys
import threading
import types
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from submissions import new_environment

from zmflow import MapFunction
from zmflow.api.environment import environment_context
from zmflow.api.serialization import modules_to_ship, unpicklable_path
from zmflow.api.shipping import read_job_files
from zmflow.config import Settings
from zmflow.errors import JobGraphError, SerializationError

GLOBAL_LOCK = threading.Lock()


class Locked(MapFunction[int, int]):
    """Keeps a lock two attributes deep."""

    def __init__(self) -> None:
        self.connection = Connection()

    def map(self, value: int) -> int:
        return value


class Connection:
    def __init__(self) -> None:
        self.guard = threading.Lock()


def closure() -> Any:
    guard = threading.Lock()
    return lambda value: (guard, value)


def default(value: int, guard: Any = threading.Lock()) -> int:
    return value


def nested(value: int) -> Any:
    return [GLOBAL_LOCK for _ in range(value)]


@pytest.mark.parametrize(
    ("function", "variable", "path"),
    [
        (closure(), "guard", ["guard"]),
        (default, "guard", ["guard"]),
        (nested, "GLOBAL_LOCK", ["GLOBAL_LOCK"]),
        (Locked(), "connection", ["connection", "guard"]),
        (Locked().map, "connection", ["connection", "guard"]),
        (functools.partial(max, threading.Lock()), "argument 0", ["argument 0"]),
        (functools.partial(max, key=closure()), "key", ["key", "guard"]),
    ],
)
def test_the_offending_variable_is_named(function: Any, variable: str, path: list[str]) -> None:
    """Closures, defaults, globals, attributes and partial arguments: the error says which it was."""
    env, executor = new_environment()
    env.from_sequence(1, 2).map(function).name("Enrich").print()
    with pytest.raises(SerializationError) as caught:
        env.execute()
    assert caught.value.message == (
        f"The operator 'Enrich' captures the variable {variable!r}, which cannot be pickled."
    )
    assert (caught.value.detail or "").startswith(".".join(path) + " is a lock: ")
    assert "open()" in (caught.value.hint or "")
    assert executor.graphs == []


def test_elements_and_key_functions_are_named_too() -> None:
    """The same for what a collection holds and what key_by and partition_custom capture."""
    env, _ = new_environment()
    env.from_collection([1, threading.Lock()]).print()
    with pytest.raises(SerializationError, match=r"'Source: Collection Source' captures .*elements"):
        env.execute()
    env, _ = new_environment()
    env.from_sequence(1, 2).key_by(closure()).print()
    with pytest.raises(SerializationError, match=r"key_by\(\) behind 'Source: Sequence Source'.*'guard'"):
        env.execute()
    env, _ = new_environment()
    env.from_sequence(1, 2).partition_custom(closure(), hash).print()
    with pytest.raises(SerializationError, match=r"partition_custom\(\) behind .*'guard'"):
        env.execute()


def test_streams_cannot_be_captured() -> None:
    """A function that uses a stream or an environment is refused with the variable's name."""
    env, _ = new_environment()
    other = env.from_sequence(1, 2)
    other.map(lambda value: other).print()
    with pytest.raises(
        SerializationError, match=r"'Map' captures the variable 'other'(.|\n)*inside a function"
    ):
        env.execute()
    env, _ = new_environment()
    env.from_sequence(1, 2).map(lambda value: env).print()
    with pytest.raises(SerializationError, match=r"'env'(.|\n)*inside a function"):
        env.execute()


def test_modules_with_unpicklable_variables_can_be_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a module travels by value because it lies beside the script, the hint names the other way."""
    module = types.ModuleType("beside_the_script")
    module.__file__ = str(Path.cwd() / "beside_the_script.py")
    module.LOCK = threading.Lock()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(globals(), module.__name__, module)
    env, _ = new_environment()
    env.from_sequence(1, 2).map(lambda value: beside_the_script.LOCK).print()  # type: ignore[name-defined]  # noqa: F821
    with pytest.raises(SerializationError, match="'beside_the_script'") as caught:
        env.execute()
    assert "beside_the_script.LOCK is a lock" in (caught.value.detail or "")
    assert "--py-files beside_the_script.py" in (caught.value.hint or "")


def test_the_search_ends() -> None:
    """Values that contain themselves, and failures without a culprit, are reported all the same."""

    class Refuses:
        def __reduce__(self) -> Any:
            raise RuntimeError("never")

    loop: list[Any] = [threading.Lock()]
    loop.insert(0, loop)
    assert unpicklable_path(loop)[0][-1] == "[1]"
    refuses = Refuses()
    assert unpicklable_path(refuses) == ([], refuses)


SIDE_MODULE = """
from dataclasses import dataclass
BASE = 40

@dataclass
class Pair:
    left: int
    right: int

def pair(value):
    return Pair(value, BASE)
"""

SCRIPT = """
import pickle, sys
import beside
from zmflow import StreamExecutionEnvironment
from zmflow.api.environment import environment_context
from zmflow.config import Settings

class Own:
    class Inner: pass

class Keep:
    def submit(self, graph, settings, *, collect):
        with open(sys.argv[1], "wb") as file:
            pickle.dump([vertex.operators for vertex in graph.vertices], file)
        raise SystemExit(0)

with environment_context(Settings().with_values({"parallelism.default": "2"}, "t"), Keep()):
    env = StreamExecutionEnvironment.get_execution_environment()
    pairs = env.from_sequence(1, 2).map(lambda x: (beside.pair(x + 2), Own.Inner))
    pairs.key_by(lambda pair: pair[0].left).print()
    env.execute()
"""

READER = """
import pickle, sys
chains = [pickle.loads(data) for data in pickle.load(open(sys.argv[1], "rb"))]
pair, inner = chains[0].nodes[1].operator.function(0)
assert (pair.left, pair.right) == (2, 40), pair
for chain in chains:
    assert chain.classes["beside"]["Pair"] is type(pair)
    assert chain.classes["__main__"]["Own"].Inner is inner
"""


def test_modules_beside_the_script_travel_by_value(tmp_path: Path) -> None:
    """A worker that cannot import them has their functions, and in each chain the classes of records."""
    program = tmp_path / "program"
    program.mkdir()
    (program / "beside.py").write_text(SIDE_MODULE)
    (program / "job.py").write_text(SCRIPT)
    dumped = tmp_path / "chains"
    subprocess.run([sys.executable, str(program / "job.py"), str(dumped)], check=True, cwd=tmp_path)
    subprocess.run([sys.executable, "-c", READER, str(dumped)], check=True, cwd=tmp_path)


def test_installed_modules_are_not_shipped(tmp_path: Path) -> None:
    """zmflow, the library and site-packages stay where they are; so does what py_files bring."""
    names = {module.__name__ for module in modules_to_ship()}
    assert __name__ in names
    assert not {"zmflow", "zmflow.errors", "pytest", "pickle", "__main__"} & names
    assert __name__ not in {module.__name__ for module in modules_to_ship([Path(__file__)])}
    assert __name__ not in {module.__name__ for module in modules_to_ship([Path(__file__).parent])}


def test_plugins_are_not_shipped() -> None:
    """Whoever runs jobs has them, though here they are installed from directories below the current one."""
    plugin = importlib.import_module("zmflow_checkpoint_obstore")
    assert Path(plugin.__file__).is_relative_to(Path.cwd())
    assert not {name for name in sys.modules if name.startswith("zmflow_checkpoint_obstore")} & {
        module.__name__ for module in modules_to_ship()
    }


def test_directories_travel_as_archives(tmp_path: Path) -> None:
    """A package keeps its name, another directory stands for what is in it; bytes are reproducible."""
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text("X = 1")
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "inner.pyc").write_text("")
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "module.py").write_text("Y = 1")
    shipped = read_job_files([package, plain], [])
    assert shipped == read_job_files([package, plain], [])
    names = {file.name: sorted(zipfile.ZipFile(BytesIO(file.content)).namelist()) for file in shipped}
    assert names == {"pack.zip": ["pack/__init__.py", "pack/inner.py"], "plain.zip": ["module.py"]}


def test_programs_import_what_is_shipped(tmp_path: Path) -> None:
    """Inside an environment context the modules of python.files can be imported, afterwards not."""
    package = tmp_path / "one" / "shipped_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("X = 1")
    (tmp_path / "shipped_module.py").write_text("Y = 2")
    listed = f"{package}, {tmp_path / 'shipped_module.py'}"
    path_before = list(sys.path)
    with environment_context(Settings().with_values({"python.files": listed}, "test")):
        x = importlib.import_module("shipped_package").X
        y = importlib.import_module("shipped_module").Y
    assert (x, y) == (1, 2)
    assert sys.path == path_before
    for name in ("shipped_package", "shipped_module"):
        del sys.modules[name]


def test_files_that_cannot_travel_are_refused(tmp_path: Path) -> None:
    """Missing files, other kinds of files and two of one name are named."""
    (tmp_path / "data.csv").write_text("")
    (tmp_path / "a").mkdir()
    for place in (tmp_path, tmp_path / "a"):
        (place / "same.py").write_text("")
    with pytest.raises(JobGraphError, match=r"does not exist|cannot be read"):
        read_job_files([tmp_path / "missing.py"], [])
    with pytest.raises(JobGraphError, match="does not exist"):
        read_job_files([tmp_path / "missing"], [])
    with pytest.raises(JobGraphError, match="neither a Python module"):
        read_job_files([tmp_path / "data.csv"], [])
    with pytest.raises(JobGraphError, match=r"called 'same.py'"):
        read_job_files([tmp_path / "same.py", tmp_path / "a" / "same.py"], [])


def test_chains_unpickle_as_they_were() -> None:
    """What a worker unpickles calls what the user wrote."""
    env, executor = new_environment()
    factor = 3
    env.from_sequence(1, 2).map(lambda value: value * factor).print()
    env.execute()
    chain = pickle.loads(executor.graphs[0].vertices[0].operators)
    assert chain.nodes[1].operator.function(5) == 15
