"""Structs of the program itself cannot travel by value: it is said, not found out from wrong records."""

from __future__ import annotations

import msgspec
import pytest

from zmflow.api.chain_pickler import pickled_with_classes
from zmflow.protocol.versions import Versions


def test_a_struct_of_the_program_is_refused() -> None:
    """It would arrive without its fields."""

    class Point(msgspec.Struct):
        x: int

    with pytest.raises(Exception, match=r"Point.*cannot travel.*dataclass"):
        pickled_with_classes(lambda value: Point(value), ["__main__"])


def test_an_installed_struct_goes_by_reference() -> None:
    """What the worker can import needs no pickling."""
    data, _ = pickled_with_classes(lambda: Versions, ["__main__"])
    assert b"Versions" in data
