"""Built-in sources and sinks: collections, numbers, files of text, CSV, JSON and bytes, sockets, screen."""

from zmflow.api.collect import CollectSink
from zmflow.api.collections import CollectionSource, SequenceSource
from zmflow.api.console import PrintSink
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
from zmflow.connectors.socket_source import SocketTextSource

__all__ = [
    "BinaryFileSource",
    "CollectSink",
    "CollectionSource",
    "CsvFileSink",
    "CsvFileSource",
    "Encoder",
    "FileSink",
    "FileSource",
    "FixedSizeRecordSource",
    "JsonLinesFileSink",
    "JsonLinesSource",
    "PrintSink",
    "SequenceSource",
    "SocketTextSource",
    "StreamFormat",
    "TextFileSink",
    "TextFileSource",
]
