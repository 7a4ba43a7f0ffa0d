"""Tables of PostgreSQL as sources and sinks of zmflow."""

from zmflow_connector_postgres.sink import PostgresSink
from zmflow_connector_postgres.source import PostgresSource

__all__ = ["PostgresSink", "PostgresSource"]
