"""One message of every kind, every field filled: what the golden bytes and the fuzzer begin from."""

from __future__ import annotations

from zmflow.protocol import messages as m
from zmflow.protocol.checkpoint_statistics import CheckpointRecord, CheckpointSummary, SubtaskSnapshot
from zmflow.protocol.checkpoints import (
    CheckpointBarrier,
    InFlightPart,
    InFlightRestore,
    OperatorRestore,
    SharedFile,
    SnapshotMetrics,
    StateFile,
    SubtaskRestore,
)
from zmflow.protocol.job_files import DropJobFiles, StoreJobFile, named, new_job_file
from zmflow.protocol.messages import ResultPartition, TaskCounters
from zmflow.protocol.metric_samples import MetricSample, VertexMetric
from zmflow.protocol.versions import Versions

__all__ = ["SAMPLES"]

_VERSIONS = Versions(2, "3.11", "0.1.0")
_ENDPOINT = m.DataEndpoint("host-1", "ipc:///run/w", "tcp://10.0.0.1:4000")
_FAILURE = m.TaskFailure("user", "ValueError: bad", "h", "map", "parse", 3, "user tb", "full tb", "look")
_SAMPLE = MetricSample("map", [("cache", ""), ("table", "users")], "hits", "meter", 7, 1.5, 2, 3, 4, "warm")
_COUNTERS = TaskCounters("9f/v1/0/0", 10, 20, 300, 400, 5, 6, [_SAMPLE])
_RESOURCES = m.ResourceProfile(1500, 2**31, 2**29, (("fpga", 1), ("gpu", 2)))
_SUMMARY = m.JobSummary("9f", "word count", "RUNNING", 1_700_000_000_000, 0, 4, 3, 1, 2)
_SUBTASK = m.SubtaskStatus(0, "RUNNING", 0, "h", "tm-1", 1, "a1-1", 10, 20, 300, 400, 5, 6, 1_700_000_000_100)
_METRIC = VertexMetric(
    "map",
    [("cache", ""), ("table", "users")],
    "hits",
    "meter",
    2,
    7,
    1.5,
    2,
    3,
    4,
    2.5,
    [(0, 3), (1, "warm")],
)
_VERTEX = m.VertexStatus(
    "v1", "source → map", ["source", "map"], 1, "default", [_SUBTASK], "cache", [_METRIC]
)
_EXCEPTION = m.ExceptionEntry(
    1_700_000_000_200, _FAILURE, "tm-1", 1, ["source → map"], 2, 4, 1000, [_FAILURE]
)
_SLOT = m.SlotStatus(
    0,
    "9f",
    "a3-1",
    4712,
    "allocated",
    "word count",
    "default",
    ["source → map (1/2)"],
    _RESOURCES,
    1_700_000_000_050,
)
_TASKMANAGER = m.TaskManagerStatus(
    "tm-1",
    "h",
    4711,
    [_SLOT],
    250,
    "late",
    True,
    "waits for 1 slot",
    _RESOURCES,
    m.ResourceProfile(500, 0, 0),
)
_FILE = StateFile("v1-0", 30_000, b"", True, [SharedFile("v1-0-0-9-a-7.sst", 700, True)], "rocksdb", 2**63)
_OPERATOR = OperatorRestore("o1", 2, [_FILE], [StateFile("", 5, b"state"), None], True)
_METRICS = SnapshotMetrics(1, 2, 3, 4, 30_000, 20_000, True, 5)
_CHECKPOINTS = CheckpointSummary(1000, 6, 2, 1, 1, 9, 1_700_000_000_300, 45, 30_000, "it was late", 4)
_RECORD = CheckpointRecord(
    9,
    "checkpoint",
    "COMPLETED",
    1_700_000_000_300,
    45,
    30_000,
    20_000,
    2,
    3,
    4,
    2,
    1,
    "file:///c/9f/chk-9",
    "it was late",
    True,
    [SubtaskSnapshot("v1", "source → map", 1, 40, _METRICS)],
    True,
)
_JOB_FILE = new_job_file("words", "file", b"a b c", file_name="words.txt", executable=True)
_DEPLOYMENT = m.TaskDeployment(
    "9f/v1/0/0",
    "9f",
    "word count",
    "v1",
    "source → map",
    0,
    2,
    128,
    0,
    b"\x80operators",
    [2, 1],
    [ResultPartition("e1", [m.ChannelTarget("9f/v2/0/0", 0, 1, "a1-2", _ENDPOINT)])],
    {"heartbeat.timeout": "2 s"},
    [("job.py", b"x = 1")],
    3,
    {"OPERATOR": 2**28, "STATE_BACKEND": 2**27},
    SubtaskRestore(
        7,
        "file:///c/9f/chk-7",
        [_OPERATOR],
        True,
        b"enumerator",
        [InFlightRestore("e1", [InFlightPart(_FILE, 1, [0, 2])])],
    ),
    [named(_JOB_FILE)],
    True,
)

SAMPLES: list[m.Message] = [
    m.Hello(0, _VERSIONS, "taskmanager", "tm-1"),
    m.Welcome(3, _VERSIONS, "jm"),
    m.Refused(3, 7, "ClusterError", "no", "detail", "hint"),
    m.RegisterTaskManager(3, "tm-1", "h", 4711, 2, _RESOURCES),
    m.TaskManagerRegistered(3, "tm-1", 1000, 5000),
    m.Heartbeat(3, "tm-1", 250),
    m.HeartbeatAck(3, "tm-1", 250),
    m.UnknownTaskManager(3, "tm-1"),
    m.DeregisterTaskManager(3, "tm-1", "it was stopped"),
    m.AllocateSlot(3, "a3-1", 0, "9f", _RESOURCES),
    m.OfferSlot(3, "a3-1", 0, "9f", 4712, _ENDPOINT),
    m.AcceptSlot(3, "a3-1"),
    m.RejectSlot(3, "a3-1", "the job has ended"),
    m.SlotLost(3, "a3-1", 0, "killed by signal 9 (SIGKILL)"),
    m.FreeSlot(3, "a3-1", 0),
    m.SlotFreed(3, "a3-1", 0),
    m.DeployTasks(3, "a3-1", [_DEPLOYMENT]),
    m.CancelTasks(3, "a3-1", ["9f/v1/0/0"], 5000),
    m.TaskStateChanged(3, "a3-1", "9f/v1/0/0", "FAILED", _FAILURE, _COUNTERS, b"accumulators"),
    m.TaskMetrics(3, "a3-1", [_COUNTERS], {"9f/v1/0/0": b"accumulators"}),
    m.OperatorEvent(3, "9f", "v1", 0, 1, -1, b"split?", 2, 3),
    m.CollectedRows(3, "9f", "v2", "c1", 0, 5, b"rows", True, 2, True, (0, 1, 4)),
    m.CollectAck(3, "9f", "v2", "c1", 0, 5),
    m.WorkerReady(3, "a3-1", 4712, _ENDPOINT),
    m.SubmitJob(3, 7, "9f", b"graph"),
    m.JobAccepted(3, 7, "9f"),
    m.WatchJob(3, 7, "9f", True),
    m.CancelJob(3, 7, "9f"),
    m.ListJobs(3, 7),
    m.JobList(3, 7, [_SUMMARY]),
    m.GetJob(3, 7, "9f"),
    m.JobStatus(
        3,
        7,
        _SUMMARY,
        "3 of 4 tasks run",
        [_VERTEX],
        _FAILURE,
        1234,
        [_EXCEPTION],
        ["sources begin anew"],
        [b"accumulators"],
        _CHECKPOINTS,
    ),
    m.GetCluster(3, 7),
    m.ClusterStatus(
        3,
        7,
        "jm",
        1_700_000_000_000,
        [_TASKMANAGER],
        [_SUMMARY],
    ),
    m.DrainTaskManager(3, 7, "tm-1", True),
    m.DrainAccepted(3, 7, ["tm-1"]),
    m.GetLogs(3, 7, "9f", 65536, "00ff"),
    m.LogChunk(3, 7, "9f", "00ff", "tm-1", b"{}\n", 1),
    m.SnapshotCoordinator(3, "9f", "v1", 9, 2),
    m.CoordinatorSnapshot(3, "9f", "v1", 9, 2, b"enumerator", "it cannot be pickled"),
    m.TriggerCheckpoint(
        3, "a3-1", ["9f/v1/0/0"], CheckpointBarrier(9, 1_700_000_000_300, "savepoint", "file:///c/9f/chk-9")
    ),
    m.UnalignCheckpoint(3, "a3-1", CheckpointBarrier(9, 1_700_000_000_300)),
    m.CheckpointAcknowledged(3, "a3-1", "9f/v1/0/0", 9, _FILE, _METRICS, _FILE),
    m.CheckpointDeclined(3, "a3-1", "9f/v1/0/0", 9, "it cannot be written"),
    m.NotifyCheckpoint(3, "a3-1", 9, True),
    m.AwaitsCheckpoint(3, "a3-1", "9f/v1/0/0", 8),
    m.GetCheckpoints(3, 7, "9f", 9),
    m.CheckpointStatistics(3, 7, "9f", _CHECKPOINTS, [_RECORD]),
    StoreJobFile(3, "9f", _JOB_FILE),
    DropJobFiles(3, "9f"),
    m.TriggerSavepoint(3, 7, "9f", "/s", "drain"),
    m.SavepointBegun(3, 7, "9f", 9, "/s/savepoint-9f-01"),
    m.SavepointDone(3, 7, "9f", 9, "/s/savepoint-9f-01", "it was late", False),
    m.RescaleJob(3, 7, "9f", 4),
    m.RescaleDone(3, 7, "9f", 4, "too few slots"),
]
