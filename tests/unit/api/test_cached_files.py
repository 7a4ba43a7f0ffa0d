"""Which files can be registered, and what of them is in the job."""

from __future__ import annotations

from pathlib import Path

import pytest
from submissions import new_environment

from zmflow.api.shipping import JOB_FILES_SIZE_MAX_BYTES
from zmflow.errors import JobGraphError


def test_registered_files_are_in_every_job(tmp_path: Path) -> None:
    """With their names, kinds and flags; the content is that of the submission."""
    (tmp_path / "words.txt").write_text("old")
    (tmp_path / "model").mkdir()
    env, executor = new_environment()
    env.register_cached_file(f"file://{tmp_path}/words.txt", "words", True)
    env.register_cached_file(tmp_path / "model", "model")
    for text in ("first", "second"):
        (tmp_path / "words.txt").write_text(text)
        env.from_sequence(1, 2).print()
        env.execute()
        words, model = executor.graphs[-1].files
        assert (words.name, words.kind, words.file_name, words.executable) == (
            "words",
            "file",
            "words.txt",
            True,
        )
        assert words.content == text.encode()
        assert (model.name, model.kind, model.file_name, model.executable) == (
            "model",
            "directory",
            "model",
            False,
        )
    assert executor.graphs[0].files[0].digest != executor.graphs[1].files[0].digest
    assert executor.graphs[0].files[1] == executor.graphs[1].files[1]


def test_files_that_cannot_be_registered(tmp_path: Path) -> None:
    """What is missing, elsewhere, nameless or named twice is refused at the call."""
    (tmp_path / "a").write_text("")
    env, _ = new_environment()
    env.register_cached_file(tmp_path / "a", "a")
    for path, name, told in (
        (tmp_path / "b", "b", "register as 'b' does not exist"),
        (tmp_path / "a", "a", "'a' is registered already"),
        ("hdfs://host/words", "words", "not on this machine"),
        (tmp_path / "a", "", "takes a name"),
    ):
        with pytest.raises(JobGraphError, match=told):
            env.register_cached_file(path, name)


def test_files_too_large_are_refused_unread(tmp_path: Path) -> None:
    """One at its registration, several at submission; the largest is named with its size."""
    env, _ = new_environment()
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate(JOB_FILES_SIZE_MAX_BYTES + 1)  # nothing is written: nobody could read it fast enough
    with pytest.raises(
        JobGraphError, match="'weights' is too large to travel with a job: 224 MiB"
    ) as refused:
        env.register_cached_file(large, "weights")
    assert refused.value.detail is not None
    assert f"{large}: {JOB_FILES_SIZE_MAX_BYTES + 1} bytes" in refused.value.detail
    with large.open("r+b") as file:
        file.truncate(JOB_FILES_SIZE_MAX_BYTES // 2 + 1)
    (tmp_path / "more").mkdir()
    with (tmp_path / "more" / "part").open("wb") as file:
        file.truncate(JOB_FILES_SIZE_MAX_BYTES // 2)
    env.register_cached_file(large, "weights")
    env.register_cached_file(tmp_path / "more", "more")
    env.from_sequence(1, 2).print()
    with pytest.raises(JobGraphError, match="files of the job are too large") as refused:
        env.execute()
    assert str(large) in str(refused.value.detail)


def test_links_to_directories_are_refused(tmp_path: Path) -> None:
    """They would be left out, or followed for ever; links to files are followed."""
    (tmp_path / "model").mkdir()
    (tmp_path / "weights").write_text("1")
    (tmp_path / "model" / "weights").symlink_to(tmp_path / "weights")
    env, executor = new_environment()
    env.register_cached_file(tmp_path / "model", "model")
    env.from_sequence(1, 2).print()
    env.execute()
    assert executor.graphs[0].files[0].size_bytes > 0
    (tmp_path / "model" / "round").symlink_to(tmp_path / "model")
    env.from_sequence(1, 2).print()
    with pytest.raises(JobGraphError, match="link to another directory"):
        env.execute()
