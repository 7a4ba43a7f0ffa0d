"""The names of part files: final ones, and hidden ones of files that are not committed yet.

A final name is ``part-<subtask><suffix>``, with ``-<number>`` from a subtask's second part on, where the end
of the input commits: a restarted job writes the same names. Where checkpoints commit it is
``part-<subtask>-<unique>-<number><suffix>``: parts of earlier attempts stay, so none must have the same name.

A hidden name is ``.<final name>.inprogress.<job>-<subtask>-<attempt>-<checkpoint>``: who began the file, and
after which checkpoint. That says which files of earlier attempts a restored job does not know.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from zmflow.errors import ConnectorError

__all__ = ["HiddenName", "OutputFileConfig", "OutputFileConfigBuilder"]

_HIDDEN = re.compile(
    r"\.(?P<final>.+)\.inprogress\.(?P<job>[^.-]+)-(?P<subtask>\d+)-(?P<attempt>\d+)-(?P<checkpoint>\d+)"
)
_NUMBERS = r"-(?P<subtask>\d+)(?:(?:-[0-9a-f]{8})?-\d+)?"


@dataclass(frozen=True, slots=True)
class OutputFileConfig:
    """What the names of part files begin and end with.

    >>> OutputFileConfig.builder().with_part_suffix(".txt").build()
    OutputFileConfig(part_prefix='part', part_suffix='.txt')
    """

    part_prefix: str = "part"
    part_suffix: str = ""

    def __post_init__(self) -> None:
        for what, text in (("prefix", self.part_prefix), ("suffix", self.part_suffix)):
            if "/" in text:
                raise ConnectorError(f"The {what} of part files holds a slash: {text!r}.")
        if not self.part_prefix or self.part_prefix.startswith("."):
            raise ConnectorError(
                f"The prefix of part files is {self.part_prefix!r}.",
                hint="Names that begin with a dot are hidden: begin with something else.",
            )

    @staticmethod
    def builder() -> OutputFileConfigBuilder:
        """Choose prefix and suffix, then ``build()``."""
        return OutputFileConfigBuilder()

    def is_part(self, name: str) -> bool:
        """Whether a file is a part of a sink with this prefix and suffix."""
        return self.subtask_of(name) is not None

    def subtask_of(self, name: str, *, any_suffix: bool = False) -> int | None:
        """The subtask that a part is named for; None where it is not a part of such a sink.

        >>> OutputFileConfig(part_suffix=".csv").subtask_of("part-3-12.csv")
        3
        """
        suffix = re.escape(self.part_suffix)
        if any_suffix:
            suffix = rf"(?:{suffix}|(?:\.[\w.]+)?)"
        found = re.fullmatch(re.escape(self.part_prefix) + _NUMBERS + suffix, name)
        return None if found is None else int(found["subtask"])


class OutputFileConfigBuilder:
    """Makes an ``OutputFileConfig``."""

    def __init__(self) -> None:
        self._prefix, self._suffix = "part", ""

    def with_part_prefix(self, prefix: str) -> OutputFileConfigBuilder:
        """What names begin with."""
        self._prefix = prefix
        return self

    def with_part_suffix(self, suffix: str) -> OutputFileConfigBuilder:
        """What names end with."""
        self._suffix = suffix
        return self

    def build(self) -> OutputFileConfig:
        """The configuration."""
        return OutputFileConfig(self._prefix, self._suffix)


@dataclass(frozen=True, slots=True)
class HiddenName:
    """The name of a file that is not committed.

    >>> HiddenName("part-0", "3f2a91c0", 0, 2, 17).text
    '.part-0.inprogress.3f2a91c0-0-2-17'
    """

    final: str
    job: str
    subtask: int
    attempt: int
    checkpoint: int

    @property
    def text(self) -> str:
        """The name as it stands in the directory."""
        return f".{self.final}.inprogress.{self.job}-{self.subtask}-{self.attempt}-{self.checkpoint}"

    @staticmethod
    def parse(text: str) -> HiddenName | None:
        """What a name says; None where it is not one of these."""
        found = _HIDDEN.fullmatch(text)
        if found is None:
            return None
        numbers = (int(found[name]) for name in ("subtask", "attempt", "checkpoint"))
        return HiddenName(found["final"], found["job"], *numbers)
