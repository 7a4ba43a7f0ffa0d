"""The settings of checkpoints, savepoints and recovery; ``options`` has them among all others."""

from __future__ import annotations

from zmflow.config.option import boolean, choice, duration, integer, size, text

__all__ = [
    "ALIGNED_TIMEOUT",
    "CHECKPOINTING_MODE",
    "CHECKPOINTS_RETAINED",
    "CHECKPOINT_DIR",
    "CHECKPOINT_INTERVAL",
    "CHECKPOINT_MIN_PAUSE",
    "CHECKPOINT_RETENTION",
    "CHECKPOINT_STORAGE",
    "CHECKPOINT_TIMEOUT",
    "CHECKPOINT_UNALIGNED",
    "CONCURRENT_CHECKPOINTS_MAX",
    "IGNORE_UNCLAIMED_STATE",
    "INCREMENTAL_CHECKPOINTS",
    "INLINE_THRESHOLD",
    "LOCAL_BACKUP",
    "RECOVERY_CLAIM_MODE",
    "RECOVERY_FROM_LOCAL",
    "RECOVERY_PATH",
    "SAVEPOINT_DIR",
    "TOLERABLE_FAILED_CHECKPOINTS",
]

CHECKPOINT_INTERVAL = duration(
    "execution.checkpointing.interval", "-1", "Time from one checkpoint to the next; -1: there are none."
)
CHECKPOINTING_MODE = choice(
    "execution.checkpointing.mode",
    "EXACTLY_ONCE",
    "How often a record counts in state after a failure. AT_LEAST_ONCE never waits for other inputs.",
    ("EXACTLY_ONCE", "AT_LEAST_ONCE"),
)
CHECKPOINT_TIMEOUT = duration(
    "execution.checkpointing.timeout", "10 min", "A checkpoint that takes longer is given up."
)
CHECKPOINT_UNALIGNED = boolean(
    "execution.checkpointing.unaligned.enabled",
    "true",
    "Let barriers overtake records where aligning takes long, so that no checkpoint waits for back-pressure; "
    "exactly once only, and where one checkpoint is under way at a time. Off by default in Flink.",
)
ALIGNED_TIMEOUT = duration(
    "execution.checkpointing.aligned-checkpoint-timeout",
    "5 s",
    "How long a checkpoint may align before its barriers overtake records; 0: they do from its beginning.",
)
CHECKPOINT_MIN_PAUSE = duration(
    "execution.checkpointing.min-pause",
    "0 ms",
    "Least time from the end of a checkpoint to the start of the next.",
)
CONCURRENT_CHECKPOINTS_MAX = integer(
    "execution.checkpointing.max-concurrent-checkpoints",
    "1",
    "How many checkpoints may be under way at once.",
    least=1,
    most=100,
)
TOLERABLE_FAILED_CHECKPOINTS = integer(
    "execution.checkpointing.tolerable-failed-checkpoints",
    "0",
    "How many checkpoints in a row may fail before the job does.",
)
CHECKPOINT_RETENTION = choice(
    "execution.checkpointing.externalized-checkpoint-retention",
    "NO_EXTERNALIZED_CHECKPOINTS",
    "What becomes of the last checkpoints of a job that ends: kept when it fails, kept when it fails or is "
    "cancelled, never kept.",
    ("DELETE_ON_CANCELLATION", "RETAIN_ON_CANCELLATION", "NO_EXTERNALIZED_CHECKPOINTS"),
)
CHECKPOINTS_RETAINED = integer(
    "execution.checkpointing.num-retained", "1", "How many completed checkpoints are kept.", least=1, most=100
)
CHECKPOINT_STORAGE = choice(
    "execution.checkpointing.storage",
    "auto",
    "Where state goes: filesystem is execution.checkpointing.dir; jobmanager is the JobManager's memory; "
    "auto is the first where a directory is set, else the second.",
    ("auto", "jobmanager", "filesystem"),
)
CHECKPOINT_DIR = text(
    "execution.checkpointing.dir",
    "",
    "Directory of checkpoints, as a path or a URL: every machine must reach it.",
)
SAVEPOINT_DIR = text(
    "execution.checkpointing.savepoint-dir", "", "Directory of savepoints that name none, as a path or a URL."
)
INLINE_THRESHOLD = size(
    "execution.checkpointing.data-inline-threshold",
    "20 KiB",
    "State of a subtask that is smaller than this is put into the metadata and makes no file.",
)
INCREMENTAL_CHECKPOINTS = boolean(
    "execution.checkpointing.incremental",
    "false",
    "Write only what has changed since the last checkpoint, where the state backend can (rocksdb), in the "
    "backend's own files. Savepoints are always whole.",
)
LOCAL_BACKUP = boolean(
    "execution.checkpointing.local-backup.enabled",
    "false",
    "Keep a second copy of the newest checkpoint's files on the TaskManager that wrote them.",
)
RECOVERY_FROM_LOCAL = boolean(
    "execution.state-recovery.from-local",
    "false",
    "Restore a task from the copy that its TaskManager keeps, where it is whole, not from the checkpoint.",
)
RECOVERY_PATH = text(
    "execution.state-recovery.path", "", "The checkpoint or savepoint a job begins from; empty: none."
)
RECOVERY_CLAIM_MODE = choice(
    "execution.state-recovery.claim-mode",
    "NO_CLAIM",
    "Whose the files are that a job begins from: NO_CLAIM leaves them alone, CLAIM deletes them like "
    "checkpoints of its own when they are not needed any more.",
    ("NO_CLAIM", "CLAIM"),
)
IGNORE_UNCLAIMED_STATE = boolean(
    "execution.state-recovery.ignore-unclaimed-state",
    "false",
    "Begin although the snapshot holds state of operators that the job has not.",
)
