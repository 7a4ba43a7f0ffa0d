"""Documents that fail when they are wrong."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from zmflow.cli.main import EXIT_CODES
from zmflow.cli.reference import architecture_page, cli_page, settings_page
from zmflow.config import load_settings
from zmflow.coordination.states import MACHINES

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), ROOT / "examples/README.md", *ROOT.glob("plugins/*/README.md")])
PLUGINS = sorted(ROOT.glob("plugins/*/pyproject.toml"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def test_the_reference_of_the_command_line_is_current() -> None:
    """CLI.md is what ``make docs`` writes."""
    assert (ROOT / "CLI.md").read_text(encoding="utf-8") == cli_page(), "run make docs"


def test_the_reference_of_settings_is_current() -> None:
    """SETTINGS.md is what ``make docs`` writes."""
    assert (ROOT / "SETTINGS.md").read_text(encoding="utf-8") == settings_page(), "run make docs"


def test_the_map_and_the_pictures_of_the_architecture_are_current() -> None:
    """ARCHITECTURE.md lists every module and draws the state machines as their tables have them."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert text == architecture_page(text), "run make docs"


def test_the_exit_codes_of_the_readme_are_those_of_the_command() -> None:
    """The README's table of exit codes equals the one in the code."""
    assert [(str(code), meaning) for code, meaning in EXIT_CODES.items()] == re.findall(
        r"^\| (\d+) \| (.+) \|$", README, flags=re.MULTILINE
    )


@pytest.mark.integration
@pytest.mark.parametrize("number", range(len(blocks(README, "python"))))
def test_the_readme_shows_what_its_jobs_print(tmp_path: Path, number: int) -> None:
    """Each program of the README runs and prints the block below it."""
    script = tmp_path / "job.py"
    script.write_text(blocks(README, "python")[number])
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert (done.stdout, done.returncode) == (blocks(README, "text")[number], 0), done.stderr


def test_the_settings_file_of_the_readme_is_one(tmp_path: Path) -> None:
    """Every TOML block of the README is accepted."""
    file = tmp_path / "zmflow.toml"
    for block in blocks(README, "toml"):
        tomllib.loads(block)
        file.write_text(block)
        load_settings(environment={}, file=file)


def test_every_state_machine_is_drawn_whole() -> None:
    """One picture per machine, under its title; each transition is in its picture, each event by its name."""
    page = architecture_page("<!-- states -->\n<!-- /states -->\n")
    pictures = blocks(page, "mermaid")
    assert re.findall(r"^([^\n]+):\n\n```mermaid$", page, flags=re.MULTILINE) == [m.title for m in MACHINES]
    for machine, picture in zip(MACHINES, pictures, strict=True):
        arrows = re.findall(r"^    (\S+) --> (\S+): (.+)$", picture, flags=re.MULTILINE)
        drawn = {(state, event): to for state, to, events in arrows for event in events.split(", ")}
        assert drawn == machine.transitions
        ends = re.findall(r"^    (\S+) --> \[\*\]$", picture, flags=re.MULTILINE)
        assert (set(ends), f"[*] --> {machine.initial}\n" in picture) == (machine.terminal, True)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_blocks_compile_and_links_lead_somewhere(document: Path) -> None:
    """No block has a slip, no relative link is dead."""
    text = document.read_text(encoding="utf-8")
    for block in blocks(text, "python"):
        ast.parse(block)
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize(
    "path",
    [
        *DOCUMENTS,
        *PLUGINS,
        ROOT / "constraints.txt",
        ROOT / "pyproject.toml",
        ROOT / "Makefile",
        ROOT / ".ci/run",
    ],
    ids=lambda path: path.name,
)
def test_nothing_names_one_machine_or_one_registry(path: Path) -> None:
    """The project installs anywhere: no addresses of package indexes, no paths of somebody's home."""
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"\S*(?:index-url|files\.pythonhosted|pypi\.org|/simple/)\S*", text) == []
    assert re.findall(r"(?:/home/|/root/|/Users/)\S*", text) == []


def test_every_version_is_pinned() -> None:
    """Each line of the constraints is one exact version, and each dependency has one."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.]*", pin)] == []
    pinned = {canonical(pin.partition("==")[0]) for pin in pins}
    wanted = []
    for file in (ROOT / "pyproject.toml", *PLUGINS):
        project = tomllib.loads(file.read_text(encoding="utf-8"))
        wanted += [
            *project["build-system"]["requires"],
            *project["project"]["dependencies"],
            *(name for extra in project["project"]["optional-dependencies"].values() for name in extra),
        ]
    assert {canonical(re.split(r"[<>=~! \[]", name)[0]) for name in wanted} - pinned == {"zmflow"}


def canonical(name: str) -> str:
    """The name of a distribution as packaging compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
