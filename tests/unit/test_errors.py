"""The tree of errors: what each prints, its exit code, and its way across process borders."""

from __future__ import annotations

import pickle
import re

import pytest

from zmflow import errors
from zmflow.errors import ZmflowError

KINDS = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_crosses_a_process_border_unchanged(kind: type[ZmflowError]) -> None:
    """Pickling keeps the class and the three parts."""
    copy = pickle.loads(pickle.dumps(kind("It failed.", detail="This one.", hint="Do that.")))
    assert (kind, "It failed.", "This one.", "Do that.") == (type(copy), copy.message, copy.detail, copy.hint)


def test_parts_that_are_missing_leave_no_empty_lines() -> None:
    """An error with only a message prints as one line."""
    assert str(ZmflowError("It failed.")) == "It failed."
    assert str(ZmflowError("It failed.", hint="Do that.")) == "It failed.\nHint: Do that."


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """The drawing at the top of the module names every class, and the exit code where one is given."""
    drawn = dict(re.findall(r"(\w+Error)(?: +(\d))?$", errors.__doc__ or "", flags=re.MULTILINE))
    drawn |= dict(re.findall(r"(\w+Error) +(\d)", errors.__doc__ or ""))
    assert set(errors.__all__) == set(drawn)
    assert {name: int(code) for name, code in drawn.items() if code} == {
        name: getattr(errors, name).exit_code for name, code in drawn.items() if code
    }
