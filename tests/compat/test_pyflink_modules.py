"""PyFlink's module paths and names, resolved to zmflow."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import pytest

import zmflow
import zmflow.compat.pyflink
from zmflow.compat.pyflink import pyflink_imports
from zmflow.compat.pyflink.names import MODULES, missing_names, names_of, value_of
from zmflow.compat.pyflink.refusals import REFUSED_MODULES, REFUSED_NAMES, PyFlinkImportError
from zmflow.errors import ConfigurationError

MISSING = set(Path(__file__).with_name("missing_names.txt").read_text(encoding="utf-8").split())
"""Names of PyFlink that zmflow does not have yet. What lands is taken out of the file; nothing is added."""


@pytest.fixture
def pyflink() -> Iterator[None]:
    """``import pyflink`` gives zmflow's modules."""
    with pyflink_imports():
        yield


@pytest.mark.parametrize("path", sorted(MODULES))
def test_each_module_of_pyflink_can_be_imported(pyflink: None, path: str) -> None:
    """Under both names it is one module, and everything it lists is there."""
    ours = importlib.import_module(f"zmflow.compat.pyflink.{path}".rstrip("."))
    assert importlib.import_module(f"pyflink.{path}".rstrip(".")) is ours
    if path:
        assert ours.__name__ == f"zmflow.compat.pyflink.{path}"
        assert list(names_of(path)) == ours.__all__
        assert [name for name in names_of(path) if name not in MISSING and not hasattr(ours, name)] == []


def test_what_is_missing_is_known() -> None:
    """The list of missing names is exactly what is missing."""
    assert missing_names() == MISSING


def test_one_name_is_one_class_everywhere() -> None:
    """Modules that share a name share what it stands for, and it is zmflow's where zmflow has it."""
    for module, names in MODULES.items():
        for name in set(names) - MISSING - set(REFUSED_NAMES):
            others = {path for path, others in MODULES.items() if name in others}
            assert {id(value_of(path, name)) for path in others} == {id(value_of(module, name))}
    assert value_of("datastream", "MapFunction") is zmflow.MapFunction
    assert value_of("common", "Types") is zmflow.Types


@pytest.mark.parametrize("path", [*sorted(REFUSED_MODULES), "table.udf", "datastream.connectors.kafka.x"])
def test_modules_that_need_a_jvm_say_what_to_use(pyflink: None, path: str) -> None:
    """Importing them, or anything below them, is an error with a remedy."""
    with pytest.raises(PyFlinkImportError) as caught:
        importlib.import_module(f"pyflink.{path}")
    assert caught.value.hint
    assert isinstance(caught.value, ImportError)


def test_the_sql_api_is_called_by_its_name(pyflink: None) -> None:
    """The message names what the program wanted, not a module path."""
    with pytest.raises(PyFlinkImportError, match="Table and SQL API"):
        import pyflink.table  # type: ignore[import-not-found,unused-ignore]  # noqa: F401


@pytest.mark.parametrize("name", sorted(REFUSED_NAMES))
def test_names_that_are_refused_say_what_to_use(name: str) -> None:
    """A name that is not offered raises with its own hint."""
    module = next(path for path, names in MODULES.items() if name in names)
    with pytest.raises(PyFlinkImportError, match=name) as caught:
        value_of(module, name)
    assert caught.value.hint == REFUSED_NAMES[name]


def test_what_pyflink_does_not_have_is_not_there(pyflink: None) -> None:
    """A misspelt module or name is Python's usual error."""
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("pyflink.comon")
    with pytest.raises(ImportError, match="cannot import name 'Tpyes'"):
        from pyflink.common import Tpyes  # type: ignore[import-not-found,unused-ignore]  # noqa: F401


def test_pyflink_is_only_ours_inside() -> None:
    """Outside of ``pyflink_imports`` the name means what it meant."""
    with pyflink_imports():
        import pyflink.common  # type: ignore[import-not-found,unused-ignore]

        assert pyflink is zmflow.compat.pyflink
    assert [name for name in sys.modules if name.split(".")[0] == "pyflink"] == []


def test_pyflink_itself_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the real package is loaded already, mixing the two is refused."""
    import types

    monkeypatch.setitem(sys.modules, "pyflink", types.ModuleType("pyflink"))
    with pytest.raises(ConfigurationError, match="imported already"), pyflink_imports():
        pass


def test_functions_that_refer_to_pyflinks_modules_unpickle_without_pyflink(pyflink: None) -> None:
    """A worker knows the modules by zmflow's name; nothing has to be installed there."""
    code = (
        "import pyflink.common as common\n"
        "from pyflink.datastream.functions import MapFunction\n"
        "class Wrap(MapFunction):\n"
        "    def map(self, value):\n"
        "        return common.Row(value)\n"
    )
    scope: dict[str, object] = {"__name__": "__main__"}
    exec(code, scope)  # noqa: S102 - a program's own code
    data = cloudpickle.dumps(scope["Wrap"]())
    script = (
        "import pickle, sys\n"
        "row = pickle.loads(sys.stdin.buffer.read()).map(7)\n"
        "print(row, [name for name in sys.modules if name[:7] == 'pyflink'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, check=True)
    assert done.stdout.decode().strip() == "<Row(7)> []"


def test_the_package_that_travels_makes_pyflink_importable() -> None:
    """Where it is on the import path, ``import pyflink`` finds zmflow's modules at any depth."""
    from zmflow.compat.pyflink_package import PACKAGE

    script = (
        f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r})\n"
        "from pyflink.common.typeinfo import Types\n"
        "import zmflow, pyflink, pyflink.datastream as d\n"
        "print(Types is zmflow.Types, d.DataStream is zmflow.DataStream, pyflink.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["True", "True", "zmflow.compat.pyflink"]


def test_errors_of_importing_are_pickled_like_all_others() -> None:
    """They cross process borders: a function may import on a worker."""
    error = PyFlinkImportError("No.", detail="a", hint="b")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.message, copy.hint, copy.exit_code) == (PyFlinkImportError, "No.", "b", 2)
