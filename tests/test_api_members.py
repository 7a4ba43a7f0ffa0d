"""API.md says which members of PyFlink's DataStream API zmflow has; here the page is held against the code.

A page that is written by hand goes stale in both directions: a member that is announced may be missing, and
one that is said to be missing may have been built since. Both fail here, under the name of the class.
"""

from __future__ import annotations

import inspect
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import zmflow
from zmflow.api.notices import forget_notices
from zmflow.compat.pyflink.names import MODULES, value_of
from zmflow.errors import JobGraphError

PAGE = (Path(__file__).parent.parent / "API.md").read_text(encoding="utf-8")
TABLE = "| Member | Offered | Why not / note |\n|---|---|---|\n"
PRESENT = {"yes", "accepted", "refused"}


@dataclass(frozen=True)
class Section:
    """What the page says of one class under one heading."""

    owner: str
    module: str | None
    suffix: str
    rows: tuple[tuple[tuple[str, ...], str, str], ...]

    @property
    def title(self) -> str:
        """The name of the class as pytest shows it."""
        return f"{self.owner}{f' of pyflink.{self.module}' if self.module else ''}{self.suffix}"

    def members(self, *statuses: str) -> list[str]:
        """The members with one of these statuses."""
        return [member for members, status, _ in self.rows if status in statuses for member in members]

    def resolve(self) -> object | None:
        """The class, or the package itself; None where zmflow does not have it."""
        if self.module is not None:
            try:
                return value_of(self.module, self.owner)
            except ImportError:
                return None
        found: object | None = zmflow
        for name in self.owner.split(".") if self.owner != "zmflow" else ():
            found = getattr(found, name, None)
        return found


def parse(page: str) -> list[Section]:
    """The sections of a page, one for each class of a heading."""
    sections = []
    for part in re.split(r"^### ", page, flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        matched = re.fullmatch(
            r"(`[^`]+`(?:, `[^`]+`)*)(?: of `pyflink\.([a-z_.]+)`)?( beyond PyFlink)?", heading
        )
        assert matched is not None, heading
        lines = re.findall(r"^\|.*\n", body, flags=re.MULTILINE)
        assert not lines or "".join(lines[:2]) == TABLE, heading
        rows = []
        for line in lines[2:]:
            cells = re.fullmatch(r"\| (`[^`|]+`(?:, `[^`|]+`)*) \| (\w+) \|(.*)\|\n", line)
            assert cells is not None, line
            rows.append((tuple(re.findall("`([^`]+)`", cells[1])), cells[2], cells[3].strip()))
        sections += [
            Section(owner, matched[2], matched[3] or "", tuple(rows))
            for owner in re.findall("`([^`]+)`", matched[1])
        ]
    return sections


SECTIONS = parse(PAGE)
BY_TITLE = {section.title: section for section in SECTIONS}
each_section = pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)


def has(owner: object | None, member: str) -> bool:
    """Whether a class has a member: an attribute, or a field that only its annotation announces."""
    if owner is None:
        return False
    classes = getattr(owner, "__mro__", ())
    return hasattr(owner, member) or any(member in vars(c).get("__annotations__", {}) for c in classes)


def test_the_page_has_sections_and_none_twice() -> None:
    """A slip in a heading would hide a class from the tests below."""
    assert len(SECTIONS) == len(BY_TITLE) > 50
    assert PAGE.count(TABLE) == len(re.findall(r"^\| Member ", PAGE, flags=re.MULTILINE))


@each_section
def test_rows_are_well_formed(section: Section) -> None:
    """A member stands in one row, with one of four words; what is not simply offered says why."""
    every = section.members(*PRESENT, "no")
    assert len(every) == len(set(every)) == sum(len(members) for members, _, _ in section.rows)
    assert [members for members, status, note in section.rows if status != "yes" and not note] == []
    unbuilt = [members for members, status, note in section.rows if status == "yes" and "built yet" in note]
    assert unbuilt == [], "what is offered is built"


@each_section
def test_what_is_offered_is_there(section: Section) -> None:
    """The class can be imported from where the heading says, with every member it is said to have."""
    owner = section.resolve()
    offered = section.members(*PRESENT)
    assert owner is not None or not offered, f"{section.title} cannot be imported"
    assert [member for member in offered if not has(owner, member)] == []


@each_section
def test_what_is_not_offered_is_absent(section: Section) -> None:
    """A member that has been built since must be said to be there."""
    assert [member for member in section.members("no") if has(section.resolve(), member)] == []


@pytest.mark.parametrize("name", zmflow.__all__)
def test_every_public_name_is_on_the_page(name: str) -> None:
    """A class of PyFlink's has a section of its own, every other name is listed for the package."""
    counterpart = isinstance(getattr(zmflow, name), type) and any(name in names for names in MODULES.values())
    sections = {section.owner for section in SECTIONS if section.module is None}
    assert name in (sections if counterpart else BY_TITLE["zmflow"].members("yes"))


# -- what calls do ------------------------------------------------------------------------------------

ARGUMENTS: dict[str, Any] = {
    "int": 5,
    "bool": True,
    "str": "x",
    "TimeAmount": zmflow.Duration.of_seconds(5),
    "Mapping[str, object]": {},
    "CheckpointingMode": zmflow.CheckpointingMode.AT_LEAST_ONCE,
    "ExternalizedCheckpointRetention": zmflow.ExternalizedCheckpointRetention.RETAIN_ON_CANCELLATION,
}
"""Something to pass, by the annotation of a parameter."""


def call(owner: object, member: str) -> None:
    """Call a member with something for each parameter that has no default."""
    method = getattr(owner, member)
    parameters = inspect.signature(method).parameters.values()
    method(
        *[
            ARGUMENTS.get(str(parameter.annotation), "x")
            for parameter in parameters
            if parameter.default is parameter.empty
            and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.VAR_POSITIONAL)
        ]
    )


def warns(owner: object, member: str) -> bool:
    """Whether a call tells the program something."""
    forget_notices()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(owner, member)
    forget_notices()
    return bool(caught)


def environment() -> zmflow.StreamExecutionEnvironment:
    """A new environment, whose settings no other test shares."""
    return zmflow.StreamExecutionEnvironment.get_execution_environment()


@pytest.mark.parametrize("title", ["CheckpointConfig", "ExecutionConfig"])
def test_settings_without_effect_say_so_and_the_others_do_not(title: str) -> None:
    """``accepted`` is as exact as ``yes``: it goes when a setting gets its effect."""
    section = BY_TITLE[title]
    for member in section.members("yes", "accepted"):
        if not callable(getattr(section.resolve(), member)):
            continue
        owner = (
            environment().get_config()
            if title == "ExecutionConfig"
            else environment().get_checkpoint_config()
        )
        assert warns(owner, member) == (member in section.members("accepted")), member


@pytest.mark.parametrize("member", BY_TITLE["StreamExecutionEnvironment"].members("accepted"))
def test_calls_of_an_environment_without_effect_say_so(member: str) -> None:
    """A program learns that what it asked for does not happen."""
    assert warns(environment(), member)


@pytest.mark.parametrize("member", BY_TITLE["WatermarkStrategy"].members("yes", "accepted"))
def test_strategies_without_effect_say_so_and_the_others_do_not(member: str) -> None:
    """A strategy is a value: it is the stream given one that says what will not happen."""
    strategy: Any = zmflow.WatermarkStrategy.no_watermarks()
    arguments: dict[str, tuple[Any, ...]] = {
        "with_watermark_alignment": ("group", zmflow.Duration.of_seconds(1)),
        "with_idleness": (zmflow.Duration.of_seconds(1),),
        "for_bounded_out_of_orderness": (zmflow.Duration.of_seconds(1),),
        "with_timestamp_assigner": (lambda value, _: value,),
    }
    forget_notices()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        chosen = getattr(strategy, member)(*arguments.get(member, ()))
        environment().from_collection([1]).assign_timestamps_and_watermarks(chosen)
    forget_notices()
    assert bool(caught) == (member in BY_TITLE["WatermarkStrategy"].members("accepted"))


def test_nothing_else_is_accepted() -> None:
    """Only classes whose notices are tested above may have members without effect."""
    assert {section.title for section in SECTIONS if section.members("accepted")} <= {
        "CheckpointConfig",
        "ExecutionConfig",
        "StreamExecutionEnvironment",
        "WatermarkStrategy",
    }


@pytest.mark.parametrize("member", BY_TITLE["KeyedStream"].members("refused"))
def test_a_keyed_stream_refuses(member: str) -> None:
    """What is ``refused`` raises an error that names the call."""
    keyed = environment().from_collection([1, 2]).key_by(lambda value: value)
    with pytest.raises(JobGraphError, match=re.escape(f"{member}()")) as raised:
        call(keyed, member)
    assert "key_by()" in str(raised.value)
