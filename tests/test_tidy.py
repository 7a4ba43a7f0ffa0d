"""Limits that keep the project readable, held by a walk over its syntax trees."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = sorted([*(ROOT / "zmflow").rglob("*.py"), *ROOT.glob("plugins/*/zmflow_*/**/*.py")])
EVERYTHING = sorted(
    path
    for folder in ("zmflow", "tests", "examples", "benchmarks", "plugins")
    for path in (ROOT / folder).rglob("*.py")
)

MODULE_LINES_MAX = 500
TEST_MODULE_LINES_MAX = 800
FUNCTION_LINES_MAX = 60
DUMPING_GROUNDS = {"utils", "util", "helpers", "helper", "common", "misc"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    """The path as a person would type it."""
    return path.relative_to(ROOT).as_posix()


def is_of_tests(path: Path) -> bool:
    """Whether a module is one of tests: of ours, or of a plugin's."""
    return "tests" in path.relative_to(ROOT).parts


def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def functions_of(tree: ast.AST) -> Iterator[Function]:
    """Every function, nested ones and methods too."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def exported_names(tree: ast.Module) -> list[str] | None:
    """What ``__all__`` lists; None when the module has none or computes it."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            value = getattr(node, "value", None)
            return list(ast.literal_eval(value)) if isinstance(value, (ast.List, ast.Tuple)) else None
    return None


def test_modules_are_short() -> None:
    """A module is one noun: at most 500 lines, a module of tests 800."""
    long = {
        name_of(path): count
        for path in EVERYTHING
        if (count := len(path.read_text(encoding="utf-8").splitlines()))
        > (TEST_MODULE_LINES_MAX if is_of_tests(path) else MODULE_LINES_MAX)
    }
    assert long == {}


def test_functions_are_short() -> None:
    """A function is at most 60 lines, its documentation included."""
    long = {
        f"{name_of(path)}:{node.lineno} {node.name}": count
        for path in EVERYTHING
        for node in functions_of(tree_of(path))
        if (count := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
    }
    assert long == {}


def test_no_module_is_a_dumping_ground() -> None:
    """A module's name says what belongs into it."""
    assert [name_of(path) for path in EVERYTHING if DUMPING_GROUNDS & {*path.parts, path.stem}] == []


@pytest.mark.parametrize("path", PACKAGE, ids=name_of)
def test_public_names_are_listed_sorted_and_exist(path: Path) -> None:
    """Each module lists its public names, in the order ruff sorts them, and defines every one."""
    tree = tree_of(path)
    listed = exported_names(tree)
    if listed is None:
        assert path.name == "__init__.py", "has no literal __all__"
        return
    assert listed == sorted(listed, key=export_order), "__all__ is not sorted"
    assert len(listed) == len(set(listed)), "__all__ names something twice"
    assert set(listed) <= names_defined_in(tree), "__all__ names what is not there"


def export_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest: the order ruff's RUF022 keeps."""
    if name.isupper():
        return 0, name
    return (1 if name[0].isupper() else 2), name


def names_defined_in(tree: ast.Module) -> set[str]:
    """The names a module binds at its top level, imports included."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, (ast.ClassDef, *Function.__args__)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def undocumented(tree: ast.Module) -> Iterator[str]:
    """Public classes, functions and methods without a docstring.

    Exempt are methods that implement or declare what their class documents: overrides of a base
    class, protocol methods whose body is ``...``, and structs that are nothing but named fields.
    """
    for node in tree.body:
        if isinstance(node, Function) and is_public(node.name) and not is_documented(node):
            yield f"{node.lineno} {node.name}"
        if isinstance(node, ast.ClassDef) and is_public(node.name):
            if not (ast.get_docstring(node) or has_only_fields(node)):
                yield f"{node.lineno} {node.name}"
            for method in node.body if not node.bases else []:
                if isinstance(method, Function) and is_public(method.name) and not is_documented(method):
                    yield f"{method.lineno} {node.name}.{method.name}"


def is_public(name: str) -> bool:
    """Whether a name is for others."""
    return not name.startswith("_")


def is_documented(function: Function) -> bool:
    """Whether a function says what it does, is an overload, or only declares a protocol's method."""
    decorators = {getattr(d, "id", getattr(d, "attr", "")) for d in function.decorator_list}
    body = function.body[-1]
    declared = isinstance(body, ast.Expr) and isinstance(body.value, ast.Constant) and body.value.value is ...
    return bool(ast.get_docstring(function)) or declared or bool(decorators & {"overload", "setter"})


def has_only_fields(node: ast.ClassDef) -> bool:
    """Whether a class has nothing but annotated fields: the message table documents those."""
    return all(isinstance(item, (ast.AnnAssign, ast.Pass)) for item in node.body)


@pytest.mark.parametrize("path", PACKAGE, ids=name_of)
def test_public_things_are_documented(path: Path) -> None:
    """Every module, public function and public class states what it promises."""
    tree = tree_of(path)
    assert ast.get_docstring(tree), "the module has no docstring"
    assert list(undocumented(tree)) == []


def test_nothing_prints_to_whatever_standard_output_is() -> None:
    """A print names its file: a leftover one would end in the middle of a user's output."""
    prints = [
        f"{name_of(path)}:{node.lineno}"
        for path in PACKAGE
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        if not any(keyword.arg == "file" for keyword in node.keywords)
    ]
    assert prints == []


def test_nothing_is_left_for_later() -> None:
    """No markers of unfinished work in comments: what is not there is said in the README."""
    marker = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    found = []
    for path in EVERYTHING:
        text = path.read_text(encoding="utf-8")
        found += [
            f"{name_of(path)}:{token.start[0]}"
            for token in tokenize.generate_tokens(io.StringIO(text).readline)
            if token.type == tokenize.COMMENT and marker.search(token.string)
        ]
    assert found == []


def test_every_test_states_the_behaviour_it_holds() -> None:
    """Each test function has a docstring."""
    silent = [
        f"{name_of(path)}:{node.lineno} {node.name}"
        for path in EVERYTHING
        if is_of_tests(path)
        for node in functions_of(tree_of(path))
        if node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert silent == []
