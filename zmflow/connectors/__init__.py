"""Built-in sources and sinks: files of text, CSV, JSON lines and bytes."""

from zmflow.connectors.file_formats import StreamFormat
from zmflow.connectors.file_sink import CsvFileSink, Encoder, FileSink, JsonLinesFileSink, TextFileSink
from zmflow.connectors.file_source import (
    BinaryFileSource,
    CsvFileSource,
    FileSource,
    FixedSizeRecordSource,
    JsonLinesSource,
    TextFileSource,
)

__all__ = [
    "BinaryFileSource",
    "CsvFileSink",
    "CsvFileSource",
    "Encoder",
    "FileSink",
    "FileSource",
    "FixedSizeRecordSource",
    "JsonLinesFileSink",
    "JsonLinesSource",
    "StreamFormat",
    "TextFileSink",
    "TextFileSource",
]
