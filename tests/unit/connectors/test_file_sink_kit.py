"""File sinks in all their variants, held to what every sink that commits must do."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from source_drive import read_all

from zmflow.connectors import (
    BucketAssigner,
    CsvFileSink,
    CsvFileSource,
    DateTimeBucketAssigner,
    FileSink,
    JsonLinesFileSink,
    JsonLinesSource,
    ParquetFileSink,
    RollingPolicy,
    TextFileSink,
    TextFileSource,
)
from zmflow.testing.sink_tests import SinkPlace, SinkTests

ON_CHECKPOINT = RollingPolicy.on_checkpoint_rolling_policy()


class _FileSinkTests(SinkTests):
    """How a directory is looked at."""

    random_runs = 10

    @pytest.fixture
    def new_place(self) -> Iterator[Callable[[], SinkPlace]]:
        # In memory where there is such a place: on a disk, thousands of fsyncs are a minute.
        memory = Path("/dev/shm")
        root = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
        numbers = itertools.count()

        def place() -> SinkPlace:
            directory = root / str(next(numbers))
            return SinkPlace(
                self.sink(directory),
                lambda: [record for path in visible(directory) for record in self.read(path)],
                lambda: [path.name for path in directory.rglob(".*")],
            )

        yield place
        shutil.rmtree(root)

    def sink(self, directory: Path) -> FileSink[Any]:
        """The variant."""
        raise NotImplementedError

    def read(self, path: Path) -> list[Any]:
        """The records of a part."""
        return read_all(TextFileSource(path))


def visible(directory: Path) -> list[Path]:
    """What readers see."""
    return [path for path in directory.rglob("*") if path.is_file() and not path.name.startswith(".")]


class TestParts(_FileSinkTests):
    """Parts that stay open over checkpoints."""

    commits_each_checkpoint = False

    def sink(self, directory: Path) -> FileSink[Any]:
        return TextFileSink(directory)


class TestPartsOfCheckpoints(_FileSinkTests):
    """Parts that are closed with every checkpoint."""

    def sink(self, directory: Path) -> FileSink[Any]:
        return TextFileSink(directory, suffix=".txt").with_rolling_policy(ON_CHECKPOINT)


class TestSmallParts(_FileSinkTests):
    """Parts that are closed by their size and by the clock."""

    commits_each_checkpoint = False

    def sink(self, directory: Path) -> FileSink[Any]:
        policy = RollingPolicy(part_size=12, rollover_interval=500, inactivity_interval=300)
        return TextFileSink(directory).with_rolling_policy(policy).with_bucket_check_interval(100)


class ByLastDigit(BucketAssigner[str]):
    """Two levels of directories."""

    def bucket_id(self, value: str, processing_time_ms: int) -> str:
        return f"digits/{int(value) % 3}"


class TestBuckets(_FileSinkTests):
    """Parts in directories that the records choose."""

    commits_each_checkpoint = False

    def sink(self, directory: Path) -> FileSink[Any]:
        return TextFileSink(directory).with_bucket_assigner(ByLastDigit())


class TestBucketsOfCheckpoints(_FileSinkTests):
    """Parts in directories of the clock, closed with every checkpoint."""

    def sink(self, directory: Path) -> FileSink[Any]:
        minutes = DateTimeBucketAssigner("%H/%M", "UTC")
        return TextFileSink(directory).with_bucket_assigner(minutes).with_rolling_policy(ON_CHECKPOINT)


class TestCsvParts(_FileSinkTests):
    """Parts with a header, which cannot be gone on with."""

    commits_each_checkpoint = False

    def sink(self, directory: Path) -> FileSink[Any]:
        return CsvFileSink(directory)

    def record(self, number: int) -> Any:
        return {"number": str(number)}

    def read(self, path: Path) -> list[Any]:
        return read_all(CsvFileSource(path))


class TestJsonParts(_FileSinkTests):
    """Parts with a JSON value per line."""

    commits_each_checkpoint = False

    def sink(self, directory: Path) -> FileSink[Any]:
        return JsonLinesFileSink(directory)

    def record(self, number: int) -> Any:
        return {"number": number}

    def read(self, path: Path) -> list[Any]:
        return read_all(JsonLinesSource(path))


class TestParquetParts(_FileSinkTests):
    """Parts that can be read only when they are closed."""

    random_runs = 5

    def sink(self, directory: Path) -> FileSink[Any]:
        return ParquetFileSink(directory)

    def record(self, number: int) -> Any:
        return {"number": number}

    def read(self, path: Path) -> list[Any]:
        from pyarrow import parquet

        return list(parquet.read_table(path).to_pylist())
