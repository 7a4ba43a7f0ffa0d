"""Schemas, state backends, restart strategies and Java stubs of PyFlink."""

from __future__ import annotations

import pytest

from zmflow import Row, Types
from zmflow.compat.pyflink import java_stubs, type_classes
from zmflow.compat.pyflink.jobs import CompletableFuture, JobStatus, RestartStrategies
from zmflow.compat.pyflink.refusals import PyFlinkImportError
from zmflow.compat.pyflink.schemas import (
    ByteArraySchema,
    DeserializationSchema,
    JsonRowDeserializationSchema,
    JsonRowSerializationSchema,
    RowFieldExtractorSchema,
    SerializationSchema,
    SimpleStringSchema,
)
from zmflow.compat.pyflink.state_backends import (
    EmbeddedRocksDBStateBackend,
    FileSystemCheckpointStorage,
    JobManagerCheckpointStorage,
    PredefinedOptions,
)
from zmflow.config.options import OPTIONS
from zmflow.errors import ConnectorError

COUNT = Types.ROW_NAMED(["word", "count"], [Types.STRING(), Types.SHORT()])


def test_simple_schemas_go_there_and_back() -> None:
    """Texts in their charset, bytes as they are, a field of a row."""
    latin = SimpleStringSchema("latin-1")
    assert latin.deserialize(latin.serialize("ä")) == "ä"
    assert ByteArraySchema().deserialize(ByteArraySchema().serialize(bytearray(b"a"))) == b"a"
    assert RowFieldExtractorSchema(1).serialize(Row("a", b"b")) == b"b"
    with pytest.raises(ValueError, match="non-negative"):
        RowFieldExtractorSchema(-1)
    for schema, call in ((SerializationSchema(), "serialize"), (DeserializationSchema(), "deserialize")):
        with pytest.raises(NotImplementedError):
            getattr(schema, call)(b"")


def test_json_rows_have_their_declared_type() -> None:
    """Fields are put in order and made to fit; the way back names them."""
    read = JsonRowDeserializationSchema.builder().type_info(COUNT).build()
    row = read.deserialize(b'{"count": 43878, "word": "a"}')
    assert row == Row(word="a", count=-21658)
    write = JsonRowSerializationSchema.builder().with_type_info(COUNT).build()
    assert write.serialize(row) == b'{"word": "a", "count": -21658}'
    assert write.serialize(("a", 1)) == b'{"word": "a", "count": 1}'


def test_json_mistakes_are_errors_or_nothing() -> None:
    """What to do about them is the builder's to say."""
    for wrong in (b"{", b"7", b'{"word": "a", "count": "many"}'):
        with pytest.raises(ConnectorError, match="not a JSON row"):
            JsonRowDeserializationSchema.builder().type_info(COUNT).build().deserialize(wrong)
        lenient = JsonRowDeserializationSchema.builder().type_info(COUNT).ignore_parse_errors().build()
        assert lenient.deserialize(wrong) is None
    strict = JsonRowDeserializationSchema.builder().type_info(COUNT).fail_on_missing_field().build()
    with pytest.raises(ConnectorError, match="no field count"):
        strict.deserialize(b'{"word": "a"}')
    with pytest.raises(ValueError, match="type_info"):
        JsonRowDeserializationSchema.builder().build()


def test_state_backends_and_storages_remember_what_they_are_told() -> None:
    """Defaults are Flink's."""
    backend = EmbeddedRocksDBStateBackend(True)
    assert backend.is_incremental_checkpoints_enabled()
    assert (backend.get_db_storage_paths(), backend.get_options()) == (None, None)
    assert backend.get_predefined_options() is PredefinedOptions.DEFAULT
    backend.set_db_storage_paths("/a", "/b")
    backend.set_predefined_options(PredefinedOptions.FLASH_SSD_OPTIMIZED)
    backend.set_options("Factory")
    backend.set_number_of_transfer_threads(8)
    assert backend.get_db_storage_paths() == ["/a", "/b"]
    assert backend.get_predefined_options() is PredefinedOptions.FLASH_SSD_OPTIMIZED
    assert (backend.get_options(), backend.get_number_of_transfer_threads()) == ("Factory", 8)
    assert JobManagerCheckpointStorage().get_max_state_size() == 5 << 20
    assert JobManagerCheckpointStorage("/m").get_checkpoint_path() == "/m"
    files = FileSystemCheckpointStorage("/c")
    assert files.get_checkpoint_path() == "/c"
    assert (files.get_min_file_size_threshold(), files.get_write_buffer_size()) == (20 << 10, 4 << 10)


@pytest.mark.parametrize(
    "strategy",
    [
        RestartStrategies.no_restart(),
        RestartStrategies.FixedDelayRestartStrategyConfiguration(2, 10),
        RestartStrategies.fall_back_restart(),
        RestartStrategies.fixed_delay_restart(3, 1000),
        RestartStrategies.failure_rate_restart(3, 60_000, 1000),
    ],
)
def test_restart_strategies_are_settings_of_zmflow(strategy: RestartStrategies) -> None:
    """Every key exists and takes the text."""
    for key, text in strategy.settings.items():  # type: ignore[attr-defined]
        OPTIONS[key].read(text, "a test")
        assert key in strategy.get_description()  # type: ignore[attr-defined]


def test_futures_ask_once_and_remember() -> None:
    """The answer or the error stays; cancelling has no meaning."""
    asked: list[int] = []
    future = CompletableFuture(lambda: asked.append(1) or 7)  # type: ignore[func-returns-value]
    assert not future.done()
    assert (future.result(), future.result(), asked) == (7, 7, [1])
    assert future.done()
    assert future.exception() is None
    assert not (future.cancel() or future.cancelled())
    failing = CompletableFuture(lambda: 1 / 0)
    assert isinstance(failing.exception(), ZeroDivisionError)
    assert failing.done()


def test_job_states_know_their_end() -> None:
    """SUSPENDED is an end here, not everywhere."""
    ends = {status for status in JobStatus if status.is_globally_terminal_state()}
    assert ends == {JobStatus.FAILED, JobStatus.CANCELED, JobStatus.FINISHED}
    assert {status for status in JobStatus if status.is_terminal_state()} == ends | {JobStatus.SUSPENDED}


def test_java_is_refused_only_when_it_is_used() -> None:
    """Importing the gateway does no harm; asking it for a JVM says what to do."""
    assert java_stubs.is_launch_gateway_disabled()
    with pytest.raises(PyFlinkImportError, match="no JVM"):
        java_stubs.get_gateway()


def test_stability_markers_leave_things_as_they_are() -> None:
    """They decorate with and without arguments."""

    @java_stubs.PublicEvolving()
    @java_stubs.Deprecated(since="1.0", detail="gone")
    def function() -> int:
        return 7

    assert function() == 7


def test_classes_of_types_make_types() -> None:
    """What a program makes with PyFlink's classes equals what ``Types`` makes."""
    row = type_classes.RowTypeInfo([Types.STRING(), Types.SHORT()], ["word", "count"])
    assert row == COUNT
    assert type_classes.RowTypeInfo([Types.INT()]) == Types.ROW([Types.INT()])
    assert type_classes.TupleTypeInfo([Types.INT()]) == Types.TUPLE([Types.INT()])
    assert type_classes.PickledBytesTypeInfo() == Types.PICKLED_BYTE_ARRAY()
    assert type_classes.BasicTypeInfo.LONG_TYPE_INFO() == Types.LONG()
    assert type_classes.SqlTimeTypeInfo.DATE() == Types.SQL_DATE()
