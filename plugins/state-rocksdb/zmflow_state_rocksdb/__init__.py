"""Keyed state of zmflow in RocksDB: ``state.backend.type: rocksdb``."""

from zmflow_state_rocksdb.backend import RocksDBKeyedStateBackend

__all__ = ["RocksDBKeyedStateBackend"]
