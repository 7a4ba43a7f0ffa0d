"""Plugins by name: entry points, loaded on use.

A plugin is chosen by name out of a *group* (``zmflow.executors``, ...). Nothing is imported before it is
asked for, and a name that is not there is answered with the names that are.
"""

from __future__ import annotations

from importlib import metadata

from zmflow.errors import ConfigurationError

__all__ = ["load_plugin", "plugin_names", "plugin_packages"]


def plugin_names(group: str) -> list[str]:
    """The names registered in a group, sorted."""
    return sorted({entry.name for entry in metadata.entry_points(group=group)})


def load_plugin(group: str, name: str) -> object:
    """The object a plugin's entry point names.

    Raises:
        ConfigurationError: no such name (the known ones are listed), or its import failed (why).
    """
    for entry in metadata.entry_points(group=group, name=name):
        try:
            return entry.load()
        except ImportError as error:
            package = entry.dist.name if entry.dist is not None else entry.value
            raise ConfigurationError(
                f"The plugin {name!r} of {group} could not be imported.",
                detail=f"{entry.value}: {error}",
                hint=f"Check the installation of {package}.",
            ) from error
    raise ConfigurationError(
        f"There is no plugin {name!r} in {group}.",
        detail="Known: " + (", ".join(plugin_names(group)) or "none") + ".",
        hint="Check the spelling, or install the package that brings it.",
    )


def plugin_packages() -> set[str]:
    """The packages that plugins of all groups are in: whoever runs jobs has them installed.

    >>> "zmflow" in plugin_packages()
    True
    """
    known = metadata.entry_points()
    groups = [group for group in known.groups if group.startswith("zmflow.")]
    return {entry.module.partition(".")[0] for group in groups for entry in known.select(group=group)}
