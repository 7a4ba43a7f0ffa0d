"""Checkpoints of zmflow in object stores: ``s3://``, ``gs://`` and ``az://``."""

from zmflow_checkpoint_obstore.storage import ObjectStoreStorage

__all__ = ["ObjectStoreStorage"]
