"""The shells of checkpoints: snapshots of tasks, written and read back, and the metadata."""
