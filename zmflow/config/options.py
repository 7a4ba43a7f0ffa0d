"""The one table of settings. Keys are Flink's where Flink has the setting."""

from __future__ import annotations

import difflib
from typing import Any

from zmflow.config import checkpoint_options
from zmflow.config.option import Option, boolean, choice, duration, integer, number, resources, size, text
from zmflow.errors import ConfigurationError

__all__ = [
    "AUTO_WATERMARK_INTERVAL",
    "BACKOFF_ATTEMPTS",
    "BACKOFF_INITIAL",
    "BACKOFF_JITTER",
    "BACKOFF_MAX",
    "BACKOFF_MULTIPLIER",
    "BACKOFF_RESET",
    "BUFFERS_PER_CHANNEL",
    "BUFFER_TIMEOUT",
    "CLIENT_TIMEOUT",
    "COMPRESSION_CODEC",
    "CONSUMER_WEIGHTS",
    "CPU_CORES",
    "CURVE_KEY_FILE",
    "EXECUTION_TARGET",
    "EXTERNAL_RESOURCES",
    "FAILOVER_STRATEGY",
    "FAILURE_RATE_DELAY",
    "FAILURE_RATE_INTERVAL",
    "FAILURE_RATE_MAX",
    "FIXED_DELAY",
    "FIXED_DELAY_ATTEMPTS",
    "FLOATING_BUFFERS_PER_GATE",
    "FLOATING_BUFFERS_PER_PARTITION",
    "HEARTBEAT_INTERVAL",
    "HEARTBEAT_LATE",
    "HEARTBEAT_TIMEOUT",
    "JOBMANAGER_ADDRESS",
    "JOBMANAGER_BIND_HOST",
    "JOBMANAGER_PORT",
    "JOB_NAME",
    "JOB_PARAMETERS",
    "JOB_PRIORITY",
    "JOB_SLOTS_MAX",
    "LOAD_BALANCE_MODE",
    "LOG_DIR",
    "LOG_LEVEL",
    "MANAGED_MEMORY",
    "MAX_BUFFERS_PER_CHANNEL",
    "MAX_PARALLELISM",
    "MIN_PARALLELISM",
    "MIN_PARALLELISM_INCREASE",
    "OPERATOR_CHAINING",
    "OPTIONS",
    "PARALLELISM_DEFAULT",
    "PROCESS_MEMORY",
    "PYTHON_FILES",
    "REGISTRATION_TIMEOUT",
    "RESCALE_COOLDOWN",
    "RESCALE_STABILIZATION",
    "RESOURCE_STABILIZATION",
    "RESOURCE_WAIT_TIMEOUT",
    "RESTART_STRATEGY",
    "RUNTIME_MODE",
    "RUN_DIR",
    "SCHEDULER",
    "SEGMENT_SIZE",
    "SLOT_IDLE_TIMEOUT",
    "SLOT_MEMORY_LIMIT",
    "SLOT_OFFER_TIMEOUT",
    "SLOT_REQUEST_TIMEOUT",
    "STATE_BACKEND",
    "TASKMANAGER_BIND_HOST",
    "TASKMANAGER_HOST",
    "TASK_CANCELLATION_TIMEOUT",
    "TASK_SLOTS",
    "WORKER_START_TIMEOUT",
    "option_for",
]

# -- jobs -----------------------------------------------------------------------------------------
PARALLELISM_DEFAULT = integer(
    "parallelism.default",
    "0",
    "Parallelism of operators that set none; 0 is the CPU cores (embedded) or 1 (cluster).",
    most=32768,
)
MAX_PARALLELISM = integer(
    "pipeline.max-parallelism",
    "0",
    "Key groups of operators that set none; 0 derives it from the parallelism (128 to 32768).",
    most=32768,
)
OPERATOR_CHAINING = boolean("pipeline.operator-chaining.enabled", "true", "Fuse operators into chains.")
JOB_NAME = text("pipeline.name", "zmflow job", "Name of jobs whose execute() gives none.")
JOB_PARAMETERS = text(
    "pipeline.global-job-parameters", "", "What functions read with get_job_parameter(): a:1,b:'x,y'."
)
RUNTIME_MODE = choice(
    "execution.runtime-mode",
    "STREAMING",
    "STREAMING emits every update of a keyed aggregate, BATCH the last one of each key, of sources that end; "
    "AUTOMATIC is BATCH where all sources end.",
    ("STREAMING", "BATCH", "AUTOMATIC"),
)
BUFFER_TIMEOUT = duration(
    "execution.buffer-timeout.interval",
    "100 ms",
    "Longest time a record waits in a frame that is not full; 0 sends every record, -1 only full frames.",
)
AUTO_WATERMARK_INTERVAL = duration(
    "pipeline.auto-watermark-interval",
    "200 ms",
    "How often watermarks are emitted, where event time has moved; 0: not periodically.",
)
EXECUTION_TARGET = choice(
    "execution.target",
    "auto",
    "Where jobs run: embedded, remote, or auto: remote when jobmanager.rpc.address is set.",
    ("auto", "embedded", "remote"),
)
PYTHON_FILES = text(
    "python.files", "", "Modules, packages and zip archives to ship with jobs, comma separated."
)
TASK_CANCELLATION_TIMEOUT = duration(
    "task.cancellation.timeout",
    "5 s",
    "How long a cancelled task may take before its worker is killed. Flink waits 180 s because a kill "
    "takes the whole TaskManager with it; here it ends one job's slot.",
)
# -- addresses ------------------------------------------------------------------------------------
JOBMANAGER_ADDRESS = text(
    "jobmanager.rpc.address", "", "Host of the JobManager; empty means none is configured."
)
JOBMANAGER_PORT = integer(
    "jobmanager.rpc.port", "6123", "Control port of the JobManager; 0 chooses a free one.", most=65535
)
JOBMANAGER_BIND_HOST = text("jobmanager.bind-host", "127.0.0.1", "Address the JobManager binds.")
TASKMANAGER_HOST = text(
    "taskmanager.host", "", "Name under which others reach this TaskManager; empty: its bind host."
)
TASKMANAGER_BIND_HOST = text(
    "taskmanager.bind-host", "127.0.0.1", "Address the data plane of slot workers binds."
)
CURVE_KEY_FILE = text(
    "security.curve.key-file",
    "",
    "Key file of the cluster, made by 'zmflow keygen'; needed to bind anything but loopback.",
)
# -- slots ----------------------------------------------------------------------------------------
TASK_SLOTS = integer(
    "taskmanager.numberOfTaskSlots",
    "0",
    "Slots a TaskManager offers; 0 is the number of CPU cores.",
    most=4096,
)
LOAD_BALANCE_MODE = choice(
    "taskmanager.load-balance.mode",
    "slots",
    "slots spreads a job's slots over the TaskManagers, tasks evens out their tasks, none fills one "
    "TaskManager before the next.",
    ("slots", "tasks", "none"),
)
SLOT_REQUEST_TIMEOUT = duration(
    "slot.request.timeout", "5 min", "How long a job waits for the slots it needs before it fails."
)
SLOT_IDLE_TIMEOUT = duration(
    "slot.idle.timeout", "50 s", "How long a job keeps a slot it has no task for before it gives it back."
)
SLOT_OFFER_TIMEOUT = duration(
    "taskmanager.slot.timeout",
    "10 s",
    "How long a TaskManager waits until the job takes a slot it was offered.",
)
JOB_SLOTS_MAX = integer(
    "slotmanager.number-of-slots-per-job.max", "0", "Most slots one job may hold; 0 sets no limit."
)
JOB_PRIORITY = integer(
    "job.priority",
    "0",
    "Jobs of a higher priority get free slots first; among equals, who came first.",
    least=-1000,
    most=1000,
)
# -- resources of a TaskManager -------------------------------------------------------------------
CPU_CORES = number(
    "taskmanager.cpu.cores", "0", "CPU cores a TaskManager has for slots; 0: all.", least=0, most=65536
)
PROCESS_MEMORY = size(
    "taskmanager.memory.process.size",
    "0",
    "Memory a TaskManager has for its slots; 0: what the machine has.",
)
MANAGED_MEMORY = size(
    "taskmanager.memory.managed.size",
    "0",
    "Part of that memory for state backends and operators, divided among the slots; 0: 40 % of it.",
)
CONSUMER_WEIGHTS = resources(
    "taskmanager.memory.managed.consumer-weights",
    "OPERATOR:70, STATE_BACKEND:70",
    "How a slot's managed memory is divided among the uses its tasks have for it.",
)
SLOT_MEMORY_LIMIT = size(
    "taskmanager.memory.slot-limit",
    "0",
    "Most memory the worker of one slot may use before it is ended; 0: no limit.",
)
EXTERNAL_RESOURCES = resources(
    "taskmanager.external-resources", "", "Named resources of a TaskManager with amounts: gpu:2, fpga:1."
)
# -- who is there ---------------------------------------------------------------------------------
HEARTBEAT_INTERVAL = duration("heartbeat.interval", "1 s", "Time between heartbeats.")
HEARTBEAT_TIMEOUT = duration(
    "heartbeat.timeout", "5 s", "Silence after which a TaskManager or JobManager is gone."
)
WORKER_START_TIMEOUT = duration(
    "taskmanager.worker.start-timeout", "30 s", "How long a slot worker may take to start."
)
HEARTBEAT_LATE = duration(
    "heartbeat.late",
    "2500 ms",
    "Silence after which a TaskManager is late: it keeps its tasks and gets no new slots.",
)
REGISTRATION_TIMEOUT = duration(
    "taskmanager.registration.timeout",
    "5 min",
    "How long a TaskManager tries to register before it gives up; -1: for ever.",
)
# -- failure --------------------------------------------------------------------------------------
FAILOVER_STRATEGY = choice(
    "jobmanager.execution.failover-strategy",
    "region",
    "region restarts the tasks that are connected to the failed one, full restarts all tasks.",
    ("region", "full"),
)
RESTART_STRATEGY = choice(
    "restart-strategy.type",
    "auto",
    "What follows a failure. auto: exponential-delay when checkpoints are on, else none.",
    ("auto", "none", "fixed-delay", "exponential-delay", "failure-rate"),
)
FIXED_DELAY_ATTEMPTS = integer("restart-strategy.fixed-delay.attempts", "1", "Restarts before the job fails.")
FIXED_DELAY = duration("restart-strategy.fixed-delay.delay", "1 s", "Wait before each restart.")
BACKOFF_INITIAL = duration(
    "restart-strategy.exponential-delay.initial-backoff", "1 s", "Wait before the first restart."
)
BACKOFF_MAX = duration(
    "restart-strategy.exponential-delay.max-backoff", "1 min", "Longest wait before a restart."
)
BACKOFF_MULTIPLIER = number(
    "restart-strategy.exponential-delay.backoff-multiplier",
    "1.5",
    "Factor from one wait to the next.",
    least=1,
    most=100,
)
BACKOFF_JITTER = number(
    "restart-strategy.exponential-delay.jitter-factor",
    "0.1",
    "Part of the wait that is drawn, so that jobs do not restart in step.",
    least=0,
    most=1,
)
BACKOFF_RESET = duration(
    "restart-strategy.exponential-delay.reset-backoff-threshold",
    "1 h",
    "Quiet after which the wait starts from the initial one again.",
)
BACKOFF_ATTEMPTS = integer(
    "restart-strategy.exponential-delay.attempts-before-reset-backoff",
    "0",
    "Restarts without that quiet before the job fails; 0: any number.",
)
FAILURE_RATE_MAX = integer(
    "restart-strategy.failure-rate.max-failures-per-interval",
    "1",
    "Failures in an interval before the job fails.",
)
FAILURE_RATE_INTERVAL = duration(
    "restart-strategy.failure-rate.failure-rate-interval", "1 min", "The interval in which failures count."
)
FAILURE_RATE_DELAY = duration("restart-strategy.failure-rate.delay", "1 s", "Wait before each restart.")
# -- scheduler ------------------------------------------------------------------------------------
SCHEDULER = choice(
    "jobmanager.scheduler",
    "default",
    "default waits for all slots, adaptive runs with the slots there are and scales when they change.",
    ("default", "adaptive"),
)
MIN_PARALLELISM = integer(
    "jobmanager.adaptive-scheduler.min-parallelism",
    "1",
    "Parallelism below which the adaptive scheduler waits rather than starts.",
    least=1,
    most=32768,
)
RESOURCE_WAIT_TIMEOUT = duration(
    "jobmanager.adaptive-scheduler.submission.resource-wait-timeout",
    "5 min",
    "How long the adaptive scheduler waits for the slots of the minimum parallelism; -1: for ever.",
)
RESOURCE_STABILIZATION = duration(
    "jobmanager.adaptive-scheduler.submission.resource-stabilization-timeout",
    "10 s",
    "How long it waits for more slots once there are enough for the minimum.",
)
RESCALE_COOLDOWN = duration(
    "jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling",
    "30 s",
    "Least time between two changes of parallelism.",
)
RESCALE_STABILIZATION = duration(
    "jobmanager.adaptive-scheduler.executing.resource-stabilization-timeout",
    "60 s",
    "How long it waits for more slots before it scales up by less than the job could use.",
)
MIN_PARALLELISM_INCREASE = integer(
    "jobmanager.adaptive-scheduler.min-parallelism-increase",
    "1",
    "Least gain in parallelism that is worth a restart.",
    least=1,
)
# -- state ----------------------------------------------------------------------------------------
STATE_BACKEND = text(
    "state.backend.type",
    "hashmap",
    "Where keyed state lives: hashmap is the memory of the worker; others are plugins, by name.",
)
# -- data plane -----------------------------------------------------------------------------------
SEGMENT_SIZE = size("taskmanager.memory.segment-size", "32 KiB", "Size at which a frame is full.")
BUFFERS_PER_CHANNEL = integer(
    "taskmanager.network.memory.buffers-per-channel",
    "2",
    "Exclusive credits of each channel.",
    least=1,
    most=1024,
)
FLOATING_BUFFERS_PER_GATE = integer(
    "taskmanager.network.memory.floating-buffers-per-gate",
    "62",
    "Credits the channels of a gate share by backlog. Flink has 8; with 62 a busy channel sends eight "
    "frames at once, which doubles its rate.",
    most=65536,
)
MAX_BUFFERS_PER_CHANNEL = integer(
    "taskmanager.network.memory.max-buffers-per-channel",
    "10",
    "Frames a producer may have waiting for one consumer, whatever the number of consumers.",
    least=1,
    most=65536,
)
FLOATING_BUFFERS_PER_PARTITION = integer(
    "taskmanager.network.memory.floating-buffers-per-partition",
    "54",
    "Further waiting frames of a result partition, divided equally among its consumers.",
    most=65536,
)
COMPRESSION_CODEC = choice(
    "taskmanager.network.compression.codec",
    "auto",
    "auto compresses on tcp and not on ipc; lz4 compresses always; none never.",
    ("auto", "lz4", "none"),
)
# -- client and files -----------------------------------------------------------------------------
CLIENT_TIMEOUT = duration("client.timeout", "10 s", "How long a client waits for the JobManager.")
LOG_DIR = text(
    "env.log.dir",
    "",
    "Directory of log files; empty: for daemons logs/ in env.run.dir or, without it, in "
    "$XDG_STATE_HOME/zmflow (~/.local/state/zmflow); for the embedded cluster a directory that goes with it.",
)
LOG_LEVEL = choice(
    "env.log.level", "INFO", "Least severe level that is logged.", ("DEBUG", "INFO", "WARNING", "ERROR")
)
RUN_DIR = text("env.run.dir", "", "Directory of sockets, pids and temporary files; empty: a new one in /tmp.")

OPTIONS: dict[str, Option[Any]] = {
    value.key: value
    for value in [*globals().values(), *vars(checkpoint_options).values()]
    if isinstance(value, Option)
}
"""Every setting by its key, in the order of the reference."""


def option_for(key: str, where: str) -> Option[Any]:
    """The option with this key.

    Raises:
        ConfigurationError: there is none; names the place and the closest key.
    """
    option = OPTIONS.get(key)
    if option is not None:
        return option
    close = difflib.get_close_matches(key, OPTIONS, n=1, cutoff=0.5)
    raise ConfigurationError(
        f"There is no setting {key!r}.",
        detail=f"From {where}.",
        hint=(f"Did you mean {close[0]}? " if close else "") + "'zmflow config' lists every setting.",
    )
