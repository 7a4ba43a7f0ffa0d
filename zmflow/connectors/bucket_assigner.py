"""Bucket assigners: into which directory below a file sink's own a record goes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime, tzinfo
from pathlib import PurePosixPath
from typing import Any, Generic, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from zmflow.errors import ConnectorError

__all__ = ["BasePathBucketAssigner", "BucketAssigner", "DateTimeBucketAssigner", "checked_bucket"]

T_contra = TypeVar("T_contra", contravariant=True)

_JAVA_LETTERS = {
    "yyyy": "%Y",
    "uuuu": "%Y",
    "yy": "%y",
    "MM": "%m",
    "dd": "%d",
    "DDD": "%j",
    "HH": "%H",
    "mm": "%M",
    "ss": "%S",
}
"""Letters of Java's date patterns that PyFlink programs write."""


class BucketAssigner(ABC, Generic[T_contra]):
    """Chooses the directory of each record. Must be picklable; one object per subtask.

    >>> class ByCity(BucketAssigner[dict[str, str]]):
    ...     def bucket_id(self, value: dict[str, str], processing_time_ms: int) -> str:
    ...         return "city=" + value["city"]
    >>> ByCity().bucket_id({"city": "Zug"}, 0)
    'city=Zug'
    """

    @abstractmethod
    def bucket_id(self, value: T_contra, processing_time_ms: int) -> str:
        """The directory, relative to the sink's; ``a/b`` for one in another, "" for the sink's own."""

    def bucket_of_all(self, processing_time_ms: int) -> str | None:  # noqa: ARG002 - of the interface
        """The directory of whatever comes at this time; None where it depends on the record.

        Override it where the record does not matter, so that batches are written whole.
        """
        return None

    @staticmethod
    def base_path_bucket_assigner() -> BucketAssigner[Any]:
        """All in the sink's own directory, as PyFlink spells it."""
        return BasePathBucketAssigner()

    @staticmethod
    def date_time_bucket_assigner(
        format_str: str = "yyyy-MM-dd--HH", timezone_id: str | None = None
    ) -> BucketAssigner[Any]:
        """By the hour, or as the pattern says, which is Java's; as PyFlink spells it."""
        return DateTimeBucketAssigner(_python_format(format_str), timezone_id)


class BasePathBucketAssigner(BucketAssigner[Any]):
    """All in the sink's own directory."""

    def bucket_id(self, value: Any, processing_time_ms: int) -> str:  # noqa: ARG002 - of the interface
        return ""

    def bucket_of_all(self, processing_time_ms: int) -> str:  # noqa: ARG002 - of the interface
        return ""


class DateTimeBucketAssigner(BucketAssigner[Any]):
    """A directory for each hour, by the clock of the machine that writes.

    Args:
        format: of ``strftime``.
        timezone: a name like ``Europe/Zurich``; by default that of the machine.

    >>> DateTimeBucketAssigner(timezone="UTC").bucket_of_all(1_700_000_000_000)
    '2023-11-14--22'
    """

    def __init__(self, format: str = "%Y-%m-%d--%H", timezone: str | None = None) -> None:
        self._format = format
        self._timezone = timezone
        self._zone()
        checked_bucket(self.bucket_of_all(0))

    def bucket_id(self, value: Any, processing_time_ms: int) -> str:  # noqa: ARG002 - of the interface
        return self.bucket_of_all(processing_time_ms)

    def bucket_of_all(self, processing_time_ms: int) -> str:
        instant = datetime.fromtimestamp(processing_time_ms / 1000, UTC)
        return instant.astimezone(self._zone()).strftime(self._format)

    def _zone(self) -> tzinfo | None:
        if self._timezone is None:
            return None
        try:
            return ZoneInfo(self._timezone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ConnectorError(
                f"There is no time zone {self._timezone!r}.", hint="Write it like Europe/Zurich, or UTC."
            ) from None


def checked_bucket(bucket: str) -> str:
    """The bucket, unless it leads out of the sink's directory or is hidden.

    Raises:
        ConnectorError: it does.
    """
    if bucket and (
        bucket.startswith("/")
        or "\0" in bucket
        or any(part.startswith(".") for part in PurePosixPath(bucket).parts)
    ):
        raise ConnectorError(
            f"A bucket assigner chose the directory {bucket!r}.",
            hint="Choose a path below the sink's directory, without names that begin with a dot.",
        )
    return bucket


def _python_format(pattern: str) -> str:
    """The format of ``strftime`` for a pattern of Java's DateTimeFormatter."""
    text, position = "", 0
    while position < len(pattern):
        letter = pattern[position]
        end = position + 1
        if letter == "'":
            end = pattern.find("'", position + 1) + 1
            if end == 0:
                raise _unknown(pattern, letter)
            text += (pattern[position + 1 : end - 1] or "'").replace("%", "%%")
        elif letter.isalpha():
            while end < len(pattern) and pattern[end] == letter:
                end += 1
            if pattern[position:end] not in _JAVA_LETTERS:
                raise _unknown(pattern, pattern[position:end])
            text += _JAVA_LETTERS[pattern[position:end]]
        else:
            text += "%%" if letter == "%" else letter
        position = end
    return text


def _unknown(pattern: str, letters: str) -> ConnectorError:
    return ConnectorError(
        f"The date pattern {pattern!r} holds {letters!r}, which is not understood.",
        detail=f"Understood: {', '.join(_JAVA_LETTERS)}, and text in single quotes.",
        hint="Or use zmflow.connectors.DateTimeBucketAssigner, which takes strftime's formats.",
    )
