"""What PyFlink has and zmflow cannot offer, and what to use instead."""

from __future__ import annotations

from zmflow.errors import ConfigurationError

__all__ = ["REFUSED_MODULES", "REFUSED_NAMES", "PyFlinkImportError", "refusal_of_module", "refusal_of_name"]


class PyFlinkImportError(ConfigurationError, ImportError):
    """A program imports something of PyFlink that zmflow does not have; an ``ImportError`` for ``except``."""


_SQL = (
    "Write the query with the DataStream API: map, filter, key_by, window, aggregate. "
    "For SQL over files, read them with a library such as duckdb in a map function or before the job."
)
_CONNECTOR = (
    "Write a source or sink in Python: subclass Source and Sink of zmflow, or SinkFunction for add_sink(). "
    "Files, numbers and collections are built in."
)
_JAVA = "There is no JVM in zmflow: write the class in Python."
_INTERNAL = "It is a part of PyFlink's own machinery, which zmflow does not have."

REFUSED_MODULES: dict[str, str] = {
    "table": _SQL,
    "ml": "Call the library you use for learning from a map or process function.",
    "dataset": "Use the DataStream API in BATCH mode: env.set_runtime_mode(RuntimeExecutionMode.BATCH).",
    "fn_execution": _INTERNAL,
    "gen_protos": _INTERNAL,
    "pyflink_callback_server": _INTERNAL,
    "pyflink_gateway_server": _INTERNAL,
    "shell": "Start a Python shell and import zmflow: environments work there.",
    "testing": "Use zmflow.testing.",
    "datastream.connectors.cassandra": _CONNECTOR,
    "datastream.connectors.dynamic_kafka": _CONNECTOR,
    "datastream.connectors.elasticsearch": _CONNECTOR,
    "datastream.connectors.hybrid_source": _CONNECTOR,
    "datastream.connectors.jdbc": _CONNECTOR,
    "datastream.connectors.kafka": _CONNECTOR,
    "datastream.connectors.kinesis": _CONNECTOR,
    "datastream.connectors.pulsar": _CONNECTOR,
    "datastream.connectors.rabbitmq": _CONNECTOR,
    "datastream.formats.avro": _CONNECTOR,
    "datastream.formats.orc": _CONNECTOR,
    "datastream.formats.parquet": _CONNECTOR,
}
"""Modules that raise when they are imported, and the hint they raise with. So do the modules below them."""

REFUSED_NAMES: dict[str, str] = {
    "AssignerWithPeriodicWatermarksWrapper": "Use WatermarkStrategy.",
    "AsyncFunctionDescriptor": _INTERNAL,
    "BulkFormat": _CONNECTOR,
    "BulkWriterFactory": _CONNECTOR,
    "ConfigOption": "Use the key: configuration.set_string(key, value).",
    "ConfigOptions": "Use the key: configuration.set_string(key, value).",
    "CsvBulkWriters": "Use CsvFileSink of zmflow.connectors.",
    "CsvReaderFormat": "Use CsvFileSource of zmflow.connectors.",
    "CsvRowDeserializationSchema": "Use CsvFileSource of zmflow.connectors.",
    "CsvRowSerializationSchema": "Use CsvFileSink of zmflow.connectors.",
    "CsvSchema": "Use CsvFileSource of zmflow.connectors.",
    "CsvSchemaBuilder": "Use CsvFileSource of zmflow.connectors.",
    "CustomCheckpointStorage": _JAVA,
    "CustomStateBackend": _JAVA,
    "FileCompactStrategy": "Parts are not compacted: let a rolling policy make them larger.",
    "FileCompactor": "Parts are not compacted: let a rolling policy make them larger.",
    "FileEnumeratorProvider": _JAVA,
    "FileSplitAssignerProvider": _JAVA,
    "InputFormat": _JAVA,
    "JavaObjectWrapper": _JAVA,
    "OperatorStateStore": "Use broadcast state, or keyed state: there are no checkpoints yet.",
    "SourceFunction": "It wraps a Java object: use from_source() with a Source written in Python.",
    "StreamTransformer": _JAVA,
    "StreamingFileSink": "Use FileSink.",
    "SupportsPreprocessing": _JAVA,
    "TypeSerializer": "Records are pickled; declare types with Types where their width matters.",
}
"""Names in modules that are offered otherwise, and the hint that importing them raises."""


def refusal_of_module(path: str) -> PyFlinkImportError | None:
    """The error of importing a module, given without ``pyflink.``; None where nothing is refused."""
    parts = path.split(".")
    for length in range(1, len(parts) + 1):
        hint = REFUSED_MODULES.get(".".join(parts[:length]))
        if hint is not None:
            what = "PyFlink's Table and SQL API" if parts[0] == "table" else f"The module pyflink.{path}"
            return PyFlinkImportError(f"{what} cannot be used with zmflow.", hint=hint)
    return None


def refusal_of_name(module: str, name: str) -> PyFlinkImportError:
    """The error of importing a name that the table lists and zmflow does not have."""
    hint = REFUSED_NAMES.get(name, "It is not a part of this version of zmflow.")
    where = f"pyflink.{module}" if module else "pyflink"
    return PyFlinkImportError(f"The name {name} of {where} cannot be used with zmflow.", hint=hint)
