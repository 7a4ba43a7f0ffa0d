"""Plugins by name."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from zmflow.errors import ConfigurationError
from zmflow.plugins import load_plugin, plugin_names

GROUP = "zmflow.test_group"


@pytest.fixture
def broken_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed distribution with one plugin that works and one whose import fails."""
    info = tmp_path / "broken_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\nworks = json:dumps\nbroken = no_such_module_here:x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "broken-plugin"


def test_a_known_name_is_loaded(broken_distribution: str) -> None:
    """The object the entry point names comes back."""
    assert load_plugin(GROUP, "works")("a") == '"a"'  # type: ignore[operator]
    assert plugin_names(GROUP) == ["broken", "works"]


def test_an_unknown_name_is_answered_with_the_known_ones(broken_distribution: str) -> None:
    """The refusal lists what there is."""
    with pytest.raises(ConfigurationError) as caught:
        load_plugin(GROUP, "wroks")
    assert caught.value.detail == "Known: broken, works."


def test_a_failed_import_names_the_cause_and_the_package(broken_distribution: str) -> None:
    """Which module could not be imported, and what to reinstall."""
    with pytest.raises(ConfigurationError) as caught:
        load_plugin(GROUP, "broken")
    assert "no_such_module_here" in str(caught.value.detail)
    assert broken_distribution in str(caught.value.hint)


def test_the_executors_of_zmflow_are_registered() -> None:
    """The installed package brings both ways to run a job."""
    assert {"embedded", "remote"} <= {entry.name for entry in metadata.entry_points(group="zmflow.executors")}
