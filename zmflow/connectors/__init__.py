"""Built-in sources and sinks: collections, generated records, files, sockets, ZeroMQ, the screen."""

from zmflow.api.collect import CollectSink
from zmflow.api.collections import CollectionSource, SequenceSource
from zmflow.api.console import PrintSink
from zmflow.connectors.bucket_assigner import (
    BasePathBucketAssigner,
    BucketAssigner,
    DateTimeBucketAssigner,
)
from zmflow.connectors.data_generator_source import DataGeneratorSource
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
from zmflow.connectors.parquet_sink import ParquetFileSink
from zmflow.connectors.part_names import OutputFileConfig
from zmflow.connectors.positioned_source import PositionedSource
from zmflow.connectors.rate_limits import RateLimiterStrategy
from zmflow.connectors.rolling_policy import RollingPolicy
from zmflow.connectors.socket_source import SocketTextSource
from zmflow.connectors.zeromq_source import ZeroMqSource

__all__ = [
    "BasePathBucketAssigner",
    "BinaryFileSource",
    "BucketAssigner",
    "CollectSink",
    "CollectionSource",
    "CsvFileSink",
    "CsvFileSource",
    "DataGeneratorSource",
    "DateTimeBucketAssigner",
    "Encoder",
    "FileSink",
    "FileSource",
    "FixedSizeRecordSource",
    "JsonLinesFileSink",
    "JsonLinesSource",
    "OutputFileConfig",
    "ParquetFileSink",
    "PositionedSource",
    "PrintSink",
    "RateLimiterStrategy",
    "RollingPolicy",
    "SequenceSource",
    "SocketTextSource",
    "StreamFormat",
    "TextFileSink",
    "TextFileSource",
    "ZeroMqSource",
]
