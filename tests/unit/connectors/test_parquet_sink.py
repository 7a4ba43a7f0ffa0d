"""Parquet parts: what is in them, and what is said where it cannot be written."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from pyarrow import parquet

from zmflow.connectors import ParquetFileSink, RollingPolicy
from zmflow.errors import ConnectorError
from zmflow.testing.sink_run import SinkRun


@dataclass
class Sale:
    """A record with fields."""

    city: str
    amount: int


class Point(msgspec.Struct):
    """A record with fields."""

    x: int


def test_rows_of_every_kind_are_written(tmp_path: Path) -> None:
    """The columns are those of the first records."""
    for name, records in {
        "mappings": [{"city": "Bern", "amount": 1}, {"city": "Zug", "amount": None}],
        "dataclasses": [Sale("Bern", 1), Sale("Zug", 2)],
        "structs": [Point(1), Point(2)],
    }.items():
        run = SinkRun(ParquetFileSink[Any](tmp_path / name), checkpoints=False)
        run.write(records)
        run.finish()
    assert parquet.read_table(tmp_path / "mappings" / "part-0.parquet").to_pylist() == [
        {"city": "Bern", "amount": 1},
        {"city": "Zug", "amount": None},
    ]
    assert parquet.read_table(tmp_path / "dataclasses").to_pylist()[1] == {"city": "Zug", "amount": 2}
    assert parquet.read_table(tmp_path / "structs").to_pylist() == [{"x": 1}, {"x": 2}]


def test_groups_and_compression_are_the_programs_choice(tmp_path: Path) -> None:
    """So are the types of the columns."""
    schema = pa.schema([("x", pa.int8())])
    sink = ParquetFileSink[Any](tmp_path, schema, compression="zstd", row_group_size=4)
    run = SinkRun(sink, checkpoints=False)
    run.write([Point(number) for number in range(3)])
    run.write([Point(number) for number in range(3, 10)])
    run.finish()
    metadata = parquet.read_metadata(tmp_path / "part-0.parquet")
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [4, 4, 2]
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    assert parquet.read_schema(tmp_path / "part-0.parquet").field("x").type == pa.int8()


def test_an_empty_part_needs_a_schema(tmp_path: Path) -> None:
    """Without one, a subtask without records writes none."""
    SinkRun(ParquetFileSink[Any](tmp_path / "a"), checkpoints=False).finish()
    assert list((tmp_path / "a").iterdir()) == []
    SinkRun(ParquetFileSink[Any](tmp_path / "b", pa.schema([("x", pa.int8())])), checkpoints=False).finish()
    assert parquet.read_table(tmp_path / "b" / "part-0.parquet").num_rows == 0


def test_records_that_cannot_be_written(tmp_path: Path) -> None:
    """The reason is named; nothing is left."""
    for records, reason in [([1], "it is a int"), ([{"x": 1}, {"x": "a"}], "as Parquet")]:
        run = SinkRun(ParquetFileSink[Any](tmp_path), checkpoints=False)
        with pytest.raises(ConnectorError, match=reason) as caught:
            run.write(records)
            run.finish()
        assert caught.value.hint
        run.fail()
    assert list(tmp_path.iterdir()) == []


def test_a_part_is_closed_with_every_checkpoint_whatever_the_policy(tmp_path: Path) -> None:
    """One that is not closed could not be read."""
    sink = ParquetFileSink[Any](tmp_path).with_rolling_policy(RollingPolicy.default_rolling_policy())
    run = SinkRun(sink)
    for number in range(2):
        run.write([Point(number)])
        run.checkpoint()
    assert parquet.read_table(tmp_path).num_rows == 2
    run.finish()


def test_without_pyarrow_the_client_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the job is submitted."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConnectorError, match="need pyarrow") as caught:
        ParquetFileSink[Any](tmp_path).validate()
    assert "zmflow[parquet]" in str(caught.value.hint)
