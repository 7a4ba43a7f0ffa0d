"""The epoch counter of a JobManager without rivals."""

from __future__ import annotations

from pathlib import Path

import pytest

from zmflow.errors import ConfigurationError
from zmflow.ha.standalone import next_epoch


def test_every_start_takes_the_next_number(tmp_path: Path):
    """Epochs begin at 1, grow by one, and the directory is made when it is missing."""
    assert [next_epoch(tmp_path / "new") for _ in range(3)] == [1, 2, 3]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["epoch"]


@pytest.mark.parametrize("content", [b"", b"-1", b"0", b"seven", b"1.5", b"\xff\xfe", b"9" * 17, b"1" * 1000])
def test_a_file_that_holds_something_else_is_refused_and_kept(tmp_path: Path, content: bytes):
    """An epoch must never go back, so a damaged file is an error that names it, and stays."""
    (tmp_path / "epoch").write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        next_epoch(tmp_path)
    assert str(tmp_path / "epoch") in str(caught.value)
    assert caught.value.hint
    assert (tmp_path / "epoch").read_bytes() == content


def test_a_half_written_number_does_not_count(tmp_path: Path):
    """A crash before the rename leaves the old epoch in place."""
    next_epoch(tmp_path)
    (tmp_path / "epoch.tmp").write_bytes(b"9")
    assert next_epoch(tmp_path) == 2


def test_a_directory_that_is_a_file_is_an_error_with_its_name(tmp_path: Path):
    """Not being able to write is said with the path and what to set."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="could not be written"):
        next_epoch(tmp_path / "file")
